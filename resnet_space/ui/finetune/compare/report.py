"""A comparison to take away: its charts, its table as CSV, lines of Python, and a report with all configurations."""

from datetime import UTC, datetime

from resnet_space.common.text import markdown_text, percent
from resnet_space.serve.context import AppContext
from resnet_space.training.choosing import Row
from resnet_space.training.comparison import COLUMNS, Comparison, by_reason, table_rows
from resnet_space.ui.downloads import text_file
from resnet_space.ui.exports import Export, stem
from resnet_space.ui.finetune.compare.shown import charts_of, method_words
from resnet_space.ui.reports import markdown_table, share_words

PYTHON = """from resnet_space.compare import compare_models

comparison = compare_models({dataset!r}, {networks!r}, images={images})
print(comparison.choice.words)
for row in comparison.judged:
    print(row.name, row.accuracy, row.interval, row.images_per_second)
"""

HEADS = ("network", "accuracy", "k-NN", "calibration error", "images/s", "parameters", "multiply-adds", "MB", "licence")


def export_of(context: AppContext, name: str) -> Export:
    """Raises UserError where there is no comparison yet."""
    comparison = context.comparisons.open(name)
    python = PYTHON.format(
        dataset=comparison.dataset, networks=[c.name for c in comparison.networks], images=comparison.most
    )
    charts = charts_of(comparison) if comparison.judged else ()
    table = list(COLUMNS), table_rows(comparison)
    named = ", ".join(f"{i} {row.name}" for i, row in enumerate(comparison.judged, 1))
    return Export(stem("networks", name), charts, f"{named}. {method_words(comparison)}", table, python)


def report_file(context: AppContext, name: str) -> str:
    """The path of the report in Markdown."""
    comparison = context.comparisons.open(name)
    return text_file(stem("networks", name), "md", markdown_of(context, comparison))


def markdown_of(context: AppContext, comparison: Comparison) -> str:
    """Which to take, the table, the method, and the configuration of each network."""
    made = datetime.fromtimestamp(comparison.created, UTC)
    lines = [f"# Networks compared on {markdown_text(comparison.dataset)}", ""]
    lines += [markdown_text(comparison.choice.words), "", markdown_text(method_words(comparison)), ""]
    lines += [f"Started {made:%Y-%m-%d %H:%M} UTC; state: {comparison.state}; {comparison.seconds:,.0f} s.", ""]
    rows = [
        (
            f"{i} {row.name}" + (" (seen before)" if row.seen else ""),
            share_words(row.correct, row.images),
            percent(row.neighbours_accuracy),
            percent(row.calibration_error),
            f"{row.images_per_second:,.1f}",
            f"{row.parameters:,}",
            "" if row.multiply_adds is None else f"{row.multiply_adds:,}",
            f"{row.megabytes:,.1f}",
            row.licence,
        )
        for i, row in enumerate(comparison.judged, 1)
    ]
    lines += markdown_table(HEADS, rows)
    lines += ["", *(f"- {row.name}: {markdown_text(row.problem)}" for row in comparison.failed), ""]
    lines += ["## Left out", ""] if comparison.left_out else []
    lines += [f"- {reason}: {', '.join(names)}" for reason, names in by_reason(comparison.left_out).items()]
    lines += ["", "## Configurations", ""]
    for row in comparison.judged:
        lines += [f"### {row.name}", "", *_configuration(context, row), ""]
    return "\n".join(lines)


def _configuration(context: AppContext, row: Row) -> list[str]:
    model = context.start_model(row.name)
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (model.mean, model.std))
    return [
        f"- architecture: `{row.architecture}`, {model.entry.paper}",
        f"- options: {model.entry.words(model.options) or 'defaults'}",
        f"- images: {row.image_size} pixels; mean {mean}; standard deviation {std}",
        f"- head: l2 penalty {row.penalty:g}, for features of unit mean square",
        f"- licence: {row.licence}",
    ]
