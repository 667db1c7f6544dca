"""Three of Gradio's own scripts, in which functions are replaced, as they take much of the browser's time.

The searches for a component and for its events (`static/find.js`), the copies of what components hold, the second
building of the page, and the clock of what is pending.
Before each update without a value, Gradio copies the component's value, a chart's data number by number, so that what a
hidden component held is there again when it is shown. It does so at each progress message too, for each component that
ever had one, where nothing is hidden. It builds the page a second time right after the first, as if the app had been
reloaded. And it never stops the clock of a part of the page that was removed meanwhile; it
then draws the page 60 times a second, for as long as it is open.
"""

import gzip
import re
from functools import lru_cache
from pathlib import Path

import gradio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

ASSETS = Path(gradio.__file__).parent / "templates" / "frontend" / "assets"
FIND = Path(__file__).parent / "static" / "find.js"
# As Gradio's build has them, whatever it names them: the search, and what puts other components in the tree.
SEARCH = re.compile(
    r"function (?P<name>[\w$]+)\((\w+),(\w+)\)\{if\(\2\.id===\3\)return \2;"
    r"if\(\2\.children\)for\(let (\w+) of \2\.children\)\{let \2=(?P=name)\(\4,\3\);if\(\2\)return \2\}return null\}"
)
EVENTS = re.compile(
    r"let (?P<found>\w+)=(?P<all>\w+)\.filter\((\w+)=>\3\.targets\.find\(\(\[\3\]\)=>\3===(?P<component>\w+)\.id\)\)"
    r"\.map\(\3=>\{[^{}]+\}\)\.filter\(Boolean\)"
)
COPIES = re.compile(r"&&!\(`value`in (?P<update>[\w$]+)\)(?=&&\(await this\.#)")
CHANGE = re.compile(r"\w+\.children=\w+\.children(?=,this\.#)")
# The effect that depends on how often the app was reloaded: it runs at first, too.
RELOAD = re.compile(r"(?<=\{)(?P<count>\w+)\(\),(?=\w+\(\(\)=>\{\w+\.reload\(\w+\.components,)")
# The clock shows tenths of a second.
CLOCK = re.compile(
    r"function (?P<name>[\w$]+)\(\)\{[\w$]+\(\(\)=>\{(?P<tick>[^{}]*performance\.now\(\)[^{}]*&&(?P=name)\(\))\}\)\}"
)


def with_quick_search(script: str) -> str | None:
    """The script with our searches and fewer copies, or None if it is not the one that has these functions."""
    search = SEARCH.search(script)
    if search is None or not all(part.search(script) for part in (CHANGE, COPIES, EVENTS)):
        return None
    ours = FIND.read_text(encoding="utf-8").replace("findComponent", search["name"])
    script = CHANGE.sub(lambda change: f"{change[0]},forgetComponents()", script)
    script = EVENTS.sub(r"let \g<found>=attachedEvents(\g<all>,\g<component>.id)", script)
    script = COPIES.sub(r"\g<0>&&!(`loading_status`in \g<update>)", script)
    return script.replace(search[0], f"\n{ours}")


def built_once(script: str) -> str | None:
    """The script that builds the page anew only where the app was reloaded, or None if it has no such effect."""
    return RELOAD.sub(r"\g<count>()&&", script) if RELOAD.search(script) else None


def with_slow_clock(script: str) -> str | None:
    """The script with a clock that asks for no frames, or None if it has none."""
    clock = CLOCK.search(script)
    if clock is None:
        return None
    return script.replace(clock[0], f"function {clock['name']}(){{setTimeout(()=>{{{clock['tick']}}},100)}}")


REPLACED = {"core-*.js": with_quick_search, "Blocks-*.js": built_once, "statustracker-*.js": with_slow_clock}


@lru_cache(maxsize=1)
def _scripts() -> dict[str, bytes]:
    """The replaced ones by name, compressed; without those that Gradio builds differently: its own are served then."""
    found = {}
    for names, replaced in REPLACED.items():
        for path in ASSETS.glob(names):
            if script := replaced(path.read_text(encoding="utf-8")):
                found[path.name] = gzip.compress(script.encode(), 6)
    return found


async def _script(request: Request) -> Response:
    headers = {"Content-Encoding": "gzip", "Cache-Control": "public, max-age=86400"}
    script = _scripts()[request.url.path.rpartition("/")[2]]
    return Response(script, media_type="text/javascript", headers=headers)


def replaced_scripts() -> list[Route]:
    """Their routes, which come before Gradio's own."""
    return [Route(f"/assets/{name}", _script) for name in _scripts()]
