"""A comparison as the page shows it: its progress, the sentence on which network to take, a table, two charts."""

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from resnet_space.common.text import NO_BREAK, percent
from resnet_space.plots import Chart
from resnet_space.plots.networks import BEATEN, FRONT, SEEN, NetworkPoint, networks_chart
from resnet_space.serve.fitting import Fit
from resnet_space.training.choosing import Row, listed, pareto_front
from resnet_space.training.comparison import Candidate, Comparison, by_reason
from resnet_space.training.proposal import rough_duration
from resnet_space.training.work import LeftOut
from resnet_space.ui.finetune.status import work_html
from resnet_space.ui.html import finding_html, note_html, row_html, table_html

DOING = {
    "": "loading PyTorch",
    "downloading": "downloading the weights",
    "decoding": "decoding images",
    "features": "computing features",
    "solving": "solving heads",
}
COUNTED = {"downloading": (1e6, " MB"), "decoding": (1, " images"), "features": (1, " images")}  # in a phase
HEADS = ("network", "accuracy", "k-NN", "calibration error", "images/s")
PLACES = (
    '<div class="charts"><div class="chart" data-chart="time"></div><div class="chart" data-chart="size"></div></div>'
)


def fit_html(fit: Fit) -> str:
    """What would be judged and how long that takes; in a fold, what would not be, and why."""
    names = [f"<b>{escape(candidate.name)}</b>" for candidate in fit.networks]
    words = f"Judges {listed(names)}{_time_words(fit.networks)}." if names else "No network at hand fits this time."
    downloads = sum(candidate.download for candidate in fit.networks)
    words += f" First, {downloads / 1e6:,.0f} MB of weights are downloaded." if downloads else ""
    seen = [escape(candidate.name) for candidate in fit.networks if candidate.seen]
    if seen:
        words += f" {listed(seen)} learned these classes before: the accuracy may be of images that it knows."
    return note_html(words) + left_out_html(fit.left_out)


def _time_words(networks: Sequence[Candidate]) -> str:
    if any(candidate.seconds is None for candidate in networks):
        return "; the speed of this machine is not measured yet"
    return f": about {rough_duration(sum(candidate.seconds or 0.0 for candidate in networks))}"


def left_out_html(left_out: Sequence[LeftOut]) -> str:
    """In a fold, by reason."""
    if not left_out:
        return ""
    groups = by_reason(left_out).items()
    rows = "".join(f"<li>{escape(reason)}: {escape(', '.join(names))}</li>" for reason, names in groups)
    were = "network is" if len(left_out) == 1 else "networks are"
    return f'<details class="report"><summary>{len(left_out)} {were} left out</summary><ul>{rows}</ul></details>'


def progress_of(comparison: Comparison) -> str:
    """How it stands, in a line, with a bar while it runs."""
    done, total = len(comparison.rows), len(comparison.networks)
    judged = f"{done} of {total} {'network' if total == 1 else 'networks'} judged"
    now = comparison.doing
    what, (scale, unit) = DOING.get(now.phase, DOING[""]), COUNTED.get(now.phase, (1, ""))
    words = f"<b>{escape(now.name)}</b>: {what}" if now.name else what[0].upper() + what[1:]
    words += f", {now.done / scale:,.0f} of {now.total / scale:,.0f}{unit}" if now.total else ""
    busy = note_html("A training ran beside it at its start: images/s may be too low.") if comparison.busy else ""
    about = f" on {escape(comparison.dataset)}"
    return work_html(comparison, words, judged, about, label="networks judged", more=busy)


