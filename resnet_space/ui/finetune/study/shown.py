"""A study as the page shows it, and to take away: its progress, the learning curves, tables, a report."""

from dataclasses import fields
from datetime import UTC, datetime
from html import escape
from typing import Any

from resnet_space.common.text import NO_BREAK, markdown_text, percent
from resnet_space.data.reference import DatasetRef
from resnet_space.plots import Chart
from resnet_space.plots.learning import learning_chart
from resnet_space.serve.context import AppContext
from resnet_space.training.proposal import rough_duration
from resnet_space.training.study import ARMS, Study, config_of
from resnet_space.training.study_words import (
    COLUMNS,
    TUTORIALS,
    costs_of,
    left_out_words,
    method_words,
    points_of,
    share_of,
    table_rows,
    words_of,
)
from resnet_space.ui.downloads import text_file
from resnet_space.ui.exports import Export, stem
from resnet_space.ui.finetune.status import work_html
from resnet_space.ui.html import cautions_html, finding_html, note_html, row_html, table_html
from resnet_space.ui.reports import markdown_table

HEADS = ("images per class", *ARMS.values(), "fine-tuned minus scratch")
COSTS = ("training", "images per class", "epochs", "minutes", "accuracy")
PYTHON = """from resnet_space.study import study_transfer

study = study_transfer({dataset!r}, {start!r}, "my-study", sizes={sizes}, seeds={seeds}, steps={steps})
for size in study.sizes:
    print(size, study.mean("scratch", size), study.mean("frozen", size), study.mean("fine-tuned", size))
"""


def plan_html(study: Study) -> str:
    """What would be trained and how long that takes, and the sizes that are left out."""
    count = len(study.trainings)
    sizes = ", ".join(f"{size:,}" for size in study.sizes)
    time = "the speed of this machine is not measured yet"
    if study.expected is not None:
        time = f"about {rough_duration(study.expected)} in all, more if other trainings run meanwhile"
    words = f"<b>{escape(study.start)}</b> on {sizes} images per class: {count} trainings, {time}."
    return note_html(words) + _left_out_html(study)


def _left_out_html(study: Study) -> str:
    words = " ".join(left_out_words(study))
    return note_html(escape(words)) if words else ""


def progress_of(study: Study) -> str:
    """How it stands, in a line, with a bar while it runs."""
    done = f"{len(study.points)} of {len(study.trainings)} trainings"
    now = study.doing
    words = f"<b>{escape(now.name)}</b>: {now.phase}" if now.name else (now.phase or "loading PyTorch")
    words += f", step {now.done:,} of {now.total:,}" if now.total > 1 else ""
    about = f": {escape(study.start)} on {escape(study.dataset)}"
    return work_html(study, words[0].upper() + words[1:], done, about, label="trained")


def report_of(study: Study) -> dict[str, Any]:
    """The sentence, the curves and the tables, for the page's script."""
    if not study.done:
        problems = [point.problem for point in study.points[:1] if point.problem]
        return {"html": cautions_html(*problems), "figures": {}}
    found = finding_html(words_of(study))
    curves = '<div class="chart" data-chart="curves" style="min-height: 380px"></div>'
    label = "Mean test accuracy by images per class, with its interval over the seeds"
    tables = _table(label, HEADS, curve_rows(study))
    tables += _table("What one training costs, at the largest size", COSTS, cost_rows(study))
    notes = note_html(escape(TUTORIALS)) + note_html(escape(method_words(study)))
    return {"html": found + curves + tables + notes + _left_out_html(study), "figures": {"curves": chart_of(study)}}


def _table(label: str, heads: tuple[str, ...], rows: list[list[str]]) -> str:
    return f"<h4>{label}</h4>{table_html(label, heads, (row_html(map(escape, row)) for row in rows))}"


def curve_rows(study: Study) -> list[list[str]]:
    """A row for each size that has a result: `HEADS`."""
    rows = []
    for size in study.sizes:
        cells = [share_of(study.mean(arm, size)) for arm in ARMS]
        if any(cells):
            ahead = study.ahead("fine-tuned", "scratch", size)
            rows.append([f"{size:,}", *(cell or "—" for cell in cells), points_of(ahead) if ahead else "—"])
    return rows


def cost_rows(study: Study) -> list[list[str]]:
    """A row for each way to train, at its largest size: `COSTS`."""
    return [
        [ARMS[arm], f"{size:,}", f"{epochs:,}" if epochs else "—", f"{secs / 60:.1f}", percent(accuracy, 1, NO_BREAK)]
        for arm, size, secs, accuracy, epochs in costs_of(study)
    ]


def chart_of(study: Study) -> Chart:
    curves: dict[str, list[tuple[int, float, float, float]]] = {}
    for arm, label in ARMS.items():
        means = ((size, study.mean(arm, size)) for size in study.sizes)
        curves[label] = [(size, max(m.low, 0.0), m.value, min(m.high, 1.0)) for size, m in means if m]
    return learning_chart({label: points for label, points in curves.items() if points}, "Test accuracy", study.sizes)


def export_of(context: AppContext, name: str) -> Export:
    """Raises UserError where there is no study yet."""
    study = context.studies.open(name)
    python = PYTHON.format(
        dataset=study.dataset, start=study.start, sizes=study.sizes, seeds=study.seeds, steps=study.steps
    )
    charts = [chart_of(study)] if study.done else []
    return Export(stem("transfer", name), charts, method_words(study), (COLUMNS, table_rows(study)), python)


def report_file(context: AppContext, name: str) -> str:
    """The path of the report in Markdown."""
    return text_file(stem("transfer", name), "md", markdown_of(context, context.studies.open(name)))


def markdown_of(context: AppContext, study: Study) -> str:
    """What was found, the tables, the method, and the configuration of each kind of training."""
    made = datetime.fromtimestamp(study.created, UTC)
    lines = [f"# What {markdown_text(study.start)} is worth on {markdown_text(study.dataset)}", ""]
    lines += [markdown_text(words_of(study)), "", markdown_text(method_words(study)), ""]
    lines += [f"Started {made:%Y-%m-%d %H:%M} UTC; state: {study.state}; {study.seconds:,.0f} s.", ""]
    for heads, rows in ((HEADS, curve_rows(study)), (COSTS, cost_rows(study))):
        lines += [*markdown_table(heads, rows), ""]
    lines += [TUTORIALS, "", *(f"- {words}" for words in left_out_words(study))]
    for p in study.points:
        lines += [f"- {p.arm}, {p.per_class} per class, seed {p.seed}: {markdown_text(p.problem)}"] if p.problem else []
    return "\n".join([*lines, "", "## Configurations", "", *_configurations(context, study)])


def _configurations(context: AppContext, study: Study) -> list[str]:
    data = context.datasets.summary(DatasetRef.parse(study.dataset))
    start = context.start_model(study.start)
    lines = [
        "Those of the largest size and the first seed. The others differ in `images_per_class`, `subset_seed`, `seed`, "
        "`batch_size` and `epochs`; each training's folder in the study has its own `config.json`.",
        "",
    ]
    for arm, label in ARMS.items():
        config = config_of(study, data, start, arm, study.sizes[-1], 0)
        architecture = f"- architecture: `{config.model.architecture}`, {config.model.image_size} pixels"
        lines += [f"### {label}", "", architecture]
        lines += [f"- {field.name}: `{getattr(config.training, field.name)}`" for field in fields(config.training)]
        lines.append("")
    return lines
