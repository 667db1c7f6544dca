// A picture in, its classes out: all in this page. `ort` is ONNX Runtime Web; the files are in the page, in base64.
const at = (id) => document.getElementById(id);
const told = JSON.parse(at("told").textContent);
const ENOUGH = 512; // pixels of the short side; a larger picture is reduced by a whole factor, as the app does
const MOST = 16e6; // pixels of a canvas on a phone
const SURE = 0.5; // a class with less is not given as the answer
const VIRIDIS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
let session, answer, stream;

function bytesOf(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const characters = atob(text);
  const bytes = new Uint8Array(characters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = characters.charCodeAt(i);
  return bytes;
}

// A file in the page, which goes from it: a second copy would take as much memory again.
async function unpacked(name) {
  const parts = [...document.querySelectorAll(`script[data-of="${name}"]`)];
  const packed = new ReadableStream({
    pull(controller) {
      const part = parts.shift();
      if (!part) return controller.close();
      controller.enqueue(bytesOf(part.textContent));
      part.remove();
    },
  });
  return new Uint8Array(await new Response(packed.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer());
}

// The mean of blocks of factor x factor pixels, as Pillow's Image.reduce.
function reduced({ data, width, height }, factor) {
  const wide = Math.ceil(width / factor), high = Math.ceil(height / factor);
  const pixels = new Uint8Array(wide * high * 3);
  for (let y = 0; y < high; y++) {
    for (let x = 0; x < wide; x++) {
      const right = Math.min((x + 1) * factor, width), end = Math.min((y + 1) * factor, height);
      const count = (right - x * factor) * (end - y * factor);
      let red = 0, green = 0, blue = 0;
      for (let row = y * factor; row < end; row++) {
        for (let i = 4 * (row * width + x * factor), last = 4 * (row * width + right); i < last; i += 4) {
          red += data[i]; green += data[i + 1]; blue += data[i + 2];
        }
      }
      const to = 3 * (y * wide + x), half = count / 2;
      pixels[to] = (red + half) / count; pixels[to + 1] = (green + half) / count; pixels[to + 2] = (blue + half) / count;
    }
  }
  return { pixels, width: wide, height: high };
}

// Upright, on white where it is transparent, without its colour profile: as the app reads it.
function drawn(source, width, height) {
  const scale = Math.min(1, Math.sqrt(MOST / (width * height)));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(Math.round(width * scale), 1);
  canvas.height = Math.max(Math.round(height * scale), 1);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(source, 0, 0, canvas.width, canvas.height);
  return canvas;
}

async function classify(canvas) {
  const { width, height } = canvas;
  const image = canvas.getContext("2d").getImageData(0, 0, width, height);
  const small = reduced(image, Math.max(Math.floor(Math.min(width, height) / ENOUGH), 1));
  const shape = [1, small.height, small.width, 3];
  const outputs = await session.run({ images: new ort.Tensor("uint8", small.pixels, shape) });
  const found = {};
  for (const [name, tensor] of Object.entries(outputs)) found[name] = { data: tensor.data, dims: tensor.dims };
  return found;
}

function percent(share) {
  const shown = (100 * share).toFixed(1);
  if (shown === "100.0" && share < 1) return "> 99.9 %";
  return shown === "0.0" && share > 0 ? "< 0.1 %" : `${shown} %`;
}

function say(words, small = false) {
  at("said").replaceChildren(...[words].flat());
  at("said").classList.toggle("small", small);
}

function caution(words) {
  at("caution").textContent = words;
  at("caution").hidden = !words;
}

function strong(text) {
  const element = document.createElement("strong");
  element.textContent = text;
  return element;
}

function show(outputs) {
  answer = outputs;
  const names = outputs.top_names.data, shares = outputs.top_probabilities.data;
  const score = outputs.ood_score?.data[0];
  const unusual = score > 1;
  if (unusual) say(`No reliable answer. Closest class: ${names[0]}`, true);
  else say(shares[0] < SURE ? ["Not sure. Perhaps ", strong(names[0])] : strong(names[0]));
  caution(unusual ? told.unusual.replace("{score}", score.toFixed(1)) : "");
  const buttons = [...names].map((name, i) => {
    const button = document.createElement("button");
    button.type = "button";
    button.classList.toggle("doubtful", unusual);
    button.setAttribute("aria-pressed", String(i === 0));
    const bar = document.createElement("i"), label = document.createElement("span"), share = document.createElement("span");
    bar.style.width = `${100 * shares[i]}%`;
    label.textContent = name;
    share.textContent = percent(shares[i]);
    button.append(bar, label, share);
    button.addEventListener("click", () => {
      buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
      heat(i);
    });
    return button;
  });
  at("classes").replaceChildren(...buttons);
  at("shows").hidden = !outputs.maps;
  at("mapless").hidden = Boolean(outputs.maps);
  at("uncalibrated").hidden = !told.uncalibrated;
  heat(0);
}

// The chosen class's map over the picture, divided by its own maximum.
function heat(chosen) {
  const visible = Boolean(answer?.maps) && at("show").checked;
  at("heat").hidden = !visible;
  at("picture").classList.toggle("under", visible);
  if (!visible) return;
  const [, , high, wide] = answer.maps.dims;
  const values = answer.maps.data.slice(chosen * high * wide, (chosen + 1) * high * wide);
  const peak = Math.max(...values) || 1;
  const small = new OffscreenCanvas(wide, high);
  const pixels = new ImageData(wide, high);
  values.forEach((value, i) => {
    const position = (value / peak) * (VIRIDIS.length - 1);
    const low = Math.min(Math.floor(position), VIRIDIS.length - 2), share = position - low;
    for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = VIRIDIS[low][c] * (1 - share) + VIRIDIS[low + 1][c] * share;
    pixels.data[4 * i + 3] = 255;
  });
  small.getContext("2d").putImageData(pixels, 0, 0);
  const context = at("heat").getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(small, 0, 0, at("heat").width, at("heat").height);
}

// The square that the model sees.
function look(canvas) {
  const side = Math.min(canvas.width, canvas.height) * told.seen;
  const picture = at("picture").getContext("2d");
  picture.imageSmoothingEnabled = side > at("picture").width;
  picture.imageSmoothingQuality = "high";
  picture.drawImage(canvas, (canvas.width - side) / 2, (canvas.height - side) / 2, side, side, 0, 0, 448, 448);
  at("invitation").hidden = true;
  at("picture").hidden = false;
  at("heat").hidden = true;
  at("stage").classList.add("full");
}

async function take(canvas) {
  look(canvas);
  caution("");
  say("Looking at the picture");
  await ready;
  await new Promise((painted) => requestAnimationFrame(() => setTimeout(painted)));
  show(await classify(canvas));
}

async function read(file) {
  close();
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", imageOrientation: "from-image" });
  } catch {
    say("No picture", true);
    return caution("This file is not a picture that this browser can read: use a JPEG, PNG, WebP, GIF or BMP.");
  }
  const canvas = drawn(bitmap, bitmap.width, bitmap.height);
  bitmap.close();
  await take(canvas);
}

function close() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = undefined;
  at("video").hidden = at("stop").hidden = true;
  at("camera").textContent = "Use the camera";
}

