"""Which network suits these images? Networks judged on the same ones: choose, run, watch, and train what is best."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import gradio as gr

from resnet_space.common.errors import UserError
from resnet_space.runs import Run
from resnet_space.serve.context import AppContext
from resnet_space.serve.fitting import LEAST_MINUTES, MINUTES, MOST_MINUTES, MOST_NETWORKS, fit, start_comparison
from resnet_space.serve.handlers import costly
from resnet_space.training.comparison import Comparison
from resnet_space.training.strategies import STRATEGIES
from resnet_space.ui.events import LATEST, QUIET, Listen, Update
from resnet_space.ui.exports import place_exports, wire_download
from resnet_space.ui.finetune.compare.report import export_of, report_file
from resnet_space.ui.finetune.compare.shown import fit_html, progress_of, report_of
from resnet_space.ui.finetune.fields import Fields, start_choices
from resnet_space.ui.finetune.form import Request, create_run, start_training
from resnet_space.ui.finetune.proposals import form_values, proposal_for
from resnet_space.ui.finetune.status import RANDOM
from resnet_space.ui.finetune.work_fold import WorkFold
from resnet_space.ui.html import cautions_html, place_html, place_note
from resnet_space.ui.subject import Shared

PROBE, RECOMMENDED = "linear-probe", ""
ABOUT = (
    "Each network computes the features of the same training images once. A head is solved on them and judged by "
    "cross-validation. The test images stay unseen until you train one. Fine-tuning all layers may change the order."
)


class Compare:
    """The section, about the form's dataset, placed and wired, but for the events that start trainings.

    `opened` listens to the event after which the visitor's key is known.

    Attributes:
        fold: the `select` event of its report tells which network's button was pressed.
        queue_all: starts a training of every network with the recipe.
        recipe: the strategy, or empty for each network's recommended setup.
        message: what came of it.
    """

    def __init__(self, shared: Shared, form: Fields, opened: Listen) -> None:
        context, visitor = shared.context, shared.visitor
        fold = WorkFold(shared, context.comparisons, "compare")
        self.fold = fold
        with gr.Accordion("Compare networks on these images", open=False, elem_id="compare-models") as self.section:
            place_note(ABOUT)
            with gr.Column(visible=not context.readonly):
                with gr.Row():
                    networks = gr.Dropdown(
                        network_choices(context),
                        value=[],
                        multiselect=True,
                        max_choices=MOST_NETWORKS,
                        label="Networks",
                        info="none chosen: those at hand that fit the time",
                        scale=3,
                        min_width=220,
                    )
                    minutes = gr.Number(
                        MINUTES,
                        label="Minutes",
                        info="for all together",
                        minimum=LEAST_MINUTES,
                        maximum=MOST_MINUTES,
                        min_width=110,
                        scale=1,
                    )
                fitting = place_html(elem_id="fitting")
                with gr.Row():
                    fold.place_buttons("Compare", min_width=140)
            fold.place_progress()
            fold.place_report("networks")
            with gr.Column(visible=False) as ended:
                with gr.Row(visible=not context.readonly, elem_id="compare-queue"):
                    self.recipe = gr.Dropdown(
                        [("recommended for each", RECOMMENDED)]
                        + [(s.label, name) for name, s in STRATEGIES.items() if s.start != "none"],
                        value=RECOMMENDED,
                        label="Recipe",
                        min_width=200,
                        scale=2,
                    )
                    self.queue_all = gr.Button("Fine-tune all of these", min_width=170, scale=1)
                self.message = place_html(elem_classes="told")
                exports = place_exports([fold.shown], partial(export_of, context))
                with gr.Row():
                    keep = gr.Button("Report as Markdown", size="sm", scale=0, min_width=160)
                wire_download(keep, partial(report_file, context), [fold.shown], exports.file)

        def draw(comparison: Comparison) -> Update:
            there = comparison.state != "running" and bool(comparison.judged)
            return {fold.report: report_of(comparison, writable=not context.readonly), ended: gr.update(visible=there)}

        def look_ahead(dataset: str, chosen: Sequence[str], asked: object, key: str | None) -> str:
            try:
                summary = context.datasets.summary(context.datasets.named(dataset, key))
                return fit_html(fit(context, summary, key, names=chosen or (), minutes=asked))
            except UserError as error:
                return cautions_html(error)

        @costly
        def on_start(dataset: str, chosen: Sequence[str], asked: object, key: str | None) -> str:
            return start_comparison(context, dataset, key, names=chosen or (), minutes=asked)

        def on_open(key: str | None, request: gr.Request) -> Update:
            """The comparison in the page's address, or else the visitor's newest one."""
            linked = request.query_params.get("compare", "")
            try:
                name = linked if linked and context.comparisons.open(linked) else context.comparisons.newest(key)
            except UserError:
                name = None
            return {fold.shown: name or ""} | ({self.section: gr.update(open=True)} if linked else {})

        asked = [form.dataset, networks, minutes, visitor]
        started = fold.wire(on_start, asked, progress_of, draw, [ended])
        started.success(None, fold.shown, None, js="(compare) => resnetSpace.show('finetune', {compare})", **QUIET)
        fold.look_on(opened(on_open, visitor, [fold.shown, self.section], **QUIET).then)
        ahead: Any = LATEST | {"concurrency_limit": 2}
        changes = [self.section.expand, form.dataset.change, networks.change, minutes.change, fold.known.change]
        gr.on(changes, look_ahead, asked, fitting, **ahead)
        shared.names.change(lambda key: gr.update(choices=network_choices(context, key)), visitor, networks, **QUIET)


def network_choices(context: AppContext, key: str | None = None) -> list[tuple[str, str]]:
    """(label, name) of all that can be judged: what a training can start from, but random initialisation."""
    return [(label, name) for label, name in start_choices(context, key) if name != RANDOM]


def start_one(context: AppContext, name: str, network: object, key: str | None, recipe: str = PROBE) -> Run:
    """Train a network of a comparison on its dataset, by the ordinary way: then its test images are looked at, once.

    `name`: of the comparison; `network`: of one of its rows; `recipe`: a strategy, or empty for the recommended setup.
    Raises UserError, also where the visitor may not use the dataset; then nothing was started.
    """
    comparison = context.comparisons.open(name)
    if network not in [row.name for row in comparison.judged]:
        raise UserError("Choose a network of the comparison.")
    if recipe not in ("", *STRATEGIES):
        raise UserError(f"There is no recipe {recipe!r}: choose one of {', '.join(STRATEGIES)}.")
    start = str(network)
    proposal = proposal_for(context, comparison.dataset, key, {"start": start, "strategy": recipe})
    values = form_values(proposal)
    settings = {**proposal.settings, "strategy": values["strategy"]}
    request = Request(start, comparison.dataset, values["architecture"], values["cbam"], settings, key)
    return start_training(context, lambda: create_run(context, request), key)


def start_all(context: AppContext, name: str, key: str | None, recipe: str) -> tuple[list[Run], str]:
    """Train every network of a comparison, those after the first in the queue.

    Returns the runs, and why there are no more, or "". Raises UserError if none can be started.
    """
    runs: list[Run] = []
    for row in context.comparisons.open(name).judged:
        try:
            runs.append(start_one(context, name, row.name, key, recipe))
        except UserError as error:
            if not runs:
                raise
            return runs, str(error)
    if not runs:
        raise UserError("No network was judged, so there is nothing to fine-tune.")
    return runs, ""
