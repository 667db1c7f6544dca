// What the page itself remembers, in one object. This stands in the page's head, so that it is there before any event:
// page.js and predict.js come later.
window.resnetSpace = (() => {
  "use strict";

  const FORM = "resnet_space.form"; // in the browser's storage, for as long as its tab is open
  const FIRST_TAB = "finetune";
  const OURS = new Set(["key", "tab", "run"]); // and whatever a tab shows
  const linked = Object.fromEntries(new URL(window.location).searchParams); // what the page was opened with
  const asked = ["predict", "explore"].includes(linked.tab) ? linked.tab : null;

  // The page opens on the tab that its address names: shown later, another would be built first, and be seen.
  function openOn(tabs, name) {
    const found = window.gradio_config?.components.find(({ props }) => props.elem_id === tabs);
    if (found) found.props.selected = name;
  }
  if (asked) openOn("tabs", asked);
  if (asked === "predict" && linked.view === "many") openOn("predict-mode", "many");

  // Gradio mounts a component when its code is there, and each moves what is below it: on a busy machine the page is
  // seen to jump. What the open tab begins with is shown once all of it is mounted, or after a while without.
  const MOST_HIDDEN = 4000; // milliseconds

  // The ids of what a part of Gradio's layout has to mount at first.
  function mounted({ id, children = [] }, components) {
    const { type, props = {} } = components.get(id) ?? {};
    if (props.visible === false || props.visible === "hidden") return [];
    const own = props.elem_id ? [props.elem_id] : [];
    if (type === "accordion" && !props.open) return own;
    const chosen = type === "tabs" && (props.selected ?? components.get(children[0].id).props.id);
    const begun = chosen ? children.filter((child) => components.get(child.id).props.id === chosen) : children;
    return [...own, ...begun.flatMap((child) => mounted(child, components))];
  }

  function hideUntilMounted({ layout, components }) {
    const wanted = new Set(mounted(layout, new Map(components.map((component) => [component.id, component]))));
    const { classList } = document.documentElement;
    const show = () => classList.remove("mounting");
    function look() {
      for (const id of wanted) if (document.getElementById(id)) wanted.delete(id);
      requestAnimationFrame(wanted.size ? look : show);
    }
    classList.add("mounting");
    setTimeout(() => {
      wanted.clear();
      show();
    }, MOST_HIDDEN);
    look();
  }
  if (window.gradio_config?.layout) hideUntilMounted(window.gradio_config);

  function linkedPick() {
    if (asked !== "predict") return null;
    if (linked.picture) return { picture: linked.picture, of: linked.of || linked.run };
    return linked.example ? { example: linked.example } : null;
  }

  const state = {
    tab: asked ?? FIRST_TAB, // the open one
    arrived: false, // whether all was opened that the address asks for
    run: "", // that all tabs are about
    explored: "", // the run that Explore followed last
    shown: {}, // by tab: what else it shows
    entries: {}, // of the form: its fields, when the page came up, and when it was left, with what was proposed then
    proposed: {}, // by field of the form: the value that was proposed for it last; any other is the visitor's own
    prediction: null, // the picture and the runs that an answer is wanted for
    pick: linkedPick(), // the example or test picture that was chosen; null: a picture of the visitor's own, or none
  };

  // What is looked at is in the page's address, which can be shared and survives a reload: the open tab, and what that
  // tab shows. It takes the place of the address before, so that "back" leaves the page. A key does not stay there.
  function address() {
    if (!state.arrived) return; // the handlers have still to read it
    const url = new URL(window.location);
    for (const name of OURS) url.searchParams.delete(name);
    const parts = { tab: state.tab === FIRST_TAB ? "" : state.tab, run: state.run, ...state.shown[state.tab] };
    for (const [name, value] of Object.entries(parts)) if (value) url.searchParams.set(name, value);
    if (url.href !== window.location.href) window.history.replaceState(null, "", url);
  }

  // A tab was opened. Before the one that the address asks for is, gradio opens the first.
  function open(name) {
    if (asked && name !== asked && !state.arrived) return;
    state.tab = name;
    address();
  }

  // Whether a tab is looked at and `what` its handlers need is there, which a click on the tab may come before.
  const ready = new Set();

  function opens(name, what, isThere) {
    if (isThere) ready.add(what);
    return ready.has(what) && state.tab === name ? "opened" : "";
  }

  // A text that changes if `opens`: what nobody sees is not asked for anew.
  let looks = 0;
  const look = (name, what, before) => (opens(name, what) ? String(++looks) : before);

  function arrive() {
    state.arrived = true;
    state.explored ||= state.run;
    address();
  }

  // All tabs are about another run.
  function subject(run) {
    state.run = run ?? "";
    address();
  }

  // A tab shows something else, such as {with: "name"}; what is empty is not in the address.
  function show(name, parts) {
    for (const part of Object.keys(parts)) OURS.add(part);
    state.shown[name] = { ...state.shown[name], ...parts };
    if (name === state.tab) address();
  }

  // What a visitor has set in the form stays when the page is loaded anew, which Gradio does by itself when the app was
  // away for a while.
  const form = {
    // At once, as what a fast visitor sets while the page is still opening is kept, too, field by field.
    find(first) {
      const [names, values] = [Object.keys(first), Object.values(first)];
      const { kept = [], proposed = {} } = JSON.parse(sessionStorage.getItem(FORM) ?? "{}");
      // As the page comes up, it has what is proposed; what another version of the app has kept has other fields.
      state.proposed = Object.fromEntries(names.map((name, i) => [name, values[i]]));
      state.entries = { names, first: values, kept: kept.length === values.length ? kept : null, proposed };
    },
    keep(...values) {
      sessionStorage.setItem(FORM, JSON.stringify({ kept: values, proposed: state.proposed }));
    },
    // Not over what was set since the page came up; but over what was proposed since.
    takeBack(...values) {
      const { names, first, kept, proposed } = state.entries;
      if (!kept) return values;
      return values.map((value, i) => {
        const name = names[i];
        if (value !== first[i] && value !== state.proposed[name]) return value;
        state.proposed[name] = proposed[name] ?? state.proposed[name];
        return kept[i];
      });
    },
    // What is asked for a proposal, whose last input is to be what was proposed before.
    withProposed: (...values) => [...values.slice(0, -1), { ...state.proposed }],
    // A proposal never goes over what the visitor has set since it was asked for, nor, but for what it is about, over
    // what they had set before.
    takeProposals(proposals, names, now) {
      const found = Object.fromEntries(proposals.map((proposal) => [proposal.field, proposal]));
      return names.map((field, i) => {
        if (!(field in found)) return now[i];
        const { seen, proposed, over } = found[field];
        const own = now[i] !== state.proposed[field];
        return own && !(over && now[i] === seen) ? now[i] : (state.proposed[field] = proposed);
      });
    },
  };

  const picture = {
    // A picture's component says several times that it has changed. While another tab is open, nothing is wanted: the run
    // may be one whose training has just begun.
    want: (...now) => (state.tab === "predict" ? picture.wanted(...now) : state.prediction ?? ""),
    // What an answer is wanted for.
    wanted(shown, run, other) {
      const { pick } = state;
      const isEarly = linked.with && !other; // the run to compare with is still to come
      if (isEarly || (!pick && !shown && state.prediction === null)) return state.prediction ?? "";
      return (state.prediction = JSON.stringify({ ...(pick ?? { path: shown?.path ?? null }), run, other }));
    },
    own(...now) {
      state.pick = null;
      return picture.wanted(...now);
    },
    first(shown, ...runs) {
      // Before anything was chosen: a test picture of the run that is looked at, or an example.
      if (!shown) state.pick ??= runs[0] ? { picture: "first", of: runs[0] } : { example: "cat" };
      return picture.wanted(shown, ...runs);
    },
    // The tab is looked at. Until the page knows its visitor's run, that is left to what follows then.
    looked: (...now) => (state.arrived ? picture.first(...now) : state.prediction ?? ""),
    late(...now) {
      linked.with = "";
      return picture.arrived(...now);
    },
    arrived: (...now) => (state.tab === "predict" ? picture.first(...now) : state.prediction ?? ""),
    // What was asked for a picture and its runs, and comes when others are wanted, is not shown.
    isWanted: (of) => of === state.prediction,
    // The file comes from the server; what was chosen meanwhile is what is wanted.
    take(file, of, now) {
      const { example, picture, of: run } = state.pick ?? {};
      return of && of === (example ?? `${picture}@${run}`) ? file : now;
    },
  };

  // What all scripts draw with. What the reader has unfolded or selected stays so while the text is the same.
  const texts = new WeakMap();

  function put(place, html) {
    if (texts.get(place) === html) return;
    texts.set(place, html);
    place.innerHTML = html;
  }

  const escaped = (text) => String(text).replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);

  return { put, escaped, state, linked, open, opens, look, arrive, subject, show, form, picture };
})();
