// A dataset's pictures as a map: points, and when few of them are in sight the pictures themselves, which come on
// sheets. Drawn on one canvas, as 10,000 elements would be too many to move.
window.resnetSpace.drawMap = (() => {
  "use strict";

  const COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9"]; // plots/palette.py
  const SHAPES = ["circle", "square", "triangle", "diamond", "cross"]; // with the colours: 30 that differ in one of both
  const FINDINGS = ["label may be wrong", "copy", "odd", "no finding"];
  const NONE = 3; // of FINDINGS
  const GREY = "#8a8a8a";
  const MOST_TILES = 700; // in sight, from which on there are points instead of pictures
  const MOST_SHEETS = 48; // that are kept decoded, 0.3 to 2.4 MB each; more than MOST_TILES lie on
  const MOST_SHOWN = 200; // pictures of a selection as a list
  const NEAR = 16; // pixels, within which a picture is pointed at
  const STEP = 60; // pixels that a key moves the map
  const MARGIN = 24;
  const [SLOW, AGAIN] = [25, 200]; // milliseconds of a frame, and between two that are drawn anew while it is dragged
  const BY = { label: "label", predicted: "predicted class", finding: "finding" };

  const make = (tag, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };

  // A point's mark around the middle of a context.
  function mark(pen, shape, r) {
    pen.beginPath();
    if (shape === "circle") pen.arc(0, 0, r, 0, 7);
    else if (shape === "square") pen.rect(-0.9 * r, -0.9 * r, 1.8 * r, 1.8 * r);
    else if (shape === "cross") {
      pen.rect(-r, -0.35 * r, 2 * r, 0.7 * r);
      pen.rect(-0.35 * r, -r, 0.7 * r, 2 * r);
    } else {
      const corners = shape === "diamond" ? 4 : 3;
      for (let i = 0; i < corners; i += 1) {
        const turn = (2 * Math.PI * i) / corners - Math.PI / 2;
        pen.lineTo(1.25 * r * Math.cos(turn), 1.25 * r * Math.sin(turn));
      }
    }
    pen.fill();
  }

  return (place, address, points, changed) => {
    const { x, y, classes, splits } = points;
    const count = x.length;
    const onASheet = points.columns ** 2;
    const state = { by: "label", mode: "move", only: new Set(), k: 1, left: 0, top: 0, at: -1 };
    const selected = new Set();
    const down = new Map(); // the pointers that are, and where
    const sheets = new Map(); // by number: a decoded one, or the promise of it; the last used is last
    const order = new Int32Array(count); // what stands out is drawn last
    let group = []; // of each point, by what it is coloured
    let names = [];
    let glyphs = {};
    let drawing = 0;
    let dragged = null; // the lasso, or the rectangle's corners, in pixels
    let tiled = false;
    // How all was drawn last, and how long that took; where it is slow, it is shifted while the map is dragged.
    const whole = { image: make("canvas"), began: 0, took: 0, k: 0, left: 0, top: 0 };

    const canvas = make("canvas", { tabIndex: 0 });
    canvas.setAttribute("role", "application");
    canvas.setAttribute("aria-label", `Map of ${count.toLocaleString("en")} pictures. Arrows move it, plus and minus `
      + "zoom, 0 shows all. Shift with an arrow goes to the next picture, space selects it.");
    const card = make("div", { className: "card", hidden: true });
    card.setAttribute("aria-live", "polite");
    const by = make("select", {}, ...Object.entries(BY).map(([value, words]) => new Option(words, value)));
    const button = (words, act, label) => {
      const made = make("button", { type: "button", textContent: words, onclick: act });
      if (label) made.setAttribute("aria-label", label);
      return made;
    };
    const modes = { move: "Move", lasso: "Lasso", rectangle: "Rectangle" };
    const switches = Object.entries(modes).map(([mode, words]) => {
      const made = button(words, () => setMode(mode));
      made.dataset.mode = mode;
      return made;
    });
    const legend = make("div", { className: "legend" });
    legend.setAttribute("role", "group");
    legend.setAttribute("aria-label", "Show only");
    const chosen = make("div", { className: "chosen" });
    const list = make("div", { className: "list", hidden: true });
    place.replaceChildren(
      make("div", { className: "tools" },
        make("label", {}, "Colour by ", by),
        make("span", { className: "modes" }, ...switches),
        make("span", {}, button("+", () => zoom(1.5), "Zoom in"), button("−", () => zoom(1 / 1.5), "Zoom out"),
          button("All", fit, "Show all"))),
      make("div", { className: "stage" }, canvas, card), legend, chosen, list);
    const pen = canvas.getContext("2d");

    // What is where

    const width = () => canvas.clientWidth;
    const height = () => canvas.clientHeight;
    const px = (i) => x[i] * state.k + state.left;
    const py = (i) => y[i] * state.k + state.top;
    const isFaded = (i) => state.only.size > 0 && !state.only.has(group[i]);
    const smallest = () => Math.min(width() - 2 * MARGIN, height() - 2 * MARGIN) / points.grid;

    function fit() {
      const [right, bottom] = [Math.max(...x, 1), Math.max(...y, 1)];
      state.k = Math.min((width() - 2 * MARGIN) / right, (height() - 2 * MARGIN) / bottom);
      state.left = (width() - right * state.k) / 2;
      state.top = (height() - bottom * state.k) / 2;
      draw();
    }

    function zoom(factor, cx = width() / 2, cy = height() / 2) {
      const k = Math.min(Math.max(state.k * factor, smallest() / 2), 400 * smallest());
      state.left = cx - ((cx - state.left) * k) / state.k;
      state.top = cy - ((cy - state.top) * k) / state.k;
      state.k = k;
      draw();
    }

    function move(dx, dy) {
      state.left += dx;
      state.top += dy;
      draw();
    }

    function nearest(cx, cy, within) {
      let best = -1;
      let least = within ** 2;
      for (let i = 0; i < count; i += 1) {
        const distance = (px(i) - cx) ** 2 + (py(i) - cy) ** 2;
        if (distance < least && !isFaded(i)) [best, least] = [i, distance];
      }
      return best;
    }

    // Colours

    function colour() {
      const { label, predicted, found } = points;
      if (state.by === "finding") {
        names = FINDINGS;
        group = found.map((bits) => (bits ? Math.log2(bits & -bits) : NONE));
      } else {
        names = [...classes, "unknown"];
        group = (state.by === "label" ? label : predicted).map((of) => (of < 0 ? classes.length : of));
      }
      state.only.clear();
      glyphs = {};
      const outstanding = state.by === "finding" ? (i) => group[i] !== NONE : () => 0;
      const sorted = [...Array(count).keys()].sort((a, b) => outstanding(a) - outstanding(b));
      order.set(sorted);
      const sizes = new Map();
      for (const of of group) sizes.set(of, (sizes.get(of) ?? 0) + 1);
      legend.replaceChildren(...names.map((name, i) => [name, i]).filter(([, i]) => sizes.has(i)).map(([name, i]) => {
        const swatch = make("canvas", { width: 32, height: 32 });
        const ink = swatch.getContext("2d");
        ink.translate(16, 16);
        ink.fillStyle = looks(i)[0];
        mark(ink, looks(i)[1], 11);
        const made = make("button", { type: "button" }, swatch, name,
          make("span", { className: "subdued", textContent: sizes.get(i).toLocaleString("en") }));
        made.setAttribute("aria-pressed", "false");
        made.onclick = () => {
          const on = !state.only.delete(i);
          if (on) state.only.add(i);
          made.setAttribute("aria-pressed", String(on));
          draw();
        };
        return made;
      }));
      draw();
    }

    function looks(of) {
      const plain = of === (state.by === "finding" ? NONE : classes.length);
      return plain ? [GREY, "circle"] : [COLOURS[of % COLOURS.length], SHAPES[of % SHAPES.length]];
    }

    // A mark as a picture, which is copied faster than it is drawn.
    function glyph(of, radius) {
      return (glyphs[`${of} ${radius}`] ??= (() => {
        const ratio = window.devicePixelRatio;
        const side = Math.ceil(2.6 * radius * ratio);
        const made = make("canvas", { width: side, height: side });
        const ink = made.getContext("2d");
        ink.translate(side / 2, side / 2);
        const [fill, shape] = of < 0 ? [GREY, "circle"] : looks(of);
        ink.globalAlpha = of < 0 ? 0.22 : fill === GREY ? 0.45 : 0.9;
        ink.fillStyle = fill;
        mark(ink, shape, radius * ratio);
        return made;
      })());
    }

    // Pictures

    function sheet(number) {
      const known = sheets.get(number);
      sheets.delete(number);
      sheets.set(number, known ?? fetch(`${address}/sheet-${number}.jpg`)
        .then((answer) => answer.blob()).then(createImageBitmap)
        .then((bitmap) => {
          if (sheets.has(number)) sheets.set(number, bitmap);
          draw();
        }, () => sheets.delete(number)));
      while (sheets.size > MOST_SHEETS) {
        const [oldest, bitmap] = sheets.entries().next().value;
        bitmap.close?.();
        sheets.delete(oldest);
      }
      return known instanceof ImageBitmap ? known : null;
    }

    function cell(i) {
      const at = i % onASheet;
      return [(at % points.columns) * points.side, Math.floor(at / points.columns) * points.side];
    }

    function picture(ink, i, left, top, side) {
      const from = sheet(Math.floor(i / onASheet));
      if (from) ink.drawImage(from, ...cell(i), points.side, points.side, left, top, side, side);
      return Boolean(from);
    }

    // Drawing

    function draw() {
      drawing ||= requestAnimationFrame(() => {
        drawing = 0;
        paint();
      });
    }

    function paint() {
      const ratio = window.devicePixelRatio;
      const [w, h] = [width(), height()];
      if (!w) return;
      const began = performance.now();
      const moves = down.size === 1 && !dragged && whole.k === state.k;
      if (moves && whole.took > SLOW && began - whole.began < AGAIN) {
        pen.setTransform(1, 0, 0, 1, 0, 0);
        pen.clearRect(0, 0, canvas.width, canvas.height);
        pen.drawImage(whole.image, (state.left - whole.left) * ratio, (state.top - whole.top) * ratio);
        draw();
        return;
      }
      const style = getComputedStyle(canvas);
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      pen.clearRect(0, 0, w, h);
      const seen = [];
      let inside = 0;
      for (const i of order) {
        const [cx, cy] = [px(i), py(i)];
        if (cx > -48 && cy > -48 && cx < w + 48 && cy < h + 48) seen.push(i);
        if (cx > 0 && cy > 0 && cx < w && cy < h) inside += 1;
      }
      tiled = inside <= MOST_TILES;
      const side = Math.round(Math.min(Math.max(0.6 * Math.sqrt((w * h) / Math.max(inside, 1)), 20), 96));
      const radius = tiled ? 5 : Math.min(Math.max(2.4 * (state.k / smallest()) ** 0.35, 2.4), 5);
      const rounded = Math.round(2 * radius) / 2;
      const stamp = (of, cx, cy) => {
        const found = state.by === "finding" && of >= 0;
        const made = glyph(of, found && of !== NONE ? Math.max(rounded, 5) : rounded);
        const size = made.width / ratio;
        pen.drawImage(made, cx - size / 2, cy - size / 2, size, size);
      };
      for (const faded of [true, false]) {
        for (const i of seen) {
          if (isFaded(i) !== faded) continue;
          const [cx, cy] = [px(i), py(i)];
          if (faded || !tiled) stamp(faded ? -1 : group[i], cx, cy);
          else {
            const [left, top] = [Math.round(cx - side / 2), Math.round(cy - side / 2)];
            pen.fillStyle = looks(group[i])[0];
            pen.fillRect(left - 2, top - 2, side + 4, side + 4);
            if (picture(pen, i, left, top, side)) {
              pen.fillStyle = style.backgroundColor;
              pen.fillRect(left - 2, top - 2, 14, 14);
              stamp(group[i], left + 5, top + 5);
            }
          }
        }
      }
      const reach = tiled ? side / 2 + 4 : rounded + 3;
      const around = (i, thick) => {
        pen.lineWidth = thick;
        pen.strokeStyle = style.color;
        pen.beginPath();
        if (tiled) pen.rect(px(i) - reach, py(i) - reach, 2 * reach, 2 * reach);
        else pen.arc(px(i), py(i), reach, 0, 7);
        pen.stroke();
      };
      for (const i of seen) if (selected.has(i)) around(i, 1.5);
      if (state.at >= 0) around(state.at, 3);
      if (dragged) {
        pen.setLineDash([5, 4]);
        pen.lineWidth = 1.5;
        pen.strokeStyle = style.color;
        pen.beginPath();
        for (const [cx, cy] of outline()) pen.lineTo(cx, cy);
        pen.closePath();
        pen.stroke();
        pen.setLineDash([]);
      }
      Object.assign(whole, { began, k: state.k, left: state.left, top: state.top });
      requestAnimationFrame(() => (whole.took = performance.now() - began));
      if (whole.took > SLOW && down.size) {
        Object.assign(whole.image, { width: canvas.width, height: canvas.height });
        whole.image.getContext("2d").drawImage(canvas, 0, 0);
      } else whole.k = 0;
      tell();
    }

    // The picture that is pointed at

    let told = -1;
    function tell() {
      const i = state.at;
      card.hidden = i < 0;
      if (i < 0) return (told = -1);
      if (told !== i || !card.dataset.drawn) {
        const shown = make("canvas", { width: points.side, height: points.side });
        card.dataset.drawn = picture(shown.getContext("2d"), i, 0, 0, points.side) ? "yes" : "";
        if (points.side <= 32) shown.style.imageRendering = "pixelated";
        card.replaceChildren(shown, make("div", {}, ...described(i).map((words) => make("p", { textContent: words }))));
        told = i;
      }
      const [cx, cy] = [px(i), py(i)];
      const [w, h] = [card.offsetWidth, card.offsetHeight];
      const beside = cx + 18 + w < width() ? cx + 18 : cx - 18 - w;
      const narrow = beside < 4; // it is then above or below
      card.style.left = `${Math.max(beside, 4)}px`;
      const away = cy > height() / 2 ? 4 : height() - h - 4;
      card.style.top = `${narrow ? away : Math.min(Math.max(cy - 40, 4), Math.max(height() - h - 4, 4))}px`;
      return told;
    }

    function described(i) {
      const predicted = classes[points.predicted[i]];
      const name = points.file[i] ? ` (${points.file[i]})` : "";
      return [`Label: ${classes[points.label[i]]}`, ...(predicted ? [`Predicted: ${predicted}`] : []),
        ...(points.words[i] ?? []), `${splits[points.split[i]]}, row ${points.row[i]}${name}`];
    }

    function pointAt(i) {
      if (i === state.at) return;
      state.at = i;
      draw();
    }

    // Selecting

    function outline() {
      if (state.mode === "lasso") return dragged;
      const [[a, b], [c, d]] = [dragged[0], dragged.at(-1)];
      return [[a, b], [c, b], [c, d], [a, d]];
    }

    function enclosed(shape) {
      const found = [];
      for (let i = 0; i < count; i += 1) {
        if (isFaded(i)) continue;
        const [cx, cy] = [px(i), py(i)];
        let inside = false;
        for (let a = 0, b = shape.length - 1; a < shape.length; b = a, a += 1) {
          const [[ax, ay], [bx, by]] = [shape[a], shape[b]];
          if (ay > cy !== by > cy && cx < ((bx - ax) * (cy - ay)) / (by - ay) + ax) inside = !inside;
        }
        if (inside) found.push(i);
      }
      return found;
    }

    function select(rows, more) {
      if (!more) selected.clear();
      for (const i of rows) selected.add(i);
      told = -1;
      choose();
    }

    function toggle(i) {
      if (!selected.delete(i)) selected.add(i);
      choose();
    }

    function choose() {
      const number = selected.size.toLocaleString("en");
      const rows = () => [...selected].map((i) => ({ split: splits[points.split[i]], index: points.row[i] }));
      const show = button(list.hidden ? "Show" : "Hide", () => {
        list.hidden = !list.hidden;
        choose();
      });
      chosen.replaceChildren(...(selected.size
        ? [make("span", { textContent: `${number} selected` }),
          button(`Review ${selected.size === 1 ? "this one" : `these ${number}`}`, () => document.dispatchEvent(
            new CustomEvent("review-pictures", { detail: rows() }))),
          show, button("Clear", () => select([]))]
        : [make("span", { className: "subdued",
          textContent: "Select pictures with the lasso or the rectangle; with Shift, more of them." })]));
      if (!selected.size) list.hidden = true;
      const shown = list.hidden ? [] : [...selected].slice(0, MOST_SHOWN);
      list.replaceChildren(...shown.map((i) => {
        const [left, top] = cell(i);
        const image = make("span", { className: "tile" });
        const side = 72 / points.side;
        Object.assign(image.style, {
          backgroundImage: `url("${address}/sheet-${Math.floor(i / onASheet)}.jpg")`,
          backgroundPosition: `-${left * side}px -${top * side}px`,
          backgroundSize: `${points.columns * 72}px auto`,
        });
        image.title = described(i).join("\n");
        return make("figure", {}, image, make("figcaption", { textContent: classes[points.label[i]] }));
      }));
      if (!list.hidden && selected.size > MOST_SHOWN) {
        list.append(make("p", { className: "note", textContent: `and ${selected.size - MOST_SHOWN} more` }));
      }
      draw();
    }

    function setMode(mode) {
      state.mode = mode;
      for (const made of switches) made.setAttribute("aria-pressed", String(made.dataset.mode === mode));
      canvas.dataset.mode = mode;
    }

    // The pointer: one moves, draws, or points; two move and zoom.

    let travelled = 0;
    const where = ({ clientX, clientY }) => {
      const box = canvas.getBoundingClientRect();
      return [clientX - box.left, clientY - box.top];
    };

    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      down.set(event.pointerId, where(event));
      travelled = down.size > 1 ? Infinity : 0;
      dragged = down.size === 1 && state.mode !== "move" ? [where(event)] : null;
    });
    canvas.addEventListener("pointermove", (event) => {
      const now = where(event);
      const before = down.get(event.pointerId);
      if (!before) {
        if (event.pointerType === "mouse") pointAt(nearest(...now, reachable()));
        return;
      }
      const [dx, dy] = [now[0] - before[0], now[1] - before[1]];
      travelled += Math.hypot(dx, dy);
      if (down.size === 2) {
        const other = [...down].find(([id]) => id !== event.pointerId)[1];
        const apart = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]);
        zoom(apart(now) / Math.max(apart(before), 1), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
        move(dx / 2, dy / 2);
      } else if (dragged) {
        dragged.push(now);
        draw();
      } else if (down.size === 1) move(dx, dy);
      down.set(event.pointerId, now);
    });
    const lift = (event) => {
      if (!down.delete(event.pointerId)) return;
      if (dragged && travelled > 6 && event.type === "pointerup") select(enclosed(outline()), event.shiftKey);
      else if (travelled <= 6) {
        pointAt(nearest(...where(event), reachable()));
        if (state.at >= 0 && (event.ctrlKey || event.metaKey || event.shiftKey)) toggle(state.at);
      }
      dragged = null;
      draw();
    };
    const reachable = () => (tiled ? 30 : NEAR);
    canvas.addEventListener("pointerup", lift);
    canvas.addEventListener("pointercancel", lift);
    canvas.addEventListener("pointerleave", ({ pointerType }) => pointerType === "mouse" && !down.size && pointAt(-1));
    // Where all is seen already, the wheel scrolls the page.
    canvas.addEventListener("wheel", (event) => {
      if (event.deltaY > 0 && state.k <= smallest()) return;
      event.preventDefault();
      const lines = event.deltaMode === 1 ? 16 : 1;
      zoom(Math.exp(-Math.max(Math.min(event.deltaY * lines, 120), -120) / 300), ...where(event));
    }, { passive: false });

    const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    canvas.addEventListener("keydown", (event) => {
      const arrow = ARROWS[event.key];
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (arrow && event.shiftKey) next(arrow);
      else if (arrow) move(-STEP * arrow[0], -STEP * arrow[1]);
      else if (["+", "="].includes(event.key)) zoom(1.5);
      else if (event.key === "-") zoom(1 / 1.5);
      else if (event.key === "0") fit();
      else if (event.key === " " && state.at >= 0) toggle(state.at);
      else if (event.key === "Escape" && selected.size) select([]);
      else return;
      event.preventDefault();
    });

    // The nearest picture in a direction, from the one that is pointed at, or else that in the middle.
    function next([dx, dy]) {
      if (state.at < 0) return pointAt(nearest(width() / 2, height() / 2, Infinity));
      const [cx, cy] = [px(state.at), py(state.at)];
      let best = -1;
      let least = Infinity;
      for (let i = 0; i < count; i += 1) {
        const [ax, ay] = [px(i) - cx, py(i) - cy];
        const ahead = ax * dx + ay * dy;
        const aside = Math.abs(ax * dy) + Math.abs(ay * dx);
        if (ahead > 0.5 && aside <= ahead && ahead + aside < least && !isFaded(i)) [best, least] = [i, ahead + aside];
      }
      if (best < 0) return undefined;
      pointAt(best);
      const [ax, ay] = [px(best), py(best)];
      const outside = ax < MARGIN || ay < MARGIN || ax > width() - MARGIN || ay > height() - MARGIN;
      return outside && move(width() / 2 - ax, height() / 2 - ay);
    }

    let sized = 0;
    new ResizeObserver(() => {
      const ratio = window.devicePixelRatio;
      Object.assign(canvas, { width: width() * ratio, height: height() * ratio });
      if (width() && sized !== width()) fit();
      sized = width() || sized;
      draw();
    }).observe(canvas);
    new MutationObserver(draw).observe(document.body, { attributeFilter: ["class"] }); // light and dark
    by.onchange = () => {
      state.by = by.value;
      colour();
      changed(state.by);
    };
    setMode("move");
    choose();
    colour();
  };
})();
