"""What replaces functions of Gradio's scripts: the search finds what Gradio's finds, the clock draws nothing."""

import re
import subprocess
from fnmatch import fnmatch

from playwright._impl._driver import compute_driver_executable
from starlette.applications import Starlette
from starlette.testclient import TestClient

from resnet_space.ui.assets import (
    ASSETS,
    CLOCK,
    COPIES,
    EVENTS,
    FIND,
    RELOAD,
    SEARCH,
    built_once,
    replaced_scripts,
    with_quick_search,
    with_slow_clock,
)

# A tree with ids at random, some of them twice, in which both search for each id and for one that it lacks: as it was,
# with a child removed and others moved, and with another component in it, which Gradio tells.
BOTH = """
let seed = 1;
const random = (below) => (seed = (seed * 48271) % 2147483647) % below;
const children = (depth) => Array.from({ length: random(4) + 1 }, () => tree(depth - 1));
const tree = (depth) => ({ id: random(300), children: depth ? children(depth) : undefined });
const root = tree(4);
let compared = 0, found = 0;
function compare() {
  for (let id = -1; id < 300; id++) {
    const theirs = SEARCH(root, id);
    if (findComponent(root, id) !== theirs) throw Error(`Another component for ${id}`);
    compared++;
    found += theirs !== null;
  }
}
compare();
compare();
root.children = [...root.children].reverse().slice(1);
forgetComponents();
compare();
root.children.push({ id: 1000, children: [{ id: 299 }] });
forgetComponents();
compare();
if (findComponent(root, 1000) !== root.children.at(-1)) throw Error("not the new one");
const other = { id: 1, children: [{ id: 2 }] };
if (findComponent(other, 2) !== other.children[0]) throw Error("not in the other tree");
if (findComponent(root, 2) !== SEARCH(root, 2)) throw Error("not in this tree");
other.children[0] = { id: 3 }; // which nobody told
if (findComponent(other, 2) !== null) throw Error("one that is gone");
console.log(compared, found);
"""

# Events at random, of several components, of the same one twice, of none; and one more in the same list.
EACH_EVENTS = """
let seed = 1;
const random = (below) => (seed = (seed * 48271) % 2147483647) % below;
const names = ["click", "change", "", "load"];
const event = () => ({ targets: Array.from({ length: random(4) }, () => [random(40), names[random(4)]]) });
const all = Array.from({ length: 100 }, event);
let compared = 0, found = 0;
function compare(events) {
  for (let id = 0; id < 40; id++) {
    const expected = theirs(events, { id });
    if (JSON.stringify(attachedEvents(events, id)) !== JSON.stringify(expected)) throw Error(`Other events of ${id}`);
    compared++;
    found += expected.length;
  }
}
compare(all);
all.push({ targets: [[7, "select"]] });
compare(all);
compare([{ targets: [[8, "select"], [8, "input"]] }]);
console.log(compared, found);
"""


def run_by_node(code: str) -> str:
    node, _ = compute_driver_executable()
    done = subprocess.run([node, "-e", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_component_is_found_where_gradios_own_search_finds_it() -> None:
    (search,) = filter(None, (SEARCH.search(path.read_text(encoding="utf-8")) for path in ASSETS.glob("core-*.js")))
    code = FIND.read_text(encoding="utf-8") + search[0] + BOTH.replace("SEARCH", search["name"])
    compared, found = map(int, run_by_node(code).split())
    assert compared == 4 * 301
    assert 100 < found < compared


def served(names: str) -> tuple[str, str]:
    """Gradio's script, and what the page gets in its place."""
    (route,) = (route for route in replaced_scripts() if fnmatch(route.path, f"/assets/{names}"))
    answer = TestClient(Starlette(routes=[route])).get(route.path)
    assert answer.headers["content-type"].startswith("text/javascript")
    return (ASSETS / route.path.removeprefix("/assets/")).read_text(encoding="utf-8"), answer.text


def test_the_script_with_the_search_is_served_in_the_place_of_gradios() -> None:
    original, changed = served("core-*.js")
    search = SEARCH.search(original)
    assert search
    assert not SEARCH.search(changed)
    assert re.search(r"&&!\(`value`in (\w+)\)&&!\(`loading_status`in \1\)&&\(await ", changed)
    ours = FIND.read_text(encoding="utf-8").replace("findComponent", search["name"])
    assert len(COPIES.findall(original)) == 1
    changed = re.sub(r"&&!\(`loading_status`in \w+\)", "", changed)  # what is pending has no values to be copied
    events = EVENTS.search(original)
    assert events
    assert "attachedEvents(t,e.id)" in changed
    changed = changed.replace(f"let {events['found']}=attachedEvents(t,e.id)", events[0])
    assert changed.replace(f"\n{ours}", search[0]).replace(",forgetComponents()", "") == original


def test_a_components_events_are_those_that_gradio_finds() -> None:
    original, _ = served("core-*.js")
    events = EVENTS.search(original)
    assert events
    code = (
        f"{FIND.read_text(encoding='utf-8')};"
        f"const theirs = ({events['all']}, {events['component']}) => {{ {events[0]}; return {events['found']}; }};"
        f"{EACH_EVENTS}"
    )
    compared, found = map(int, run_by_node(code).split())
    assert compared == 3 * 40
    assert found > 100


def test_the_page_is_built_anew_only_when_the_app_was_reloaded() -> None:
    original, changed = served("Blocks-*.js")
    (before,) = re.findall(r"\{(\w+\(\)),\w+\(\(\)=>\{\w+\.reload\(\w+\.components,", original)
    (after,) = re.findall(r"\{(\w+\(\))&&\w+\(\(\)=>\{\w+\.reload\(\w+\.components,", changed)
    assert before == after
    assert changed.replace(f"{after}&&", f"{before},") == original.replace(f"{after}&&", f"{before},")
    assert len(RELOAD.findall(original)) == 1


def test_the_clock_of_what_is_pending_asks_for_no_frames() -> None:
    original, changed = served("statustracker-*.js")
    clock = CLOCK.search(original)
    assert clock
    assert not CLOCK.search(changed)
    before, after = original.split(clock[0])
    assert changed.startswith(before)
    assert changed.endswith(after)
    code = f"const setTimeout = (work, ms) => console.log(ms); {changed[len(before) : -len(after)]}; {clock['name']}()"
    assert run_by_node(code) == "100\n"


def test_a_script_that_gradio_builds_differently_is_left_alone() -> None:
    other = "function find(tree,id){return tree.index[id]}"
    assert with_quick_search(other) is None
    assert built_once(other) is None
    assert with_slow_clock(other) is None
