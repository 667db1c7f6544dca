// In the place of Gradio's search for a component. Its own goes through the tree, more than a thousand reactive objects,
// for each output of each event, and through all of it for a component that is not drawn, such as a State: that is half
// of the time that the page takes to load. Here each component's place in the tree is known: the indices that lead to it.
let componentPlaces = new WeakMap(); // of a root: id -> indices

function componentsBelow(root) {
  const places = new Map();
  const enter = (component, place) => {
    if (!places.has(component.id)) places.set(component.id, place);
    component.children?.forEach((child, index) => enter(child, [...place, index]));
  };
  enter(root, []);
  componentPlaces.set(root, places);
  return places;
}

function forgetComponents() {
  componentPlaces = new WeakMap();
}

function findComponent(root, id) {
  const at = (place) => place?.reduce((component, index) => component?.children?.[index], root);
  const known = (componentPlaces.get(root) ?? componentsBelow(root)).get(id);
  if (!known) return null;
  const found = at(known);
  return found?.id === id ? found : (at(componentsBelow(root).get(id)) ?? null);
}

// In the place of its search for a component's events, which asks each event for its targets, component by component.
let componentEvents = new WeakMap(); // of a list of events: how many it had, and id -> names

function attachedEvents(all, id) {
  let known = componentEvents.get(all);
  if (known?.count !== all.length) {
    known = { count: all.length, names: new Map() };
    for (const { targets } of all) {
      const first = new Map([...targets].reverse()); // of several on the same component
      for (const [component, name] of first) {
        if (!known.names.has(component)) known.names.set(component, []);
        if (name) known.names.get(component).push(name);
      }
    }
    componentEvents.set(all, known);
  }
  return known.names.get(id) ?? [];
}
