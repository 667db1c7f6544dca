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

  let opening = new URL(window.location).searchParams.get("tab") === "explore"; // the server measures what is asked for
  let asked = 0;
  let clicked = false; // whether another view was opened meanwhile

  // The open view may need a measurement: the text changes where it does. `id`: of the view that was just opened.
  function ask(id) {
    if (opening) {
      if (id && id !== FIRST) [view, clicked] = [id, id !== view || clicked]; // gradio opens the first by itself
      return `${asked}`;
    }
    if (id) open(id);
    if (window.resnetSpace.state.tab === "explore") asked += 1;
    return `${asked}`;
  }

  // What the address asks for is there.
  function ready() {
    opening = false;
    return clicked ? ask(view) : `${asked}`;
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

  return { shows, open, inputs, ask, ready, reveal, thumbnails };
})();
