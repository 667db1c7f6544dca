// A picture in, its classes out: all in this page, after picture.js and occlusion.js. `ort` is ONNX Runtime Web; the
// files are in the page, in base64.
const at = (id) => document.getElementById(id);
const told = JSON.parse(at("told").textContent);
const SURE = 0.5; // a class with less is not given as the answer
const VIRIDIS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
let session, answer, stream;
let pace = Infinity; // milliseconds of an answer to a picture that need not be resized
let hiding = false;

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

async function answersTo({ pixels, width, height }) {
  const outputs = await session.run({ images: new ort.Tensor("uint8", pixels, [1, height, width, 3]) });
  return Object.fromEntries(Object.entries(outputs).map(([name, { data, dims }]) => [name, { data, dims }]));
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
  hiding = false;
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
  offer();
  at("uncalibrated").hidden = !told.uncalibrated;
  heat(0);
}

// What there is to see of the evidence, or to be had.
function offer() {
  at("shows").hidden = !answer.maps;
  at("mapless").hidden = Boolean(answer.maps);
  at("progress").hidden = !hiding;
  at("hide").textContent = hiding ? "Stop" : `Make an occlusion map: about ${duration(SQUARES * pace)}`;
}

function duration(milliseconds) {
  const seconds = Math.max(Math.round(milliseconds / 1000), 1);
  return seconds < 100 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
}

async function occlude() {
  if (hiding) return (hiding = false);
  const of = answer, context = at("heat").getContext("2d"), side = at("heat").width, start = performance.now();
  hiding = true;
  offer();
  const maps = await occlusion(of, async (square, [left, top, right, bottom]) => {
    if (square) pace = (performance.now() - start) / square;
    at("bar").value = square / SQUARES;
    at("remaining").textContent = `${duration((SQUARES - square) * pace)} left`;
    context.clearRect(0, 0, side, side);
    context.fillStyle = `rgb(${told.mean})`;
    context.fillRect(left * side, top * side, (right - left) * side, (bottom - top) * side);
    at("heat").hidden = false;
    at("heat").classList.add("hiding");
    await painted();
    return !hiding || of !== answer;
  });
  if (of !== answer) return; // of another picture
  const focused = document.activeElement === at("hide");
  hiding = false;
  if (maps) answer.maps = maps;
  offer();
  if (maps && focused) at("show").focus();
  heat(chosen());
}

// A task of its own, so that the browser draws and hears what is pressed meanwhile.
const painted = () => new Promise((resolve) => setTimeout(resolve));

const chosen = () => [...at("classes").children].findIndex((button) => button.getAttribute("aria-pressed") === "true");

// A class's map over the picture, divided by its own maximum.
function heat(of) {
  const { data, dims: [, , high, wide] } = answer.maps ?? { data: [], dims: [1, 0, 0, 0] };
  const values = data.slice(of * high * wide, (of + 1) * high * wide);
  const peak = Math.max(0, ...values), points = (100 * peak).toFixed(1);
  const visible = at("show").checked && (answer.seen ? points !== "0.0" : values.length > 0);
  at("heat").hidden = !visible;
  at("heat").classList.remove("hiding");
  at("picture").classList.toggle("under", visible);
  at("occluded").textContent = `Show the occlusion map of the chosen class: ${points === "0.0" ? "hiding no area lowers its probability."
    : `hiding a bright area lowers its probability, by ${points} percentage points at most.`}`;
  if (!visible) return;
  const small = new OffscreenCanvas(wide, high);
  const pixels = new ImageData(wide, high);
  values.forEach((value, i) => {
    const position = (value / (peak || 1)) * (VIRIDIS.length - 1);
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
function look({ pixels, width, height }) {
  const image = new ImageData(width, height);
  for (let i = 0, from = 0; from < pixels.length; i += 4, from += 3) {
    image.data.set(pixels.subarray(from, from + 3), i);
    image.data[i + 3] = 255;
  }
  const whole = new OffscreenCanvas(width, height);
  whole.getContext("2d").putImageData(image, 0, 0);
  const side = (Math.min(width, height) * told.size) / told.stored, canvas = at("picture");
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = side > canvas.width;
  context.imageSmoothingQuality = "high";
  context.drawImage(whole, (width - side) / 2, (height - side) / 2, side, side, 0, 0, canvas.width, canvas.height);
  at("invitation").hidden = true;
  canvas.hidden = false;
  at("heat").hidden = true;
  at("stage").classList.add("full");
}

async function take(picture) {
  hiding = false;
  look(picture);
  caution("");
  say("Looking at the picture");
  await ready;
  await painted();
  const start = performance.now(), outputs = await answersTo(picture);
  pace = Math.min(pace, performance.now() - start);
  show(outputs);
}

async function read(file) {
  close();
  let picture;
  try {
    picture = await pictureOf(file);
  } catch {
    say("No picture", true);
    return caution("This file is not a picture that this browser can read: use a JPEG, PNG, WebP, GIF or BMP.");
  }
  await take(picture);
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
    const picture = drawn(video, video.videoWidth, video.videoHeight);
    close();
    return take(picture);
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
  if (session.outputNames.includes("maps")) at("occluded").hidden = true;
  else {
    at("cam").hidden = true;
    const blank = { pixels: new Uint8Array(3 * told.stored ** 2), width: told.stored, height: told.stored };
    await answersTo(blank); // the first takes longer
    const start = performance.now();
    await answersTo(blank);
    pace = performance.now() - start;
  }
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
at("show").addEventListener("change", () => heat(chosen()));
at("hide").addEventListener("click", occlude);
document.addEventListener("paste", (event) => event.clipboardData.files[0] && read(event.clipboardData.files[0]));
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    at("stage").classList.toggle("over", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files[0]) read(event.dataTransfer.files[0]);
  });
}
const decoder = unpacked("jpeg").then((bytes) => WebAssembly.compile(bytes));
const ready = load().catch((error) => {
  say("The model could not be loaded", true);
  caution(`This browser cannot run it: use a current one. (${error.message})`);
  throw error;
});
globalThis.page = { read, ready, occlude, answer: () => answer }; // for programs that drive a browser