async function camera() {
  const video = at("video");
  if (stream) {
    const canvas = drawn(video, video.videoWidth, video.videoHeight);
    close();
    return take(canvas);
  }
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch {
    return caution("The camera cannot be used: allow it for this page, or choose a picture.");
  }
  caution("");
  video.srcObject = stream;
  await video.play();
  video.hidden = at("stop").hidden = false;
  at("camera").textContent = "Take the picture";
}

function fill() {
  at("name").textContent = told.name;
  at("what").textContent = told.what;
  at("uncalibrated").textContent = told.uncalibrated;
  for (const [name, value] of Object.entries(told.about)) {
    const term = document.createElement("dt"), said = document.createElement("dd");
    term.textContent = name;
    said.textContent = value;
    at("about").append(term, said);
  }
}

async function load() {
  ort.env.wasm.numThreads = 1; // more need headers that a file has not
  ort.env.wasm.wasmBinary = await unpacked("runtime");
  session = await ort.InferenceSession.create(await unpacked("model"), { executionProviders: ["wasm"] });
  if (at("picture").hidden) say("Choose a picture to see its class.", true);
}

fill();
at("camera").hidden = !navigator.mediaDevices?.getUserMedia;
at("choose").addEventListener("click", () => at("file").click());
at("file").addEventListener("change", () => {
  if (at("file").files[0]) read(at("file").files[0]);
  at("file").value = "";
});
at("camera").addEventListener("click", camera);
at("stop").addEventListener("click", close);
at("show").addEventListener("change", () => {
  heat([...at("classes").children].findIndex((button) => button.getAttribute("aria-pressed") === "true"));
});
document.addEventListener("paste", (event) => event.clipboardData.files[0] && read(event.clipboardData.files[0]));
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    at("stage").classList.toggle("over", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files[0]) read(event.dataTransfer.files[0]);
  });
}
const ready = load().catch((error) => {
  say("The model could not be loaded", true);
  caution(`This browser cannot run it: use a current one. (${error.message})`);
  throw error;
});
globalThis.page = { read, ready, answer: () => answer }; // for programs that drive a browser
