// What the Explore tab keeps in the page's address: the network and images that were measured, the open view, and what
// only this view has. Each part is told when it is on the page.
window.resnetSpace.explore = (() => {
  "use strict";

  const FIRST = "norms";
  const parts = {}; // by view, and "all" for what every view has: {name: value}
  let view = new URL(window.location).searchParams.get("view") ?? FIRST;

  function address() {
    const absent = Object.values(parts).flatMap((part) => Object.keys(part).map((name) => [name, ""]));
    const shown = { ...Object.fromEntries(absent), ...parts.all, ...parts[view] };
    window.resnetSpace.show("explore", { ...shown, view: view === FIRST ? "" : view });
  }

  // Of "compare": "with=resnet56-cifar10".
  function shows(part, text) {
    parts[part] = Object.fromEntries(new URLSearchParams(text));
    address();
  }

  function open(id) {
    view = id;
    address();
  }

  // The inputs of an event, of which the first is the open view; it is empty while another tab is open.
  const inputs = (_, ...others) => [window.resnetSpace.state.tab === "explore" ? view : "", ...others];

  function openWith(id, values) {
    if (window.resnetSpace.state.arrived) open(id); // before, gradio opens the first
    return inputs(...values);
  }

  // The views come into sight, as after a click on a question.
  function reveal() {
    document.querySelector("#explore-shown")?.scrollIntoView({ block: "start", behavior: "smooth" });
  }

  // A click on a thumbnail, told by its number.
  function thumbnails(element, trigger) {
    element.addEventListener("click", ({ target }) => {
      const index = target.closest("button")?.dataset.index;
      if (index !== undefined) trigger("select", { index: Number(index) });
    });
  }

  return { shows, open, inputs, openWith, reveal, thumbnails };
})();
