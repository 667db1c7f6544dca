// What the predict tab does by itself: which class's maps are shown, how opaque maps are, and what a click asks for.
window.resnetSpace.predict = (() => {
  "use strict";

  const rowsOf = (side) => [...document.querySelectorAll(`#why .why[data-side="${side}"]`)];

  // The maps of the best class, and of the chosen one or the runner-up, so that there are always two to compare.
  function choose(side, index) {
    for (const button of document.querySelectorAll(`#answer [data-side="${side}"] [data-class]`)) {
      button.setAttribute("aria-pressed", String(button.dataset.class === index));
    }
    const rows = rowsOf(side);
    const chosen = Math.max(rows.findIndex((row) => row.dataset.class === index), 0);
    rows.forEach((row, place) => (row.hidden = place !== 0 && place !== (chosen || 1)));
  }

  // In the other run's answer the class of the same name has another number.
  function chooseByName(button) {
    const { side } = button.closest("[data-side]").dataset;
    choose(side, button.dataset.class);
    for (const other of document.querySelectorAll("#answer [data-class]")) {
      const otherSide = other.closest("[data-side]").dataset.side;
      if (otherSide !== side && other.dataset.name === button.dataset.name) choose(otherSide, other.dataset.class);
    }
  }

  function asked({ dataset }) {
    return { kind: dataset.evidence, side: Number(dataset.side), index: Number(dataset.class) };
  }

  // Another run to ask is told by "select".
  function answer(element, trigger, watch) {
    element.addEventListener("click", ({ target }) => {
      const button = target.closest("[data-class]");
      if (button) chooseByName(button);
      const instead = target.closest("[data-choose]");
      if (instead) trigger("select", { choose: instead.dataset.choose });
    });
    let answered = false;
    const tell = () => {
      const shown = element.querySelector(".answers");
      if (shown) {
        const { run, example, with: other } = shown.dataset;
        window.resnetSpace.show("predict", { run, example, with: other });
      } else if (answered) window.resnetSpace.show("predict", { example: "" });
      answered ||= Boolean(shown);
    };
    watch("value", tell);
    tell();
  }

  // Maps ask for evidence by "submit", and for a channel by "select".
  function maps(element, trigger) {
    element.addEventListener("click", (event) => {
      const picture = event.target.closest("a.png");
      if (picture) picture.href = picture.closest("figure").querySelector(".view img").src;
      const ask = event.target.closest("[data-evidence]");
      if (ask) trigger("submit", asked(ask));
      const channel = event.target.closest("button.channel");
      if (channel) select(channel, channel.dataset.channel);
      const bars = event.target.closest(".bars");
      if (bars) {
        const { left, width } = bars.getBoundingClientRect();
        const count = Number(bars.dataset.count);
        select(bars, Math.min(Math.floor(((event.clientX - left) / width) * count), count - 1));
      }
    });
    element.addEventListener("change", ({ target }) => {
      if (target.matches("input.channel") && target.value !== "" && target.reportValidity()) {
        select(target, target.value);
      }
    });

    const select = ({ dataset }, channel) =>
      trigger("select", { module: dataset.module, side: Number(dataset.side), channel: Number(channel) });
  }

  const { isWanted, chooseExample } = window.resnetSpace.picture;

  function evidence(element, props, watch) {
    const told = { get value() { return isWanted(props.value?.of) ? props.value : null; } };
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
      const button = target.closest("[data-example]");
      if (!button) return;
      chooseExample(button.dataset.example);
      trigger("select", { name: button.dataset.example });
    });
  }

  return { examples, answer, maps, evidence, channel, opacity };
})();
