// From a file to { pixels, width, height }: RGB, upright, on white, as the app decodes it.
const ENOUGH = 512; // pixels of the short side; a larger picture is reduced by a whole factor, as the app does
const MOST = 16e6; // pixels of a canvas on a phone
const EXIF = 0x45786966, ORIENTATION = 0x112;

async function pictureOf(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  return (await jpeg(bytes)) ?? ofBrowser(file);
}

// What the browser itself can decode.
async function ofBrowser(file) {
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", imageOrientation: "from-image" });
  const picture = drawn(bitmap, bitmap.width, bitmap.height);
  bitmap.close();
  return picture;
}

// On white where it is transparent, without its colour profile.
function drawn(source, width, height) {
  const scale = Math.min(1, Math.sqrt(MOST / (width * height)));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(Math.round(width * scale), 1);
  canvas.height = Math.max(Math.round(height * scale), 1);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(source, 0, 0, canvas.width, canvas.height);
  return reduced(context.getImageData(0, 0, canvas.width, canvas.height).data, canvas.width, canvas.height);
}

// The mean of blocks of pixels, as Pillow's Image.reduce. `data` has three or four bytes a pixel.
function reduced(data, width, height) {
  const factor = Math.max(Math.floor(Math.min(width, height) / ENOUGH), 1), bytes = data.length / (width * height);
  const wide = Math.ceil(width / factor), high = Math.ceil(height / factor);
  const pixels = new Uint8Array(wide * high * 3);
  for (let y = 0; y < high; y++) {
    for (let x = 0; x < wide; x++) {
      const right = Math.min((x + 1) * factor, width), end = Math.min((y + 1) * factor, height);
      const count = (right - x * factor) * (end - y * factor);
      let red = 0, green = 0, blue = 0;
      for (let row = y * factor; row < end; row++) {
        for (let i = bytes * (row * width + x * factor), last = bytes * (row * width + right); i < last; i += bytes) {
          red += data[i]; green += data[i + 1]; blue += data[i + 2];
        }
      }
      const to = 3 * (y * wide + x), half = count / 2;
      pixels[to] = (red + half) / count; pixels[to + 1] = (green + half) / count; pixels[to + 2] = (blue + half) / count;
    }
  }
  return { pixels, width: wide, height: high };
}

// A JPEG by libjpeg-turbo, which the app decodes by, too: browsers round differently. Null for what it cannot decode,
// such as CMYK and damaged files. An instance for each picture: its memory grows, and never shrinks.
async function jpeg(bytes) {
  if (bytes[0] !== 0xff || bytes[1] !== 0xd8) return null;
  const none = () => 0, failed = () => { throw new Error("It cannot be decoded."); };
  const system = { environ_sizes_get: none, environ_get: failed, proc_exit: failed, fd_close: failed, fd_seek: failed };
  const imports = { env: { setjmp: none, longjmp: failed }, wasi_snapshot_preview1: { ...system, fd_write: failed } };
  try {
    const turbo = (await WebAssembly.instantiate(await decoder, imports)).exports;
    const file = turbo.malloc(bytes.length), header = turbo.malloc(16), tj = turbo.tjInitDecompress();
    new Uint8Array(turbo.memory.buffer, file, bytes.length).set(bytes);
    if (turbo.tjDecompressHeader3(tj, file, bytes.length, ...[0, 4, 8, 12].map((i) => header + i))) return null;
    let [width, height] = new Int32Array(turbo.memory.buffer, header, 2);
    // It takes an eighth, a quarter or half of the size from the frequencies, as Pillow's `draft`.
    const most = Math.floor(Math.min(width, height) / ENOUGH), part = [8, 4, 2].find((each) => each <= most) ?? 1;
    width = Math.ceil(width / part);
    height = Math.ceil(height / part);
    const to = turbo.malloc(3 * width * height);
    if (!to || turbo.tjDecompress2(tj, file, bytes.length, to, width, 0, height, 0, 0)) return null;
    const data = new Uint8Array(turbo.memory.buffer, to, 3 * width * height);
    return turned(reduced(data, width, height), orientationOf(new DataView(bytes.buffer)));
  } catch {
    return null;
  }
}

// The EXIF tag, from 1 to 8, of a JPEG; 1 without a valid one.
function orientationOf(view) {
  try {
    for (let i = 2; view.getUint16(i) > 0xff00 && view.getUint16(i) !== 0xffda; i += 2 + view.getUint16(i + 2)) {
      if (view.getUint16(i) !== 0xffe1 || view.getUint32(i + 4) !== EXIF) continue;
      const tiff = i + 10, little = view.getUint16(tiff) === 0x4949;
      const table = tiff + view.getUint32(tiff + 4, little), count = view.getUint16(table, little);
      for (let entry = table + 2; entry < table + 2 + 12 * count; entry += 12) {
        if (view.getUint16(entry, little) === ORIENTATION) return view.getUint16(entry + 8, little);
      }
    }
  } catch {} // it ends too early
  return 1;
}

function turned({ pixels, width, height }, orientation) {
  if (!(orientation > 1 && orientation < 9)) return { pixels, width, height };
  const swapped = orientation > 4, right = [2, 3, 7, 8].includes(orientation), bottom = [3, 4, 6, 7].includes(orientation);
  const wide = swapped ? height : width, high = swapped ? width : height;
  const result = new Uint8Array(pixels.length);
  for (let y = 0, to = 0; y < high; y++) {
    for (let x = 0; x < wide; x++, to += 3) {
      const [column, row] = swapped ? [y, x] : [x, y];
      const from = 3 * ((bottom ? height - 1 - row : row) * width + (right ? width - 1 - column : column));
      for (let c = 0; c < 3; c++) result[to + c] = pixels[from + c];
    }
  }
  return { pixels: result, width: wide, height: high };
}
