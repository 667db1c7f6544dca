// Teach by showing: the classes' cards, and the changes that the server has still to be told. The server's answer is
// drawn anew each time; what was asked for since then is kept in `changes` and sent when the request before it is done.
window.resnetSpace.teach = (() => {
  "use strict";

  const { escaped, put } = window.resnetSpace;
  const SHORT_SIDE = 512; // pixels, to which large files are made smaller before they are sent, as the server would
  const LARGE = 400_000; // bytes
  const AT_ONCE = 24; // files in one request
  const SURE_SECONDS = 5; // in which a second click removes what the first one asked about

  const state = { classes: [], thumbs: {}, sets: [], done: true, set: null }; // as the server told it, one answer after the other
  const changes = []; // not sent yet: {do, ...}; an "add" has `files`, as {blob, name}
  const selected = new Set(); // ids of pictures
  const unfolded = new Set(); // ids of classes
  const leaving = new Set(); // ids of pictures that go or move
  let number = 0; // of the last request
  let busy = false;
  let problem = "";
  let showing = false; // whether the last request asked for what there is, and nothing else
  let element = null;
  let ask = null; // tells the server
  const told = new EventTarget(); // "state", for the panel beside

  // What is told and asked

  function receive(value) {
    if (!value || value.number === undefined) return;
    if (value.number !== number) return; // what the page opened with, after something was asked for
    Object.assign(state.thumbs, value.thumbs);
    Object.assign(state, value, { thumbs: state.thumbs });
    if (value.said === undefined && value.done) Object.assign(state, { said: "", caution: "", wrong: {} });
    if (value.done && value.number === number) {
      busy = false;
      leaving.clear();
    }
    forgetThumbs();
    draw();
    told.dispatchEvent(new Event("state"));
    if (state.done && !state.taught && !state.missing && state.set && !busy && !problem && !changes.length) send(true);
    else send();
  }

  function forgetThumbs() {
    const there = new Set(state.classes.flatMap((own) => own.pictures));
    for (const id of Object.keys(state.thumbs)) if (!there.has(id)) delete state.thumbs[id];
    for (const id of selected) if (!there.has(id)) selected.delete(id);
  }

  // A request failed; why is told in the corner of the page. What the server has by now is asked for once.
  function failed() {
    const again = state.set && !showing;
    busy = false;
    changes.length = 0;
    leaving.clear();
    problem = "That did not work: the message in the corner of the page says why.";
    state.done = true;
    draw();
    if (again) changes.push({ do: "show" });
    send();
  }

  function change(what) {
    problem = "";
    changes.push(what);
    draw();
    send();
  }

  // All that is waiting, files before they are named; `again` also without a change, to be taught what is there.
  async function send(again = false) {
    if (busy || !element || !(changes.length || again)) return;
    busy = true;
    const some = take();
    draw();
    try {
      for (const { files } of some) if (files) await upload(files);
    } catch (error) {
      failed();
      problem = String(error.message ?? error);
      draw();
      return;
    }
    number = Math.max(number + 1, Date.now());
    showing = some[0]?.do === "show";
    const plain = some.map((what) => ({ ...what, files: what.files?.map(({ path, name }) => ({ path, name })) }));
    ask({ number, set: state.set, changes: plain, known: Object.keys(state.thumbs), unfolded: [...unfolded] });
  }

  // As many as one request may have; what is done to a whole set goes alone.
  function take() {
    const some = [];
    let files = 0;
    while (changes.length) {
      const alone = ["new", "delete", "show", "open"].includes(changes[0].do);
      if (some.length && (alone || files >= AT_ONCE)) break;
      const what = changes.shift();
      const more = what.files?.splice(AT_ONCE - files);
      if (more?.length) changes.unshift({ ...what, files: more });
      files += what.files?.length ?? 0;
      some.push(what);
      if (alone) {
        if (what.do === "open") Object.assign(state, { set: what.set, thumbs: {} });
        return what.do === "open" ? [] : some;
      }
    }
    return some;
  }

  async function upload(files) {
    const form = new FormData();
    for (const file of files) form.append("files", file.blob, file.name);
    const answer = await fetch("gradio_api/upload", { method: "POST", body: form });
    const paths = await answer.json().catch(() => ({ detail: "The pictures could not be sent: try again." }));
    if (!answer.ok) throw new Error(paths.detail);
    files.forEach((file, i) => (file.path = paths[i]));
  }

  // Files that the browser can read and that are large are made smaller here: a phone's photograph takes a fiftieth of
  // its bytes. All others go as they are.
  async function smaller(file) {
    if (file.size < LARGE || !file.type.startsWith("image/")) return { blob: file, name: file.name };
    try {
      const picture = await createImageBitmap(file);
      const scale = SHORT_SIDE / Math.min(picture.width, picture.height);
      if (scale >= 1) return { blob: file, name: file.name };
      const blob = await jpeg(picture, picture.width * scale, picture.height * scale, 0.92);
      return { blob, name: file.name.replace(/\.\w+$/, "") + ".jpg" };
    } catch {
      return { blob: file, name: file.name };
    }
  }

  function jpeg(source, width, height, quality, crop = null) {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [Math.round(width), Math.round(height)];
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.fillStyle = "#fff"; // behind what is transparent
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(source, ...(crop ?? []), 0, 0, canvas.width, canvas.height);
    return new Promise((done) => canvas.toBlob(done, "image/jpeg", quality));
  }

  async function add(id, files) {
    const own = [...files];
    if (own.length) change({ do: "add", class: id, files: await Promise.all(own.map(smaller)) });
  }

  // What is drawn

  function waiting(id) {
    return changes.reduce((sum, what) => sum + (what.do === "add" && what.class === id ? what.files.length : 0), 0);
  }

  function counted(count, what) {
    return `${count.toLocaleString("en")} ${what}${count === 1 ? "" : "s"}`;
  }

  function thumb(own, id) {
    const source = state.thumbs[id];
    const wrong = state.wrong?.[id];
    const words = wrong ? `taken for ${wrong} when it was left out` : `a picture of ${own.name}`;
    const kind = [wrong ? "wrong" : "", leaving.has(id) ? "leaving" : ""].join(" ");
    return `<figure class="${kind}" data-id="${id}" draggable="true"><button type="button" class="pick"
      aria-pressed="${selected.has(id)}" aria-label="Select: ${escaped(words)}" title="${escaped(words)}">
      ${source ? `<img alt="" src="${source}" draggable="false">` : ""}</button>
      <button type="button" class="remove" aria-label="Remove ${escaped(words)}">✕</button></figure>`;
  }

  function card(own) {
    const more = own.count - own.pictures.length;
    const coming = waiting(own.id);
    const chosen = own.pictures.filter((id) => selected.has(id));
    const others = state.classes.filter((other) => other.id !== own.id);
    const moves = others
      .map((other) => `<button type="button" class="move" data-to="${other.id}">${escaped(other.name)}</button>`)
      .join("");
    const wrong = own.pictures.filter((id) => state.wrong?.[id]).length;
    const judged = state.taught && !more && own.count > 1 ? `, ${own.count - wrong} recognised` : "";
    return `<section class="card" data-class="${own.id}" aria-label="Class ${escaped(own.name)}">
      <header><input class="name" value="${escaped(own.name)}" maxlength="60" aria-label="Name of the class"
        autocomplete="off" spellcheck="false"><button type="button" class="drop"
        aria-label="Remove the class ${escaped(own.name)}">✕</button></header>
      <p class="count">${counted(own.count, "picture")}${judged}${coming ? `, ${coming} on their way` : ""}</p>
      <div class="tools"><label class="add">Add pictures<input type="file" multiple accept="image/*,.heic,.heif"></label>
        <button type="button" class="camera">Camera</button></div>
      <div class="recorder" hidden></div>
      ${own.count || coming ? "" : '<p class="hint">Drop pictures here</p>'}
      <div class="thumbs">${own.pictures.map((id) => thumb(own, id)).join("")}</div>
      ${more > 0 ? `<button type="button" class="more">Show all ${own.count.toLocaleString("en")}</button>` : ""}
      <div class="chosen" ${chosen.length ? "" : "hidden"}><span>${chosen.length} selected:</span>
        <button type="button" class="remove-chosen">Remove</button>
        ${others.length ? `<span>or move to</span>${moves}` : ""}</div></section>`;
  }

  function sets() {
    if (!state.set && !state.sets.length) return "";
    const names = [...new Set([...(state.set ? [state.set] : []), ...state.sets])];
    const options = names.map((name) => `<option ${name === state.set ? "selected" : ""}>${escaped(name)}</option>`);
    const fresh = state.set ? "" : '<option value="" selected>a new set</option>';
    return `<div class="sets"><label>Pictures <select class="set">${fresh}${options.join("")}</select></label>
      ${state.set ? '<button type="button" class="new">New set</button>' : ""}
      ${state.set ? '<button type="button" class="delete">Delete</button>' : ""}</div>`;
  }

  function words() {
    if (problem) return `<p class="caution">${escaped(problem)}</p>`;
    const message = state.message ? `<p class="caution">${escaped(state.message)}</p>` : "";
    const caution = state.caution ? `<p class="caution">${escaped(state.caution)}</p>` : "";
    const wrong = Object.keys(state.wrong ?? {}).length;
    const hint = wrong ? ` ${wrong === 1 ? "The one" : "Those"} with an orange frame ${wrong === 1 ? "is" : "are"} wrong.` : "";
    const now = busy ? state.phase || "Sending" : state.missing || (state.said ? state.said + hint : "");
    return `${message}<p class="now${busy ? " busy" : ""}">${escaped(now)}</p>${busy ? "" : caution}`;
  }

  // Drawn anew at every change, but what one types in and what records stays as it is.
  function draw() {
    if (!element) return;
    if (!element.firstElementChild) {
      element.innerHTML = '<div class="top"></div><div class="cards"></div><div class="said" role="status"></div>';
    }
    const [top, cards, said] = element.children;
    put(top, sets());
    put(said, words());
    const wanted = state.classes.map((own) => String(own.id));
    for (const old of [...cards.children]) if (!wanted.includes(old.dataset.class)) old.remove();
    state.classes.forEach((own, i) => {
      const made = document.createElement("template");
      made.innerHTML = card(own).trim();
      const fresh = made.content.firstElementChild;
      const old = [...cards.children].find((other) => other.dataset.class === String(own.id));
      if (!old) cards.insertBefore(fresh, cards.children[i] ?? null);
      else update(old, fresh);
    });
    if (!cards.querySelector(".class")) {
      cards.insertAdjacentHTML("beforeend", '<button type="button" class="class">Add a class</button>');
    }
    cards.querySelector(".class").disabled = state.classes.length >= state.most_classes;
  }

  function update(old, fresh) {
    old.setAttribute("aria-label", fresh.getAttribute("aria-label"));
    old.querySelector(".drop").setAttribute("aria-label", fresh.querySelector(".drop").getAttribute("aria-label"));
    const name = old.querySelector(".name");
    if (document.activeElement !== name) name.value = fresh.querySelector(".name").value;
    const focused = old.contains(document.activeElement) ? document.activeElement.closest("figure")?.dataset.id : null;
    const hint = old.querySelector(".hint");
    if (!fresh.querySelector(".hint")) hint?.remove();
    else if (!hint) old.querySelector(".thumbs").before(fresh.querySelector(".hint"));
    for (const part of ["count", "thumbs", "chosen"]) put(old.querySelector(`.${part}`), fresh.querySelector(`.${part}`).innerHTML);
    old.querySelector(".chosen").hidden = fresh.querySelector(".chosen").hidden;
    old.querySelector(".more")?.remove();
    const more = fresh.querySelector(".more");
    if (more) old.querySelector(".thumbs").after(more);
    if (focused) old.querySelector(`figure[data-id="${focused}"] .pick`)?.focus();
  }

  // What is clicked

  const classOf = (target) => Number(target.closest("[data-class]")?.dataset.class);

  // The first click asks, the second does it.
  function sure(button, question) {
    if (button.dataset.asked) return true;
    const before = button.textContent;
    button.dataset.asked = "yes";
    button.textContent = question;
    setTimeout(() => {
      delete button.dataset.asked;
      button.textContent = before;
    }, SURE_SECONDS * 1000);
    return false;
  }

  function remove(ids) {
    ids.forEach((id) => leaving.add(id) && selected.delete(id));
    change({ do: "remove", ids });
  }

  function move(ids, to) {
    ids.forEach((id) => leaving.add(id) && selected.delete(id));
    change({ do: "move", ids, class: to });
  }

  const picturesOf = (id) => state.classes.find((own) => own.id === id)?.pictures ?? [];

  function click(event) {
    const button = event.target.closest("button");
    if (!button) return;
    const id = classOf(button);
    const own = state.classes.find((other) => other.id === id);
    const picture = button.closest("figure")?.dataset.id;
    const chosen = () => picturesOf(id).filter((one) => selected.has(one));
    const does = {
      pick: () => {
        if (!selected.delete(picture)) selected.add(picture);
        draw();
      },
      remove: () => remove([picture]),
      "remove-chosen": () => remove(chosen()),
      move: () => move(chosen(), Number(button.dataset.to)),
      more: () => {
        unfolded.add(id);
        send(true);
      },
      drop: () => (!own.count || sure(button, `Remove ${counted(own.count, "picture")}?`)) && change({ do: "drop", class: id }),
      class: () => change({ do: "class", name: freeName() }),
      new: () => change({ do: "new" }),
      delete: () => sure(button, "Delete pictures and model?") && change({ do: "delete" }),
      camera: () => window.resnetSpace.teach.toggleRecorder(button.closest(".card"), id),
    };
    does[[...button.classList].find((name) => name in does)]?.();
  }

  function freeName() {
    const names = new Set(state.classes.map((own) => own.name));
    let i = state.classes.length + 1;
    while (names.has(`Class ${i}`)) i += 1;
    return `Class ${i}`;
  }

  function input({ target }) {
    if (target.matches(".name")) {
      const own = state.classes.find((other) => other.id === classOf(target));
      const name = target.value.trim();
      if (own && name && name !== own.name) change({ do: "rename", class: own.id, name });
      else if (own) target.value = own.name;
    } else if (target.matches("input[type=file]")) {
      add(classOf(target), target.files);
      target.value = "";
    } else if (target.matches("select.set")) {
      if (target.value) change({ do: "open", set: target.value });
    }
  }

  function wire() {
    element.addEventListener("click", click);
    element.addEventListener("change", input);
    element.addEventListener("keydown", (event) => {
      if (event.target.matches(".name") && event.key === "Enter") event.target.blur();
    });
    element.addEventListener("focusin", ({ target }) => target.matches(".name") && target.select());
    const over = (target) => target.closest?.(".card");
    element.addEventListener("dragstart", (event) => {
      const id = event.target.closest("figure")?.dataset.id;
      if (!id) return;
      if (!selected.has(id)) selected.clear();
      selected.add(id);
      event.dataTransfer.setData("text/plain", id);
      event.dataTransfer.effectAllowed = "move";
    });
    for (const name of ["dragenter", "dragover"]) {
      element.addEventListener(name, (event) => {
        if (!over(event.target)) return;
        event.preventDefault();
        over(event.target).classList.add("target");
      });
    }
    element.addEventListener("dragleave", (event) => {
      if (!over(event.target)?.contains(event.relatedTarget)) over(event.target)?.classList.remove("target");
    });
    element.addEventListener("drop", (event) => {
      const place = over(event.target);
      if (!place) return;
      event.preventDefault();
      event.stopPropagation();
      place.classList.remove("target");
      const id = classOf(place);
      if (event.dataTransfer.files.length) add(id, event.dataTransfer.files);
      else if (selected.size) move([...selected].filter((one) => !picturesOf(id).includes(one)), id);
    });
  }

  function cards(place, props, trigger, watch) {
    element = place.querySelector(".teach");
    ask = (data) => trigger("submit", data);
    wire();
    watch("value", () => receive(props.value));
    receive(props.value);
  }

  return { cards, failed, change, jpeg, told, state };
})();
