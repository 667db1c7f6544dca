// What the page itself remembers, in one object. This stands in the page's head, so that it is there before any event:
// page.js and predict.js come later.
window.resnetSpace = (() => {
  "use strict";

  const FORM = "resnet_space.form"; // in the browser's storage, for as long as its tab is open
  const FIRST_TAB = "finetune";
  const OURS = ["key", "tab", "run", "with", "example"];
  const asked = new URL(window.location).searchParams.get("tab");

  const state = {
    tab: asked ?? FIRST_TAB, // the open one
    arrived: false, // whether all was opened that the address asks for
    shown: {}, // by tab: what it shows
    entries: { first: [], kept: [] }, // of the form: when the page came up, and when it was left
    proposed: {}, // by field of the form: the value that was proposed for it
    prediction: null, // the picture and the runs that an answer is wanted for
    example: null, // the example that was chosen
  };

  // What is looked at is in the page's address, which can be shared and survives a reload: the open tab, and what that
  // tab shows. It takes the place of the address before, so that "back" leaves the page. A key does not stay there.
  function address() {
    if (!state.arrived) return; // the handlers have still to read it
    const url = new URL(window.location);
    for (const name of OURS) url.searchParams.delete(name);
    const parts = { tab: state.tab === FIRST_TAB ? "" : state.tab, ...state.shown[state.tab] };
    for (const [name, value] of Object.entries(parts)) if (value) url.searchParams.set(name, value);
    if (url.href !== window.location.href) window.history.replaceState(null, "", url);
  }

  // A tab was opened. Before the one that the address asks for is, gradio opens the first.
  function open(name) {
    if (asked && name !== asked && !state.arrived) return;
    state.tab = name;
    address();
  }

  function arrive() {
    state.arrived = true;
    address();
  }

  // A tab shows something else, such as {run: "name"}.
  function show(name, parts) {
    state.shown[name] = { ...state.shown[name], ...parts };
    if (name === state.tab) address();
  }

  // What a visitor has set in the form stays when the page is loaded anew, which Gradio does by itself when the app was
  // away for a while.
  const form = {
    // At once, as what a fast visitor sets while the page is still opening is kept, too, field by field.
    find(...values) {
      state.entries = { first: values, kept: JSON.parse(sessionStorage.getItem(FORM) ?? "[]") };
    },
    keep(...values) {
      sessionStorage.setItem(FORM, JSON.stringify(values));
    },
    // Neither what another version of the app has kept, with other fields, nor over what was set since the page came up.
    takeBack(...values) {
      const { first, kept } = state.entries;
      return kept.length === values.length ? values.map((value, i) => (value === first[i] ? kept[i] : value)) : values;
    },
    // A proposal never goes over what the visitor has set since it was asked for.
    takeProposals(proposals, ...now) {
      return now.map((value, i) => {
        const { field, seen, proposed } = proposals[i];
        return value === seen || value === state.proposed[field] ? (state.proposed[field] = proposed) : value;
      });
    },
  };

  const picture = {
    // A picture's component says several times that it has changed.
    want(picture, ...runs) {
      return (state.prediction = JSON.stringify([picture?.path ?? null, ...runs]));
    },
    // What was asked for a picture and its runs, and comes when others are wanted, is not shown.
    isWanted: (of) => of === state.prediction,
    chooseExample(name) {
      state.example = name;
    },
    // An example comes from the server; what was chosen meanwhile is what is wanted.
    takeExample: (example, name, now) => (name === state.example ? example : now),
    takeFirstExample: (example, name, now) => now ?? example,
  };

  return { state, open, arrive, show, form, picture };
})();
