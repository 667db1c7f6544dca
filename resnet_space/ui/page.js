// What the page does by itself: it draws what the server's event stream says of the runs that it shows.
window.resnetSpace = (() => {
  "use strict";

  const CONFIG = { responsive: true, displaylogo: false };
  const NARROW = 370; // pixels
  const MOST_ABOVE = 2; // names in the one line above a plot

  // What a chart is to show, by its element. Drawing costs the reader's machine, which may be the one that trains, more
  // than all else here: so what did not change is not drawn again, and what nobody sees only when it is seen.
  const figures = new WeakMap();

  const seen = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (!target.offsetWidth) continue;
      if (target.data) Plotly.Plots.resize(target);
      render(target);
    }
  });

  // "uirevision" in the layout keeps the reader's zoom and hidden curves over a redraw.
  function render(chart) {
    const { text, drawn, wasNarrow, wasEmpty } = figures.get(chart);
    const narrow = chart.offsetWidth < NARROW;
    if ((text === drawn && narrow === wasNarrow) || !chart.offsetWidth) return;
    const { data, layout } = JSON.parse(text);
    const empty = !data.some((trace) => trace.x?.length);
    figures.set(chart, { text, drawn: text, wasNarrow: narrow, wasEmpty: empty });
    // Or a double click would go back to the range that the empty chart had.
    if (wasEmpty && !empty) Plotly.purge(chart);
    const names = data.filter((trace) => trace.showlegend !== false).length;
    if (narrow || (layout.legend.orientation === "h" && names > MOST_ABOVE)) legendBelow(layout, names);
    Plotly.react(chart, data, layout, CONFIG).then(() => chart.dispatchEvent(new Event("drawn")));
  }

  // On a phone, and of many runs, the names take more lines than there are above the plot.
  function legendBelow(layout, names) {
    layout.legend = { ...layout.legend, y: -0.28, yanchor: "top" };
    layout.margin = { ...layout.margin, t: 40 };
    layout.height += 20 + 20 * Math.ceil(names / 2);
  }

  function draw(chart, figure) {
    if (!figures.has(chart)) seen.observe(chart);
    figures.set(chart, { ...figures.get(chart), text: JSON.stringify(figure) });
    render(chart);
  }

  // What the reader has unfolded or selected stays so while the text is the same.
  const texts = new WeakMap();

  function put(place, html) {
    if (texts.get(place) === html) return;
    texts.set(place, html);
    place.innerHTML = html;
  }

  // The shown runs are in the page's address, which can be shared and survives a reload. A key does not stay there.
  function address(runs) {
    const url = new URL(window.location);
    url.searchParams.delete("key");
    if (runs) url.searchParams.set("run", runs);
    window.history.replaceState(null, "", url);
  }

  // One stream of events for the runs in the component's value: {"runs": [names]}. Each event has all that is shown,
  // so that nothing is lost by a broken connection; the browser connects again by itself.
  function live(element, props, trigger, watch) {
    let source = null;
    let runs = null;
    let key = null;

    function show(event) {
      const message = JSON.parse(event.data);
      put(document.querySelector("#status .live"), message.status);
      put(element.querySelector(".table"), message.table);
      for (const [name, figure] of Object.entries(message.figures)) {
        draw(element.querySelector(`[data-chart="${name}"]`), figure);
      }
      // A run was started, ended or deleted: the server says which buttons and choices there are now.
      if (key !== null && key !== message.key) trigger("submit");
      key = message.key;
    }

    function connect() {
      const wanted = (props.value?.runs ?? []).join(",");
      if (wanted === runs) return;
      runs = wanted;
      source?.close();
      address(runs);
      source = new EventSource(`live?runs=${encodeURIComponent(runs)}`);
      source.onmessage = show;
    }

    watch("value", connect);
    connect();
  }

  // A chart whose clicks the server answers: the clicked point's x and y.
  function clickable(element, props, trigger, watch) {
    const chart = element.querySelector(".chart");

    function show() {
      if (props.value?.data) draw(chart, props.value);
    }

    // Plotly gives a chart its own events when it is first drawn.
    const listen = () => chart.on("plotly_click", ({ points: [{ x, y }] }) => trigger("select", { x, y }));
    chart.addEventListener("drawn", listen, { once: true });
    watch("value", show);
    show();
  }

  return { live, clickable };
})();
