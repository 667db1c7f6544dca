// What the page does by itself: it draws what the server's event stream says of the runs that it shows.
Object.assign(window.resnetSpace, (() => {
  "use strict";

  const { put, show, state } = window.resnetSpace;
  const CONFIG = { responsive: true, displaylogo: false };
  const NARROW = 370; // pixels
  const MOST_ABOVE = 2; // names in the one line above a plot

  // Gradio's, which changes no address. With it, Plotly names what cuts a plot at its axes by the page's address of the
  // moment: after a change of that, nothing is cut, and the browser fetches the whole page anew to look for it.
  document.querySelector('base[href="./"]')?.remove();

  // What a chart is to show, by its element. Drawing costs the reader's machine, which may be the one that trains, more
  // than all else here: so what did not change is not drawn again, and what nobody sees only when it is seen.
  const figures = new WeakMap();

  // Plotly's library is large, and a page that shows no chart is there sooner without it.
  let library = null;

  const plotly = () => (library ??= new Promise((onload, onerror) => {
    document.head.append(Object.assign(document.createElement("script"), { src: "plotly.min.js", onload, onerror }));
  }));

  if (state.tab !== "predict") plotly();

  const resized = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (!target.offsetWidth) continue;
      if (target.data) Plotly.Plots.resize(target);
      render(target);
    }
  });
  // What is in the window, or nearly: a reader who scrolls is not to see how it is drawn.
  const near = new WeakSet();
  const seen = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      near[isIntersecting ? "add" : "delete"](target);
      render(target);
    }
  }, { rootMargin: "300px" });

  addEventListener("beforeprint", () => {
    for (const chart of document.querySelectorAll(".chart")) if (figures.has(chart)) render(chart, chart.offsetWidth);
  });

  // "uirevision" in the layout keeps the reader's zoom and hidden curves over a redraw.
  function render(chart, wanted = near.has(chart)) {
    const { text, drawn, wasNarrow, wasEmpty } = figures.get(chart);
    const narrow = chart.offsetWidth < NARROW;
    if ((text === drawn && narrow === wasNarrow) || !wanted) return;
    if (!window.Plotly) {
      plotly().then(() => render(chart, wanted));
      return;
    }
    const { data, layout, frames } = JSON.parse(text);
    const empty = !data.some((trace) => trace.x?.length);
    figures.set(chart, { text, drawn: text, wasNarrow: narrow, wasEmpty: empty });
    // Or a double click would go back to the range that the empty chart had.
    if (wasEmpty && !empty) Plotly.purge(chart);
    const names = data.filter((trace) => trace.showlegend !== false).length;
    const category = layout.xaxis?.type === "category";
    if (narrow) for (const trace of data) if (trace.meta === "roomy") trace.mode = "markers"; // names would overlap
    if (narrow && category) layout.xaxis.tickangle = -60; // or the names overlap
    const room = category || layout.xaxis?.ticktext ? 90 : 56; // names under the axis may be slanted
    if (layout.legend.orientation === "h" && (narrow || names > MOST_ABOVE)) legendBelow(layout, names, room);
    breakTitle(layout, chart);
    Plotly.react(chart, data, layout, CONFIG)
      .then(() => frames && animate(chart, frames))
      .then(() => chart.dispatchEvent(new Event("drawn")));
  }

  // On a phone, and of many runs, the names take more lines than there are above the plot. The axis has `room` pixels.
  function legendBelow(layout, names, room) {
    const { t, b } = layout.margin;
    layout.legend = { ...layout.legend, y: -room / (layout.height - t - b), yanchor: "top" };
    layout.margin = { ...layout.margin, t: 40 };
    layout.height += 20 + 20 * Math.ceil(names / 2);
  }

  // A title that is wider than its chart takes two lines.
  function breakTitle(layout, chart) {
    const { text, font, pad } = layout.title;
    const pen = document.createElement("canvas").getContext("2d");
    pen.font = `${font.size}px "Open Sans", verdana, arial, sans-serif`; // which Plotly writes with
    const fits = (words) => pen.measureText(words.join(" ")).width <= chart.offsetWidth - pad.l;
    const words = text.split(" ");
    let end = words.length;
    while (end > 1 && !fits(words.slice(0, end))) end -= 1;
    if (end === words.length) return;
    layout.title = { ...layout.title, text: `${words.slice(0, end).join(" ")}<br>${words.slice(end).join(" ")}` };
    layout.margin = { ...layout.margin, t: layout.margin.t + 18 };
    layout.height += 18;
  }

  // The frames of an animation, in the place of those before.
  async function animate(chart, frames) {
    const old = chart._transitionData?._frames?.length ?? 0;
    if (old) await Plotly.deleteFrames(chart, [...Array(old).keys()]);
    await Plotly.addFrames(chart, frames);
  }

  function draw(chart, figure) {
    const isNew = !figures.has(chart);
    figures.set(chart, { ...figures.get(chart), text: JSON.stringify(figure) });
    if (isNew) for (const observer of [resized, seen]) observer.observe(chart);
    render(chart);
  }

  // One stream of events for the runs in the component's value: {"runs": [names]}, the first of which the page is about.
  // Each event has all that is shown,
  // so that nothing is lost by a broken connection; the browser connects again by itself.
  function live(element, props, trigger, watch) {
    let source = null;
    let runs = null;
    let key = null;

    function receive(event) {
      const message = JSON.parse(event.data);
      // Read-only, the page has no place for what trains.
      for (const [place, html] of [["#status .live", message.status], ["#result .live", message.result]]) {
        const found = document.querySelector(place);
        if (found) put(found, html);
      }
      put(element.querySelector(".table"), message.table);
      for (const [name, figure] of Object.entries(message.figures)) {
        draw(element.querySelector(`[data-chart="${name}"]`), figure);
      }
      // A run was started, ended or deleted: the server says which buttons and choices there are now.
      if (key !== null && key !== message.key) trigger("submit");
      key = message.key;
    }

    function connect() {
      const wanted = props.value?.runs?.join(",") ?? null;
      if (wanted === runs) return; // as long as the server has not said which there are, nothing is said of them
      runs = wanted;
      source?.close();
      show("finetune", { with: runs.split(",").slice(1).join(",") });
      source = new EventSource(`live?runs=${encodeURIComponent(runs)}`);
      source.onmessage = receive;
    }

    watch("value", connect);
    connect();
  }

  // A chart whose clicks the server answers: it is told the clicked point's x and y.
  function clickable(element, props, trigger, watch, told = ({ x, y }) => ({ x, y })) {
    const chart = element.querySelector(".chart");

    function redraw() {
      const figure = props.value?.data ? props.value : null;
      chart.hidden = !figure && !chart.style.minHeight; // room may be kept for it
      if (figure) draw(chart, figure);
    }

    // Plotly gives a chart its own events when it is drawn, and takes them back when it begins anew.
    chart.addEventListener("drawn", () => {
      chart.removeAllListeners("plotly_click");
      chart.on("plotly_click", ({ points: [point] }) => trigger("select", told(point)));
    });
    watch("value", redraw);
    redraw();
  }

  // The same for points that the server knows by their "customdata".
  function points(element, props, trigger, watch) {
    clickable(element, props, trigger, watch, ({ customdata }) => ({ point: customdata }));
  }

  // Text with charts in it: {"html": ..., "figures": {name: chart}}, where [data-chart="name"] is the place of each.
  function report(element, props, watch) {
    const body = element.querySelector(".body");

    function redraw() {
      body.innerHTML = props.value?.html ?? "";
      for (const [name, figure] of Object.entries(props.value?.figures ?? {})) {
        draw(body.querySelector(`[data-chart="${name}"]`), figure);
      }
    }

    watch("value", redraw);
    redraw();
  }

  // What a view gives to take away.
  const exports = {
    buttons(element, trigger) {
      element.addEventListener("click", ({ target }) => {
        const { what } = target.dataset;
        if (what) trigger("select", { what, size: element.querySelector("select").value });
      });
    },
    // The file's address is in its component's value by the time that this runs.
    take(file, code) {
      if (!file) {
        // Browsers let a page write to the clipboard on https and on one's own machine only: else the code is there.
        if (code) navigator.clipboard?.writeText(code).catch(() => {});
        return;
      }
      const link = document.createElement("a");
      Object.assign(link, { href: file.url, download: file.orig_name ?? "" });
      link.click();
    },
  };

  // A report whose buttons the server answers: it is told the pressed one's "data-network".
  function networks(element, props, trigger, watch) {
    element.addEventListener("click", ({ target }) => {
      const pressed = target.closest("button[data-network]");
      if (pressed) trigger("select", { network: pressed.dataset.network });
    });
    report(element, props, watch);
  }

  // The map of a check's pictures: the button that starts it, how far it is, and the map, which another script draws.
  function dataMap(element, props, trigger, watch) {
    const [drawn, told] = element.querySelectorAll(".drawn, .told");
    let shown = null;
    let asking = 0;

    function press(words, act) {
      const button = document.createElement("button");
      Object.assign(button, { type: "button", textContent: words });
      button.onclick = () => {
        button.disabled = true;
        act();
      };
      told.append(button);
    }

    async function redraw() {
      const { html, map, running, may } = props.value ?? {};
      clearInterval(asking);
      put(told, html ?? "");
      told.querySelector(":scope > button")?.remove();
      if (running) {
        press("Stop drawing", () => trigger("select", { what: "stop" }));
        // Not after each answer: one like that before changes nothing, and is not heard of.
        asking = setInterval(() => trigger("select", { what: "look" }), 1000);
      } else if (html && !map && may) press("Draw the map", () => trigger("submit"));
      if (map === shown) return;
      shown = map;
      drawn.replaceChildren();
      if (!map) return;
      const answer = await fetch(`map/${map}/points.json.gz`);
      if (!answer.ok || map !== shown) return;
      const points = await answer.json();
      window.resnetSpace.drawMap(drawn, `map/${map}`, points, (by) => (props.value = { ...props.value, by }));
    }

    watch("value", redraw);
    redraw();
  }

  return { live, clickable, points, report, networks, exports, dataMap };
})());
