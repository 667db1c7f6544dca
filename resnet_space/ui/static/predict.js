// What the predict tab does by itself: which heatmaps are shown, how opaque they are, and what a click asks for.
window.resnetSpace.predict = (() => {
  "use strict";

  const { linked, show, state } = window.resnetSpace;
  const isPhone = window.matchMedia("(max-width: 700px)");
  const opened = linked.tab === "predict" ? linked : {};

  // What the visitor chose, or the address: the class beside the first, by name as runs number them differently, and
  // the method.
  let chosen = opened.class ?? null;
  let method = opened.method ?? null;
  let picture = null; // that the class was chosen for
  // The layer and the query of the attention heads, from 1; without any, the last layer and the class token.
  let layer = Number(opened.layer) || null;
  let query = /^\d+,\d+$/.test(opened.query ?? "") ? opened.query.split(",").map(Number) : null;

  const sections = () => [...document.querySelectorAll("#why .sides > section")];
  const shownRows = (section) => [...section.querySelectorAll(".why:not([hidden])")];
  const indices = (section) => shownRows(section).map((row) => Number(row.dataset.class));

  // The heatmaps of the best class, and of the chosen one or the runner-up, so that there are always two to compare.
  function refresh() {
    for (const answer of document.querySelectorAll("#answer .answer")) {
      const buttons = [...answer.querySelectorAll("[data-class]")];
      const pressed = buttons.find((button) => button.dataset.name === chosen) ?? buttons[0];
      for (const button of buttons) button.setAttribute("aria-pressed", String(button === pressed));
      const rows = [...document.querySelectorAll(`#why .why[data-side="${answer.dataset.side}"]`)];
      const beside = Math.max(rows.findIndex((row) => row.dataset.class === pressed?.dataset.class), 0) || 1;
      rows.forEach((row, place) => (row.hidden = place !== 0 && place !== beside));
    }
    const methods = [...document.querySelectorAll("#why input[name=method]")];
    const wanted = methods.find((input) => input.value === method) ?? methods[0];
    if (wanted) {
      wanted.checked = true;
      for (const part of document.querySelectorAll("#why [data-method]")) {
        part.hidden = part.dataset.method !== wanted.value;
      }
    }
    document.querySelector("#evidence .body")?.toggleAttribute("hidden", !isJudged());
    tell();
  }

  // Which heatmaps are shown, for the server: the method, and a run each the class beside the first.
  const currentMethod = () => document.querySelector("#why input[name=method]:checked")?.value ?? "";
  const attended = () => JSON.stringify({ layer, query });
  const view = () => JSON.stringify({ method: currentMethod(), classes: sections().map((of) => indices(of).at(-1)) });

  // The page's address has all of it; what is shown without any choice is not in it.
  function tell() {
    const shown = document.querySelector("#answer .answers");
    if (!shown) return;
    const { run, example, picture, of, with: other } = shown.dataset;
    const beside = shown.querySelector('[aria-pressed="true"]');
    const first = document.querySelector("#why input[name=method]");
    show("predict", {
      run,
      with: other,
      example,
      picture,
      of: of === run ? "" : of,
      class: chosen !== null && beside?.dataset.name === chosen ? chosen : "",
      method: first && !first.checked ? currentMethod() : "",
      ...(document.querySelector("#heads .attended") ? { layer, query: query?.join(",") } : { layer: "", query: "" }),
    });
  }

  // Another run to ask is told by "select", other heatmaps by "input".
  function answer(element, trigger, watch) {
    element.addEventListener("click", ({ target }) => {
      const button = target.closest("[data-class]");
      if (button) {
        chosen = button.dataset.name;
        refresh();
        trigger("input");
      }
      const instead = target.closest("[data-choose]");
      if (instead) trigger("select", { choose: instead.dataset.choose });
    });
    const changed = () => {
      const shown = element.querySelector(".answers");
      if (!shown) {
        if (picture !== null) show("predict", { example: "", picture: "", of: "", class: "" });
        return;
      }
      const now = JSON.stringify(state.pick ?? state.prediction);
      if (picture !== null && now !== picture) chosen = null;
      picture = now;
      refresh();
    };
    watch("value", changed);
    changed();
  }

  // Maps ask for evidence by "submit", for a channel by "select", and tell that others are shown by "input".
  function maps(element, trigger, watch) {
    let folded = isPhone.matches;
    element.addEventListener("click", (event) => {
      const picture = event.target.closest("a.png");
      if (picture) picture.href = picture.closest("figure").querySelector(".view img").src;
      const ask = event.target.closest("[data-evidence]");
      if (ask) test(ask, trigger);
      const channel = event.target.closest("button.channel");
      if (channel) select(channel, channel.dataset.channel);
      const bars = event.target.closest(".gate-bars");
      if (bars) {
        const { left, width } = bars.getBoundingClientRect();
        const count = Number(bars.dataset.count);
        select(bars, Math.min(Math.floor(((event.clientX - left) / width) * count), count - 1));
      }
      if (event.target.closest("summary")?.parentElement.matches(".fold")) {
        folded = event.target.closest(".fold").open; // it is about to change
      }
    });
    element.addEventListener("change", ({ target }) => {
      if (target.matches("input.channel") && target.value !== "" && target.reportValidity()) {
        select(target, target.value);
      }
      if (target.matches("input[name=method]")) {
        method = target.value;
        refresh();
        trigger("input");
      }
    });
    const changed = () => {
      for (const fold of element.querySelectorAll(".fold")) fold.open = !folded;
      if (element.querySelector(".why")) {
        refresh();
        trigger("input");
      }
    };
    watch?.("value", changed);
    changed();

    const select = ({ dataset }, channel) =>
      trigger("select", { module: dataset.module, side: Number(dataset.side), channel: Number(channel) });
  }

  // Another layer or query is told by "input". What the reader was at keeps the focus when the maps are drawn anew.
  const PLACES = ["input[type=range]", "button[data-query]", '[data-side="0"] .patches', '[data-side="1"] .patches'];

  function heads(element, trigger, watch) {
    let focused = null;
    const choose = (chosenLayer, chosenQuery) => {
      [layer, query] = [chosenLayer, chosenQuery];
      refresh();
      trigger("input");
    };
    const grid = ({ style }) => ["--rows", "--columns"].map((name) => Number(style.getPropertyValue(name)));
    element.addEventListener("click", ({ target, clientX, clientY, detail }) => {
      if (target.closest("[data-query]")) choose(layer, null);
      const patches = target.closest(".patches");
      if (!patches || !detail) return; // by the keyboard, the arrow keys choose
      const { left, top, width, height } = patches.getBoundingClientRect();
      const [rows, columns] = grid(patches);
      const at = (share, count) => Math.min(Math.max(Math.floor(share * count), 0), count - 1) + 1;
      choose(layer, [at((clientY - top) / height, rows), at((clientX - left) / width, columns)]);
    });
    element.addEventListener("keydown", (event) => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      const patches = event.target.closest(".patches");
      if (!patches || !step) return;
      event.preventDefault();
      const counts = grid(patches);
      const from = query ?? counts.map((count) => Math.ceil(count / 2));
      choose(layer, query ? from.map((at, i) => Math.min(Math.max(at + step[i], 1), counts[i])) : from);
    });
    element.addEventListener("input", ({ target }) => {
      if (target.type === "range") target.nextElementSibling.value = `${target.value} of ${target.max}`;
    });
    element.addEventListener("change", ({ target }) => target.type === "range" && choose(Number(target.value), query));
    element.addEventListener("focusin", ({ target }) => (focused = PLACES.find((place) => target.matches(`#heads ${place}`))));
    element.addEventListener("focusout", ({ relatedTarget }) => relatedTarget && (focused = null));
    maps(element, trigger, (name, changed) =>
      watch(name, () => {
        changed();
        refresh();
        if (focused) element.querySelector(focused)?.focus({ preventScroll: true });
      }),
    );
  }

  // The result comes into a place that is kept for it, right below the maps.
  let judged = null; // what the evidence on the page is about

  const panel = () => document.querySelector("#evidence");
  const shownBy = (how) => ({ gates: "", heads: attended() })[how] ?? view();
  const isJudged = () => judged === null || judged.view === shownBy(judged.method);
  const rest = () => panel().classList.remove("testing");

  function test({ dataset }, trigger) {
    const side = Number(dataset.side);
    const isOfClass = dataset.evidence === "class";
    const classes = isOfClass ? indices(sections()[side]) : [Number(dataset.class)];
    const how = isOfClass ? currentMethod() : dataset.evidence;
    judged = { method: how, view: shownBy(how) };
    panel().querySelector(".body").hidden = false;
    panel().classList.add("testing");
    panel().scrollIntoView({ block: "nearest" });
    trigger("submit", { method: how, side, classes, attended: attended() });
  }

  const { isWanted } = window.resnetSpace.picture;

  function evidence(element, props, watch) {
    const told = { get value() { return isWanted(props.value?.of) ? props.value : null; } };
    watch("value", rest);
    window.resnetSpace.report(element, told, watch);
  }

  function channel(element, trigger, watch) {
    maps(element, trigger);
    const check = () => {
      const one = element.querySelector(".one");
      if (one) one.hidden = !isWanted(one.dataset.of);
    };
    watch("value", check);
  }

  function opacity(element) {
    const slider = element.querySelector("input");
    const set = () => {
      document.documentElement.style.setProperty("--map-opacity", slider.value / 100);
      slider.setAttribute("aria-valuetext", `${slider.value} %`);
    };
    slider.addEventListener("input", set);
    set();
  }

  function examples(element, trigger) {
    element.addEventListener("click", ({ target }) => {
      const button = target.closest("[data-example], [data-picture]");
      if (!button) return;
      const { example, picture, of } = button.dataset;
      state.pick = example ? { example } : { picture, of };
      trigger("select", {});
    });
  }

  return { examples, answer, maps, heads, evidence, channel, opacity, view, attended, rest };
})();
