// Teach by showing: the camera, which a class records from while its button is held, and the panel in which the model is
// tried on the camera or on a picture. Of pictures to be looked at one is under way at a time.
Object.assign(window.resnetSpace.teach, (() => {
  "use strict";

  const { escaped } = window.resnetSpace;
  const { change, jpeg, told, state } = window.resnetSpace.teach;

  const EVERY = 250; // milliseconds between two frames of a recording
  const SIDE = 320; // pixels of what is sent of the camera
  const TOGETHER = 12; // frames of a recording that are sent while it goes on
  const PATIENCE = 10_000; // milliseconds after a refusal, in which nothing is looked at
  const LOST = 20_000; // milliseconds after which an answer does not come any more

  // The camera

  let stream = null;
  let facing = "environment"; // of a phone's two the one at its back; a laptop has one
  const users = new Set(); // <video> elements that show it

  const WHY = {
    NotAllowedError: "The browser blocks the camera: allow it next to the page's address, or add pictures.",
    NotFoundError: "There is no camera: add pictures instead.",
    NotReadableError: "The camera is in use by another program: close it there, and try again.",
  };

  async function open(video) {
    users.add(video);
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Error("Browsers allow the camera only over https or on this machine: add pictures instead.");
    }
    try {
      stream ??= await navigator.mediaDevices.getUserMedia({ video: { facingMode: facing, width: { ideal: 640 } } });
    } catch (error) {
      users.delete(video);
      throw new Error(WHY[error.name] ?? `The camera cannot be used: ${error.message}`);
    }
    for (const user of users) show(user);
    await video.play();
  }

  function show(video) {
    if (video.srcObject !== stream) video.srcObject = stream;
    const front = stream?.getVideoTracks()[0]?.getSettings().facingMode !== "environment";
    video.classList.toggle("mirrored", front);
  }

  function close(video) {
    users.delete(video);
    video.srcObject = null;
    if (users.size) return;
    stream?.getTracks().forEach((track) => track.stop());
    stream = null;
  }

  async function turn() {
    facing = facing === "environment" ? "user" : "environment";
    stream?.getTracks().forEach((track) => track.stop());
    stream = null;
    for (const video of [...users]) await open(video);
  }

  // The square in the middle, which is what the model sees.
  function square(source, width, height) {
    const side = Math.min(width, height);
    return jpeg(source, SIDE, SIDE, 0.85, [(width - side) / 2, (height - side) / 2, side, side]);
  }

  const frame = (video) => (video.videoWidth ? square(video, video.videoWidth, video.videoHeight) : null);

  // Recording

  function toggleRecorder(card, id) {
    const place = card.querySelector(".recorder");
    const button = card.querySelector(".camera");
    if (!place.hidden) {
      stopRecorder(place, button);
      return;
    }
    for (const other of document.querySelectorAll(".teach .recorder:not([hidden])")) {
      stopRecorder(other, other.closest(".card").querySelector(".camera"));
    }
    place.hidden = false;
    button.setAttribute("aria-pressed", "true");
    place.innerHTML = `<div class="view"><video playsinline muted></video></div>
      <button type="button" class="record">Hold to record</button><p class="hint" role="status"></p>`;
    const video = place.querySelector("video");
    open(video).catch((error) => (place.innerHTML = `<p class="caution" role="alert">${error.message}</p>`));
    record(place.querySelector(".record"), video, id);
  }

  function stopRecorder(place, button) {
    const video = place.querySelector("video");
    if (video) close(video);
    place.hidden = true;
    place.innerHTML = "";
    button.setAttribute("aria-pressed", "false");
  }

  // The pictures are sent a dozen at a time, and the rest when the button is let go.
  function record(button, video, id) {
    let timer = null;
    let recording = 0;
    let taken = 0;
    let files = [];
    const flush = () => {
      if (files.length) change({ do: "add", class: id, files });
      files = [];
    };
    const take = async () => {
      const blob = await frame(video);
      if (!blob || !recording) return;
      taken += 1;
      files.push({ blob, name: `recording-${recording}-${String(taken).padStart(4, "0")}.jpg` });
      button.textContent = `Recording: ${taken}`;
      if (files.length >= TOGETHER) flush();
    };
    const begin = (event) => {
      if (timer || (event.type === "keydown" && ![" ", "Enter"].includes(event.key))) return;
      event.preventDefault();
      if (event.pointerId !== undefined) button.setPointerCapture(event.pointerId);
      [recording, taken] = [Date.now(), 0];
      button.classList.add("on");
      take();
      timer = setInterval(take, EVERY);
    };
    const end = () => {
      if (!timer) return;
      clearInterval(timer);
      timer = null;
      recording = 0;
      button.classList.remove("on");
      button.textContent = "Hold to record";
      flush();
    };
    for (const name of ["pointerdown", "keydown"]) button.addEventListener(name, begin);
    for (const name of ["pointerup", "pointercancel", "keyup", "blur"]) button.addEventListener(name, end);
    button.addEventListener("contextmenu", (event) => event.preventDefault()); // which a long touch opens
  }

  // Trying it

  const tried = { place: null, ask: null, video: null, picture: null, number: 0, sent: 0, until: 0, answer: null, problem: "", timer: 0 };

  function live(element, props, trigger, watch) {
    tried.place = element.querySelector(".try");
    tried.ask = (data) => trigger("submit", data);
    tried.place.innerHTML = `<h3>Try it</h3><div class="view"><video playsinline muted hidden></video><img alt="The picture
      that is looked at" hidden><p class="hint">Turn the camera on, or drop a picture here</p></div>
      <div class="tools"><button type="button" class="camera" aria-pressed="false">Camera</button><label class="add">Choose
      a picture<input type="file" accept="image/*"></label><button type="button" class="turn" hidden>Other
      camera</button></div><div class="answer" aria-live="polite"></div>`;
    tried.video = tried.place.querySelector("video");
    const camera = tried.place.querySelector(".camera");
    camera.addEventListener("click", () => toggle(camera));
    tried.place.querySelector(".turn").addEventListener("click", () => turn().catch(tell));
    tried.place.querySelector("input").addEventListener("change", ({ target }) => {
      choose(target.files[0]);
      target.value = "";
    });
    for (const name of ["dragenter", "dragover"]) tried.place.addEventListener(name, (event) => event.preventDefault());
    tried.place.addEventListener("drop", (event) => {
      event.preventDefault();
      choose(event.dataTransfer.files[0]);
    });
    told.addEventListener("state", () => {
      draw();
      if (tried.picture && state.taught && state.done) look(); // by what was learned since
    });
    watch("value", () => receive(props.value));
    draw();
    clearInterval(tried.timer);
    tried.timer = setInterval(tick, 50);
  }

  async function toggle(button) {
    const on = button.getAttribute("aria-pressed") === "true";
    button.setAttribute("aria-pressed", String(!on));
    Object.assign(tried, { picture: null, answer: null, problem: "" });
    tried.video.hidden = on;
    if (on) close(tried.video);
    else await open(tried.video).catch((error) => (button.setAttribute("aria-pressed", "false"), tell(error)));
    arrange();
    const cameras = (await navigator.mediaDevices?.enumerateDevices?.())?.filter(({ kind }) => kind === "videoinput");
    tried.place.querySelector(".turn").hidden = !(stream && cameras?.length > 1);
  }

  async function choose(file) {
    if (!file) return;
    Object.assign(tried, { answer: null, problem: "" });
    if (users.has(tried.video)) close(tried.video);
    tried.place.querySelector(".camera").setAttribute("aria-pressed", "false");
    try {
      const picture = await createImageBitmap(file);
      tried.picture = await square(picture, picture.width, picture.height);
    } catch {
      tell(new Error("The browser cannot read this picture: choose a JPEG, PNG or WebP."));
      return;
    }
    tried.place.querySelector("img").src = URL.createObjectURL(tried.picture);
    arrange();
    look();
  }

  function arrange() {
    const filmed = users.has(tried.video);
    tried.video.hidden = !filmed;
    tried.place.querySelector("img").hidden = filmed || !tried.picture;
    tried.place.querySelector(".view .hint").hidden = filmed || Boolean(tried.picture);
    draw();
  }

  const seen = () => document.visibilityState === "visible" && tried.place.offsetParent !== null;

  function tick() {
    for (const video of users) if (!video.isConnected || !video.offsetParent) leave(video);
    if (tried.sent && performance.now() - tried.sent > LOST) tried.sent = 0;
    const wait = performance.now() < tried.until;
    if (users.has(tried.video) && state.taught && !tried.sent && !wait && seen()) look();
  }

  // Where nobody sees it any more, as the section was closed or another tab opened, the camera goes off.
  function leave(video) {
    const recorder = video.closest(".recorder");
    if (recorder) {
      stopRecorder(recorder, recorder.closest(".card").querySelector(".camera"));
      return;
    }
    close(video);
    if (video !== tried.video) return;
    tried.place.querySelector(".camera").setAttribute("aria-pressed", "false");
    arrange();
  }

  // At what the camera sees, or at the picture.
  async function look() {
    if (tried.sent || !state.taught || !state.set) return;
    tried.sent = performance.now();
    tried.until = tried.sent + state.pace;
    const blob = users.has(tried.video) ? await frame(tried.video) : tried.picture;
    if (!blob) {
      tried.sent = 0;
      return;
    }
    const reader = new FileReader();
    reader.onload = () => {
      tried.number += 1;
      const known = Object.keys(state.thumbs).concat(Object.keys(tried.thumbs ?? {}));
      tried.ask({ number: tried.number, set: state.set, frame: reader.result, known });
    };
    reader.readAsDataURL(blob);
  }

  function receive(value) {
    if (value?.number !== tried.number || !value.classes) return;
    tried.sent = 0;
    tried.thumbs = value.thumbs ?? {};
    tried.answer = value;
    draw();
  }

  // It was refused, which the page says in its corner: not again at once.
  function unseen() {
    tried.sent = 0;
    tried.until = performance.now() + PATIENCE;
  }

  function tell(error) {
    tried.problem = error.message;
    draw();
  }

  function draw() {
    const place = tried.place?.querySelector(".answer");
    if (!place) return;
    if (tried.problem) {
      place.innerHTML = `<p class="caution" role="alert">${escaped(tried.problem)}</p>`;
      return;
    }
    const answer = state.taught || tried.answer ? tried.answer : null;
    if (!answer) {
      const shown = users.has(tried.video) || tried.picture;
      place.innerHTML = state.taught || !shown ? "" : `<p class="hint">${escaped(state.missing || "Not trained yet")}</p>`;
      return;
    }
    const { classes, probabilities, unlike, nearest } = answer;
    const best = probabilities.indexOf(Math.max(...probabilities));
    const rows = [...place.querySelectorAll("[data-name]")];
    if (rows.length !== classes.length || rows.some((row, i) => row.dataset.name !== classes[i])) {
      place.innerHTML = `<p class="verdict"></p><div class="shares">${classes
        .map((name) => `<div data-name="${escaped(name)}"><span class="name">${escaped(name)}</span><span class="bar"><span>
          </span></span><span class="percent"></span></div>`)
        .join("")}</div><p class="nearest"><img alt="" hidden><span></span></p>`;
    }
    place.classList.toggle("doubtful", unlike);
    const verdict = unlike ? "Unlike all pictures" : classes[best];
    const heading = place.querySelector(".verdict");
    if (heading.textContent !== verdict) heading.textContent = verdict;
    [...place.querySelectorAll("[data-name]")].forEach((row, i) => {
      row.classList.toggle("best", i === best && !unlike);
      row.querySelector(".bar > span").style.width = `${100 * probabilities[i]}%`;
      row.querySelector(".percent").textContent = `${Math.round(100 * probabilities[i])}%`;
    });
    const source = state.thumbs[nearest] ?? tried.thumbs?.[nearest];
    const picture = place.querySelector(".nearest img");
    picture.hidden = !source;
    if (source && picture.src !== source) picture.src = source;
    place.querySelector(".nearest span").textContent = source ? "The most similar picture" : "";
  }

  return { live, unseen, toggleRecorder };
})());
