"""A check as the page shows it, and to take away: its progress, the findings with their pictures, a table."""

from collections.abc import Sequence
from html import escape
from typing import Any

from PIL.Image import Image

from resnet_space.common.errors import UserError
from resnet_space.common.text import NO_BREAK, percent
from resnet_space.data.checks.items import Where
from resnet_space.data.decisions import Row
from resnet_space.data.reference import DatasetRef
from resnet_space.plots import Chart
from resnet_space.plots.learning import learning_chart
from resnet_space.training.data_report import DataReport
from resnet_space.ui.finetune.data_view import images_at, tile, tiles_html
from resnet_space.ui.finetune.status import work_html
from resnet_space.ui.html import finding_html, note_html

MOST = 16  # findings of a kind that are shown with their pictures
PHASES = {
    "decoding": "Decoding pictures",
    "features": "Computing features",
    "copies": "Looking for copies",
    "labels": "Checking labels",
    "splits": "Comparing splits",
    "curve": "Learning from fewer pictures",
    "plane": "Drawing the map",
}
COLUMNS = ("finding", "split", "row", "file", "label", "score", "what")
SOUND = "Nothing to look at."


def progress_of(report: DataReport) -> str:
    """How it stands, in a line, with a bar while it runs."""
    now, count = report.doing, sum((report.counts or {}).values())
    words = PHASES.get(now.phase, "Loading PyTorch")
    words += f", {now.done:,} of {now.total:,}" if now.total > 1 else ""
    done = escape(f"{count:,} pictures by {report.backbone}") if count and report.state != "running" else ""
    return work_html(report, words, done, f": {escape(report.dataset)}", label="checked", ended="Checked")


def report_of(report: DataReport) -> dict[str, Any]:
    """The findings and the learning curve, for the page's script."""
    figures = {"curve": chart_of(report)} if report.curve and report.state != "running" else {}
    return {"html": report_html(report), "figures": figures}


def chart_of(report: DataReport) -> Chart:
    points = [(point.pictures, point.low, point.accuracy, point.high) for point in report.curve]
    curves = {"measured": points, "predicted": [(p.pictures, p.low, p.accuracy, p.high) for p in report.predicted]}
    sizes = [pictures for of in curves.values() for pictures, *_ in of]
    return learning_chart(curves, "How many pictures are enough?", sizes, what="pictures to learn from")


def report_html(report: DataReport) -> str:
    """The findings: a sentence, and of each kind the most urgent with their pictures."""
    if report.state == "running" or not report.counts:
        return ""
    pictures = _pictures(report)
    labels = [
        (pictures.get((one.split, one.index)), f"{one.label} → {one.suggested}? {percent(one.score, 0, NO_BREAK)}")
        for one in report.label_issues[:MOST]
    ]
    copies = [
        shown
        for one in report.near_duplicates[: MOST // 2]
        for shown in (
            (pictures.get((one.of_split, one.of_index)), f"{one.of_split}: {one.of_label}"),
            (pictures.get((one.split, one.index)), f"{one.split}: {one.label}"),
        )
    ]
    odd = [(pictures.get((one.split, one.index)), f"{one.problem} ({one.label})") for one in report.outliers[:MOST]]
    sections = [
        _section("Labels that may be wrong", len(report.label_issues), labels, LABELS),
        _section("Copies of one picture, in pairs", len(report.near_duplicates), copies, COPIES),
        _section("Odd pictures", len(report.outliers), odd, ODD),
        _classes(report),
    ]
    if report.curve:
        sections.append(finding_html(report.verdict) + CURVE + note_html(ABOUT_CURVE))
    return f'<div class="data">{finding_html(report.words)}{"".join(sections)}</div>'


CURVE = '<div class="chart" data-chart="curve" style="min-height: 380px"></div>'
ABOUT_CURVE = (
    "Accuracy of heads on the backbone's features, on pictures that they have not learned from, with 95\u00a0% "
    "intervals. Fine-tuning may do better."
)
LABELS = "The label, the class predicted without having learned from the picture, and how probably the label is wrong."
COPIES = "A test picture that is a copy of a training picture makes the test accuracy too high."
ODD = "Blank, dark, bright, blurred, tiny, stretched, in another colour mode, or unlike all others of the class."


def _section(title: str, count: int, tiles: Sequence[tuple[Image | None, str]], words: str) -> str:
    there = [(image, caption) for image, caption in tiles if image is not None]
    shown = tiles_html("", there) if there else ("" if count else f"<p>{SOUND}</p>")
    about = note_html(words) if count else ""
    return f"<details{' open' if count else ''}><summary>{title}: {count:,}</summary>{about}{shown}</details>"


def _classes(report: DataReport) -> str:
    rows = "".join(f"<li>{escape(one.words)}</li>" for one in report.classes) or f"<li>{SOUND}</li>"
    title = f"Classes and splits: {len(report.classes):,}"
    return f"<details{' open' if report.classes else ''}><summary>{title}</summary><ul>{rows}</ul></details>"


def _pictures(report: DataReport) -> dict[Row, Image]:
    """The pictures that are shown, as far as they are on this machine."""
    copies = report.near_duplicates[: MOST // 2]
    shown = (*report.label_issues[:MOST], *copies, *report.outliers[:MOST])
    wanted = [*((one.split, one.index) for one in shown), *((one.of_split, one.of_index) for one in copies)]
    try:
        return images_at(DatasetRef.parse(report.dataset), wanted, tile)
    except (UserError, OSError):  # the dataset was changed, or deleted
        return {}


def table_rows(report: DataReport) -> list[list[object]]:
    """`COLUMNS` of every finding."""

    def row(kind: str, one: Where, score: float, words: str) -> list[object]:
        return [kind, one.split, one.index, one.file, one.label, score, words]

    rows = [row("label", one, one.score, one.words) for one in report.label_issues]
    for one in report.near_duplicates:
        of = f"It is row {one.of_index} of {one.of_split} ({one.of_file})." if one.of_file else ""
        rows.append(row("copy", one, one.score, f"{one.words} {of}"))
    rows += [row(one.problem, one, one.score, one.words) for one in report.outliers]
    return rows + [
        [one.kind, one.split, one.index if one.file else "", one.file, ", ".join(one.classes), one.score, one.words]
        for one in report.classes
    ]
