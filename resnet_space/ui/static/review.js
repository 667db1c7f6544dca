// Review what a check of the data found: one picture at a time, decided by button or key. The server has every decision
// as soon as it is made; what is decided while a request is under way is sent when that is done.
window.resnetSpace.review = (() => {
  "use strict";

  const { escaped } = window.resnetSpace;
  const AHEAD = 3; // pictures that are fetched before they are looked at
  const MOST_KEPT = 60; // pictures in the page's memory
  const CHIPS = 10; // classes with a button and a digit each; more are in a list
  const UNSENT = "resnet_space.review"; // in the browser's storage: decisions that the server may not have yet
  const POLL = 1000; // milliseconds between two looks at how a comparison stands
  const SPLITS = ["train", "validation", "test"];
  const KEYS = { k: "keep", r: "relabel", d: "drop", s: "same", u: "undo", n: "next" };
  const DONE = { keep: "Kept", drop: "Dropped", same: "The same picture: one of the two is dropped" };

  const state = { items: [], decisions: {}, pictures: new Map(), examples: {}, count: 0, decided: 0 };
  let of = ""; // the dataset that the pictures are of
  let view = "closed"; // "queue", "end"
  let at = 0; // the position in the queue
  let history = []; // ids, as they were decided
  let clean = false; // whether test pictures are to be changed, too
  let typed = ""; // the name of the new version, once a person has written one
  let said = "";
  let problem = "";
  let number = 0; // of the last request
  let busy = false;
  let waiting = {}; // what the next request has
  let underway = []; // decisions in the request under way
  let element = null;
  let ask = null;

  const item = () => state.items[at];
  const place = ({ split, index }) => `${split}:${index}`;
  const other = ({ of_split, of_index }) => `${of_split}:${of_index}`;
  const places = (one) => (one.of_split ? [place(one), other(one)] : [place(one)]);

  // What is told and asked

  function receive(value) {
    if (!value || value.number === undefined) {
      if (!state.open) Object.assign(state, { count: 0, decided: 0 });
      return draw();
    }
    if (value.number !== number && value.number !== 0) return; // an answer to what was asked for before
    if (value.open && value.dataset !== of) {
      [of, history, clean, typed] = [value.dataset, [], false, ""];
      state.pictures.clear();
      state.examples = {};
    }
    for (const [name, url] of Object.entries(value.pictures ?? {})) state.pictures.set(name, url);
    for (const name of [...state.pictures.keys()].slice(0, -MOST_KEPT)) state.pictures.delete(name);
    Object.assign(state.examples, value.examples);
    if (value.number === 0) { // another check is shown
      if (view === "closed") Object.assign(state, { count: value.count, decided: value.decided, dataset: "" });
      const { dataset = "", decide = [] } = JSON.parse(sessionStorage.getItem(UNSENT) ?? "{}");
      if (!busy && decide.length) { // the page was left before they were sent
        state.dataset = dataset;
        send({ decide });
      }
      return draw();
    }
    busy = false;
    underway = [];
    note();
    const { pictures, examples, number: answered, ...rest } = value;
    Object.assign(state, rest);
    if (value.open) begin();
    if (value.made !== undefined && value.summary) tell(`${value.made} is ready, and chosen in the form.`);
    if (state.result?.state === "running" && view === "end") setTimeout(() => send({ look: true }), POLL);
    else if (value.result && !value.open) tell(element.querySelector(".verdict .finding")?.textContent ?? "");
    draw();
    flush();
  }

  // A request failed; why is told in the corner of the page. What is saved is asked for anew.
  function failed() {
    const again = !waiting.open && view !== "closed" && !problem;
    busy = false;
    waiting = {};
    underway = [];
    note();
    problem = "That did not work: the message in the corner of the page says why.";
    if (again) send({ open: true });
    draw();
  }

  function send(more = {}) {
    const { decide = [], want = [], lack = [], ...rest } = more;
    Object.assign(waiting, rest);
    waiting.decide = [...(waiting.decide ?? []), ...decide];
    waiting.want = [...new Set([...(waiting.want ?? []), ...want])];
    waiting.lack = [...new Set([...(waiting.lack ?? []), ...lack])];
    flush();
    note();
  }

  // Decisions outlive a reload also while the server is slow.
  function note() {
    const decide = [...underway, ...(waiting.decide ?? [])];
    if (decide.length) sessionStorage.setItem(UNSENT, JSON.stringify({ dataset: state.dataset, decide }));
    else sessionStorage.removeItem(UNSENT);
  }

  function flush() {
    const empty = Object.values(waiting).every((value) => (Array.isArray(value) ? !value.length : !value));
    if (busy || empty || !ask) return;
    busy = true;
    underway = waiting.decide ?? [];
    number = Math.max(number + 1, Date.now());
    ask({ number, dataset: state.dataset ?? "", clean, ...waiting });
    waiting = {};
  }

  // The pictures of this item and of those that follow, as far as they are not here.
  function fetchPictures() {
    const ahead = state.items.slice(at, at + 1 + AHEAD);
    const want = ahead.flatMap(places).filter((name) => !state.pictures.has(name));
    const classes = ahead.slice(0, 2).flatMap((one) => (one.suggested ? [one.label, one.suggested] : []));
    const lack = classes.filter((name) => name && !(name in state.examples));
    if (want.length || lack.length) send({ want, lack });
  }

  function tell(words) {
    said = words;
  }

  // Going through the queue

  function begin() {
    problem = "";
    history = history.filter((id) => id in state.decisions);
    if (view !== "closed") return view === "queue" && go(Math.min(at, state.items.length - 1));
    const first = state.items.findIndex(({ id }) => !(id in state.decisions));
    if (first < 0) return end();
    go(first);
    focus();
  }

  function go(position) {
    if (position >= state.items.length || position < 0) return end();
    [at, view] = [position, "queue"];
    fetchPictures();
    draw();
  }

  function end() {
    view = "end";
    send({ end: true });
    draw();
    focus();
  }

  function focus() {
    element.querySelector(".queue, .summary")?.focus({ preventScroll: true });
    const { top, bottom } = element.getBoundingClientRect();
    if (top < 0 || bottom > window.innerHeight) element.scrollIntoView({ block: "start" });
  }

  function decide(action, label = "") {
    const { id } = item();
    state.decisions[id] = { action, label };
    history.push(id);
    send({ decide: [{ id, action, label }] });
    tell(`${action === "relabel" ? `Relabelled as ${label}` : DONE[action]}. ${tested(item()) && action !== "keep" ? "A test picture: it stays as it is unless you say so at the end. " : ""}`);
    next();
    element.querySelector(".queue")?.focus({ preventScroll: true }); // also from the list, where letters are no keys
  }

  // The next one that is not decided, or with `any` the next one.
  function next(any = false) {
    const following = state.items.findIndex(({ id }, i) => i > at && (any || !(id in state.decisions)));
    go(following < 0 ? state.items.length : following);
  }

  function undo() {
    const id = view === "queue" && item().id in state.decisions ? item().id : history.pop();
    if (!id) return tell("There is nothing to undo.") ?? draw();
    history = history.filter((one) => one !== id);
    delete state.decisions[id];
    send({ decide: [{ id, action: "" }] });
    tell("Undone.");
    go(state.items.findIndex((one) => one.id === id));
    focus();
  }

  const tested = (one) => one.split === state.judged && (!one.of_split || one.of_split === state.judged);

  function suggestion(one) {
    if (one.suggested) return { action: "relabel", label: one.suggested, words: `Relabel as ${one.suggested}` };
    if (!one.of_split) return null;
    // As the server decides: the copy in the split that judges stays.
    const across = one.split !== one.of_split;
    const gone = SPLITS.indexOf(one.split) < SPLITS.indexOf(one.of_split) ? one.split : one.of_split;
    return { action: "same", label: "", words: `Same picture: drop ${across ? `the one in ${gone}` : "this copy"}` };
  }

  const does = {
    open: () => send({ open: true }),
    close: () => {
      Object.assign(state, { decided: Object.keys(state.decisions).length, open: false });
      view = "closed";
      tell("");
      draw();
      element.querySelector(".open")?.focus();
    },
    keep: () => decide("keep"),
    drop: () => decide("drop"),
    same: () => item().of_split && decide("same"),
    take: () => {
      const found = suggestion(item());
      if (found) decide(found.action, found.label);
    },
    relabel: () => element.querySelector(".choose select, .choose button:enabled")?.focus(),
    chip: (button) => decide("relabel", state.classes[Number(button.dataset.class)]),
    listed: () => decide("relabel", element.querySelector(".choose select").value),
    next: () => next(true),
    undo,
    end,
    back: () => {
      const first = state.items.findIndex(({ id }) => !(id in state.decisions));
      go(Math.max(first, 0));
      focus();
    },
    make: () => {
      send({ make: typed.trim() || state.name });
      tell("Writing the new version.");
      draw();
    },
    train: () => {
      send({ train: true });
      tell("Training before and after.");
      draw();
    },
    stop: () => {
      send({ stop: true });
      tell("Stopping the comparison.");
    },
  };

  function key(event) {
    if (event.key === "Enter" && event.target.matches(".choose select")) return act(event, does.listed);
    const typing = event.target.closest("input, textarea, select, [contenteditable]");
    if (event.ctrlKey || event.metaKey || event.altKey || typing) return;
    const name = event.key.toLowerCase();
    if (view === "end" && name === "u") return act(event, undo);
    if (view !== "queue") return;
    if (/^\d$/.test(name)) {
      const chip = element.querySelector(`.choose button[data-digit="${name}"]:enabled`);
      if (chip) act(event, () => does.chip(chip));
    } else if (name === "enter" && !event.target.closest("button")) act(event, does.take);
    else if (name in KEYS) act(event, does[KEYS[name]]);
  }

  function act(event, action) {
    event.preventDefault();
    event.stopPropagation();
    action();
  }

  function click(event) {
    const button = event.target.closest("button[data-do]");
    if (!button) return;
    does[button.dataset.do](button);
    // So that Enter takes the next suggestion, and does not press the same button for another picture.
    if (view === "queue" && button.dataset.do !== "relabel") element.querySelector(".queue").focus({ preventScroll: true });
  }

  // What is drawn

  const button = (name, words, letter = "", more = "") =>
    `<button type="button" data-do="${name}" ${more}>${letter ? `<kbd>${letter}</kbd> ` : ""}${escaped(words)}</button>`;

  function figure(name, caption) {
    const url = state.pictures.get(name);
    const there = url === undefined ? '<span class="note">Loading</span>' : url ? `<img src="${url}" alt="">` : '<span class="note">This picture cannot be decoded.</span>';
    return `<figure><div class="picture">${there}</div><figcaption>${caption}</figcaption></figure>`;
  }

  const captioned = (split, index, file, label) => `<b>${escaped(label || "no label")}</b> · ${split} · row ${index}${file ? ` · ${escaped(file)}` : ""}`;

  function samples(name, words) {
    const urls = state.examples[name] ?? [];
    const pictures = [0, 1].map((i) => `<span class="sample">${urls[i] ? `<img src="${urls[i]}" alt="">` : ""}</span>`).join("");
    return `<div class="class"><p>${words} <b>${escaped(name || "no label")}</b></p><div>${pictures}</div></div>`;
  }

  function choice(one, decision) {
    const chosen = decision?.action === "relabel" ? decision.label : "";
    if (state.classes.length <= CHIPS) {
      const chips = state.classes.map((name, i) => {
        const digit = (i + 1) % 10;
        const pressed = `aria-pressed="${name === chosen}" data-digit="${digit}" data-class="${i}" ${name === one.label ? "disabled" : ""}`;
        return button("chip", name, String(digit), pressed);
      });
      return `<div class="choose" role="group" aria-label="Relabel as">${chips.join("")}</div>`;
    }
    const options = state.classes.map((name) => `<option ${name === (chosen || one.suggested || one.label) ? "selected" : ""}>${escaped(name)}</option>`);
    return `<div class="choose"><label>Relabel as <select>${options.join("")}</select></label>${button("listed", "Relabel")}</div>`;
  }

  function queue() {
    const one = item();
    const decision = state.decisions[one.id];
    const pressed = (action) => `aria-pressed="${decision?.action === action}"`;
    const found = suggestion(one);
    const decided = Object.keys(state.decisions).length.toLocaleString("en");
    const pair = one.of_split ? figure(other(one), captioned(one.of_split, one.of_index, one.of_file, one.of_label)) : "";
    const judged = tested(one) ? '<p class="note">A test picture: it stays as it is, unless you choose otherwise at the end.</p>' : "";
    const classes = one.suggested ? `<div class="compared">${samples(one.label, "Labelled")}${samples(one.suggested, "Suggested:")}</div>` : "";
    return `<section class="queue" tabindex="0" aria-label="Review of ${escaped(state.title)}" aria-keyshortcuts="K R D S U N Enter">
      <header><span><b>${(at + 1).toLocaleString("en")} of ${state.items.length.toLocaleString("en")}</b> · ${decided} decided</span>
        ${button("end", "Finish")}</header>
      <div class="stage"><div class="shown${pair ? " pair" : ""}">${pair}${figure(place(one), captioned(one.split, one.index, one.file, one.label))}</div>
        <div class="about"><p class="finding">${escaped(one.words)}</p>${judged}${classes}${choice(one, decision)}</div></div>
      <div class="actions">${found ? button("take", found.words, "Enter", `class="suggested" ${pressed(found.action)}`) : '<span class="suggested"></span>'}
        ${button("keep", "Keep", "K", pressed("keep"))}${button("relabel", "Relabel", "R")}
        ${button("drop", "Drop", "D", pressed("drop"))}${button("same", "Same picture", "S", `${pressed("same")} ${one.of_split ? "" : "disabled"}`)}
        ${button("undo", "Undo", "U")}${button("next", "Next", "N")}</div></section>`;
  }

  function ended() {
    const left = state.items.length - state.items.filter(({ id }) => id in state.decisions).length;
    const { words = "", note = "", tested: ofTest = false, changed = 0 } = state.summary ?? {};
    const undecided = left ? `<p class="note">${left.toLocaleString("en")} of ${state.items.length.toLocaleString("en")} are not decided: they stay as they are.</p>` : "";
    const test = ofTest ? `<label class="clean"><input type="checkbox" ${clean ? "checked" : ""}> Clean the test pictures, too. Results are then no longer comparable with earlier ones, or with those of others.</label>` : "";
    const make = changed ? `<div class="make"><label>Name <input class="name" type="text" maxlength="60" value="${escaped(typed || state.name)}"></label>${button("make", "Make the new version", "", state.made ? "" : 'class="suggested"')}</div>` : "";
    const made = state.made ? `<p><b>${escaped(state.made)}</b> is ready. The old dataset is still there.</p>` : "";
    const running = state.result?.state === "running";
    const train = state.made ? `<div class="make">${running ? button("stop", "Stop") : button("train", "Train before and after", "", state.result ? "" : 'class="suggested"')}</div>` : "";
    return `<section class="summary" tabindex="-1" aria-label="Summary of the review">
      <p class="finding">${escaped(words)}</p>${undecided}${note ? `<p class="note">${escaped(note)}</p>` : ""}${test}${make}${made}${train}
      <div class="verdict">${state.result?.html ?? ""}</div>
      <div class="tools">${button("back", "Back to the pictures")}${button("undo", "Undo", "U")}${button("close", "Close")}</div></section>`;
  }

  function closed() {
    if (!state.count) return "";
    const findings = state.count === 1 ? "1 finding" : `${state.count.toLocaleString("en")} findings`;
    const decided = state.decided ? `<span class="note">${state.decided.toLocaleString("en")} decided</span>` : "";
    return `${button("open", `Review ${findings}`, "", 'class="open suggested"')}${decided}`;
  }

  const texts = new WeakMap();

  // What is the same stays, and with it the focus; what is pressed anew has it again.
  function draw() {
    if (!element) return;
    if (!element.firstElementChild) element.innerHTML = '<div class="body"></div><p class="said" role="status"></p>';
    const [body, status] = element.children;
    const html = { closed, queue, end: ended }[view]();
    if (texts.get(body) !== html) {
      const focused = element.contains(document.activeElement) ? document.activeElement : null;
      const field = [".name", ".choose select"].find((selector) => focused?.matches(selector));
      const [from, to] = [focused?.selectionStart, focused?.selectionEnd]; // the caret stays, too
      const again = field ?? (focused?.dataset.do ? `[data-do="${focused.dataset.do}"]` : "section");
      texts.set(body, html);
      body.innerHTML = html;
      const found = element.querySelector(again) ?? element.querySelector("section");
      if (focused) found?.focus({ preventScroll: true });
      const same = body.dataset.of === `${view} ${at}`; // what is typed or chosen is about this picture
      if (field && same && found?.matches(field)) {
        found.value = focused.value;
        if (field === ".name") found.setSelectionRange(from, to);
      }
      body.dataset.of = `${view} ${at}`;
    }
    const words = problem || said;
    if (status.textContent !== words) status.textContent = words;
    element.classList.toggle("reviewing", view === "queue");
  }

  function changed({ target }) {
    if (target.matches(".clean input")) {
      clean = target.checked;
      send({ end: true });
    }
  }

  function input({ target }) {
    if (target.matches(".name")) typed = target.value;
  }

  // Pictures that were chosen elsewhere on the page: [{split, index}], or {dataset, pictures: [...]}.
  function choose({ detail }) {
    const { dataset, pictures } = Array.isArray(detail) ? { pictures: detail } : (detail ?? {});
    if (!element?.isConnected || !pictures?.length) return;
    if (dataset) state.dataset = dataset;
    view = "closed";
    send({ open: true, chosen: pictures.map(({ split, index }) => ({ split, index })) });
  }

  document.addEventListener("review-pictures", choose);

  function mount(place, props, trigger, watch) {
    element = place.querySelector(".review");
    ask = (data) => trigger("submit", data);
    element.addEventListener("click", click);
    element.addEventListener("change", changed);
    element.addEventListener("input", input);
    element.addEventListener("keydown", key);
    watch("value", () => receive(props.value));
    receive(props.value);
  }

  return { mount, failed };
})();
