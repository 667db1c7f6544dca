"""The pictures of a check as a map: drawn on demand, looked at in the browser, taken away."""

import asyncio
import re
from html import escape
from typing import Any

import gradio as gr
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from resnet_space import plots
from resnet_space.common.errors import UserError
from resnet_space.plots.data_map import map_chart
from resnet_space.serve.checks import map_of, start_map
from resnet_space.serve.context import AppContext
from resnet_space.serve.handlers import costly
from resnet_space.training.data_map import NEAREST, POINTS, DataMap, Points
from resnet_space.ui.events import EACH, LATEST, QUIET, Listen, Update
from resnet_space.ui.exports import Export, place_exports, stem
from resnet_space.ui.finetune.status import duration
from resnet_space.ui.html import note_html, place_html, progress_html
from resnet_space.ui.scripts import MAP
from resnet_space.ui.subject import Shared

FILES = re.compile(rf"{re.escape(POINTS)}|sheet-\d{{1,4}}\.jpg")
COLUMNS = ("split", "row", "file", "label", "predicted", "finding", "x", "y")
ABOUT = "All pictures on a plane: those that the network takes for similar are near one another."
CAVEAT = (
    'Neighbours on a <a href="https://distill.pub/2016/misread-tsne/" target="_blank">t-SNE map</a> '
    '(<a href="https://jmlr.org/papers/v9/vandermaaten08a.html" target="_blank">van der Maaten & Hinton 2008</a>) are '
    "similar; the distances between groups, and their sizes, mean little."
)


def build_map(shared: Shared, check: gr.Textbox, found: Listen) -> None:
    """Place the map below the findings of a check, given by its name, and wire its events.

    `found` is the event after which other findings are on the page.
    """
    context, visitor = shared.context, shared.visitor
    template = '<div class="data-map"><div class="drawn"></div><div class="told"></div></div>'
    view = place_html(None, "dataMap", html_template=template, head=MAP, elem_id="data-map")
    exports = place_exports([check, visitor, view], lambda *asked: map_export(context, *asked), visible=False)
    views = [view, exports.buttons]

    def look(name: str, key: str | None) -> Update:
        report = context.checks.open(name) if name else None
        if report is None or not report.counts or report.state == "running":
            return {view: None, exports.buttons: gr.update(visible=False)}
        found = map_of(context, name, key)
        value: dict[str, Any] = {"html": told(found[1] if found else None), "check": name, "running": False}
        if found is not None:
            value["running"] = found[1].state == "running"
            if found[1].state == "finished":
                value["map"] = found[0]
        value["may"] = not context.readonly
        return {view: value, exports.buttons: gr.update(visible="map" in value)}

    @costly
    def on_start(name: str, key: str | None) -> Update:
        start_map(context, name, key)
        return look(name, key)

    def on_select(event: gr.EventData, name: str, key: str | None) -> Update:
        found = map_of(context, name, key)
        if event._data["what"] == "stop" and found is not None:
            context.maps.stop(found[0], key)
        return look(name, key)

    found(look, [check, visitor], views, **LATEST)
    started = view.submit(on_start, [check, visitor], views, **QUIET)
    started.failure(look, [check, visitor], views, **QUIET)
    view.select(on_select, [check, visitor], views, show_progress="hidden", **EACH)


def told(found: DataMap | None) -> str:
    """How a map stands, as HTML; below it, once it is drawn, what it says."""
    if found is None or found.state in ("stopped", "failed"):
        why = f" <b>{found.state.capitalize()}.</b> {escape(found.reason)}" if found and found.reason else ""
        return note_html(ABOUT + why)
    if found.state == "running":
        left = found.seconds_left
        numbers = f"about {duration(left)} left" if left is not None else ""
        return progress_html("Drawing the map", numbers, share=found.doing.share, label="drawn")
    kept = f" Of a picture's {NEAREST} nearest by features, {found.kept:.1f} are among its {NEAREST} nearest here."
    return note_html(CAVEAT + kept)


def map_export(context: AppContext, check: str, key: str | None, shown: dict[str, Any] | None) -> Export:
    """The map as a figure and a table, coloured as on the page. Raises UserError."""
    found = map_of(context, check, key)
    if found is None or found[1].state != "finished":
        raise UserError("There is no map yet: draw it first.")
    name, drawn = found
    points = Points.read(context.maps.folder / name)
    by = str((shown or {}).get("by") or "label")
    classes = [*points.classes, "unknown"]
    labels = [classes[label] for label in points.labels]
    groups = {
        "label": labels,
        "predicted": [classes[predicted] for predicted in points.predicted],
        "finding": [kinds or "no finding" for kinds in points.findings],
    }
    if by not in groups:
        raise UserError(f"A map has no colours by {by!r}: choose one of {', '.join(groups)}.")
    order = [*classes] if by != "finding" else sorted(set(groups[by]), key=lambda kinds: (kinds == "no finding", kinds))
    charts: list[plots.Chart | None] = [map_chart(points.x, points.y, groups[by], order, "Map of the pictures")]
    rows = [
        [*where, points.classes[label], (*points.classes, "")[predicted], kinds, x, y]
        for where, label, predicted, kinds, x, y in zip(
            points.where, points.labels, points.predicted, points.findings, points.x, points.y, strict=True
        )
    ]
    caption = (
        f"{len(rows):,} pictures of {drawn.dataset} by t-SNE of their features. Distances between groups mean little."
    )
    python = (
        "from resnet_space.data import check_data\n\n"
        f"report = check_data({drawn.dataset!r}, map=True)\n"
        "for point in report.map[:10]:\n    print(point.file, point.label, point.predicted, point.x, point.y)"
    )
    return Export(stem("map", name), charts, caption, (COLUMNS, rows), python)


class MapFiles:
    """Points and pictures of maps, for whoever has a map's name. `routes` are for the server that the app runs in."""

    def __init__(self, context: AppContext) -> None:
        self.context = context
        self.routes = [Route("/map/{name}/{file}", self._file)]

    async def _file(self, request: Request) -> Response:
        name, file = request.path_params["name"], request.path_params["file"]
        try:
            if not FILES.fullmatch(file) or self.context.maps.open(name).state != "finished":
                return Response(status_code=404)
            data = await asyncio.to_thread((self.context.maps.folder / name / file).read_bytes)
        except (UserError, OSError):
            return Response(status_code=404)
        headers = {"Cache-Control": "private, max-age=86400"}
        if file == POINTS:
            return Response(data, media_type="application/json", headers=headers | {"Content-Encoding": "gzip"})
        return Response(data, media_type="image/jpeg", headers=headers)