def report_of(comparison: Comparison, *, writable: bool) -> dict[str, Any]:
    """The sentence, the table and the charts, for the page's script; `writable`: with a button in each row."""
    if not comparison.rows:
        return {"html": left_out_html(comparison.left_out), "figures": {}}
    running = comparison.state == "running"
    found = comparison.choice.words or "No network could be judged."
    found += " Not all networks were judged." if len(comparison.rows) < len(comparison.networks) else ""
    words = "" if running else finding_html(found)
    take = None if running else comparison.choice.take
    rows = [_row_html(i, row, take, writable=writable) for i, row in enumerate(comparison.judged, 1)]
    wide = f'<td colspan="{len(HEADS) - 1}">'
    rows += [f"<tr><td><b>{escape(r.name)}</b></td>{wide}{escape(r.problem)}</td></tr>" for r in comparison.failed]
    table = table_html("Compared networks", HEADS, rows)
    note = note_html(escape(method_words(comparison))) if comparison.judged else ""
    note += left_out_html(comparison.left_out)
    figures = {} if len(comparison.judged) < 2 else dict(zip(("time", "size"), charts_of(comparison), strict=True))
    return {"html": words + table + note + (PLACES if figures else ""), "figures": figures}


def method_words(comparison: Comparison) -> str:
    """What the numbers are of, in a paragraph."""
    return (
        f"Of {comparison.dataset}, {comparison.images:,} training images in {comparison.classes:,} classes; the test "
        f"images were not looked at. Accuracy: a head solved on frozen features, {comparison.folds}-fold "
        f"cross-validation, with its 95{NO_BREAK}% interval (Wilson). k-NN: 10 nearest neighbours by cosine. "
        f"Speed on {comparison.machine}."
    )


def _row_html(number: int, row: Row, take: str | None, *, writable: bool) -> str:
    costs = {
        "M parameters": row.parameters / 1e6,
        "G multiply-adds": (row.multiply_adds or 0) / 1e9,
        "MB": row.megabytes,
    }
    told = [f"{cost:.2g}{NO_BREAK}{unit}" for unit, cost in costs.items() if cost]
    about = " · ".join([f"{row.title}, {row.image_size}{NO_BREAK}px", *told, row.licence])
    marks = {"take this": row.name == take, "seen before": row.seen}
    tags = "".join(f' <span class="tag">{words}</span>' for words, holds in marks.items() if holds)
    does = f"Train a linear probe of {escape(row.name)}"
    button = f'<button data-network="{escape(row.name)}" aria-label="{does}">Linear probe</button>' if writable else ""
    low, high = row.interval
    interval = f"{100 * low:.1f} to {percent(high, space=NO_BREAK)}"
    cells = (
        f'<div class="network"><div>{number} <b>{escape(row.name)}</b>{tags}<div class="subdued">{escape(about)}</div>'
        f"</div>{button}</div>",
        f'<b>{percent(row.accuracy, space=NO_BREAK)}</b><div class="subdued">{interval}</div>',
        percent(row.neighbours_accuracy, space=NO_BREAK),
        percent(row.calibration_error, space=NO_BREAK),
        f"{row.images_per_second:,.0f}",
    )
    return row_html(cells)


def charts_of(comparison: Comparison) -> tuple[Chart, Chart]:
    """Accuracy against time, and against size."""
    rows = comparison.judged
    return (
        _chart(rows, lambda row: row.milliseconds, "Accuracy by time", "milliseconds per image", "ms per image"),
        _chart(rows, lambda row: row.megabytes, "Accuracy by size", "megabytes of weights", "MB"),
    )


def _chart(rows: Sequence[Row], cost: Callable[[Row], float], title: str, axis: str, unit: str) -> Chart:
    fair = [row for row in rows if not row.seen]
    # Costs as exact as they are told: a speed differs by some per cent from one measurement to the next.
    rounded = [(float(f"{cost(row):.2g}"), row.accuracy) for row in fair]
    front = {fair[i].name for i in pareto_front(rounded)}
    kinds = [SEEN if row.seen else FRONT if row.name in front else BEATEN for row in rows]
    points = [
        NetworkPoint(i, row.name, cost(row), row.accuracy, *row.interval, kind)
        for i, (row, kind) in enumerate(zip(rows, kinds, strict=True), 1)
    ]
    return networks_chart(points, title, axis, unit)
