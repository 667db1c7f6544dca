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

  // The result comes into a place that is kept for it, right below the maps.
  let judged = null; // what the evidence on the page is about

  const panel = () => document.querySelector("#evidence");
  const isJudged = () => judged === null || judged.method === "gates" || judged.view === view();
  const rest = () => panel().classList.remove("testing");

  function test({ dataset }, trigger) {
    const side = Number(dataset.side);
    const gates = dataset.evidence === "gates";
    const classes = gates ? [Number(dataset.class)] : indices(sections()[side]);
    judged = { method: gates ? "gates" : currentMethod(), view: view() };
    panel().querySelector(".body").hidden = false;
    panel().classList.add("testing");
    panel().scrollIntoView({ block: "nearest" });
    trigger("submit", { method: judged.method, side, classes });
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

  return { examples, answer, maps, evidence, channel, opacity, view, rest };
})();
