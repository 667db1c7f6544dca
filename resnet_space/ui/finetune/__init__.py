"""The fine-tune tab: a form, a live view of what trains, and the comparison of runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from resnet_space import charts
from resnet_space.config import ARCHITECTURES, ConfigError
from resnet_space.data.sources import DataError, DatasetRef
from resnet_space.data.summary import cautions
from resnet_space.pretrained import is_pretrained
from resnet_space.runs import Run, RunError
from resnet_space.strategies import STRATEGIES
from resnet_space.ui.finetune.api import build_api
from resnet_space.ui.finetune.data_view import cautions_html, data_html
from resnet_space.ui.finetune.form import (
    CBAM_CHOICES,
    DATA_SETTINGS,
    STRATEGY_SETTINGS,
    Request,
    create_comparison,
    create_run,
    data_values,
    requested_plan,
    start_training,
    strategy_values,
    suggest,
    training_fields,
)
from resnet_space.ui.finetune.more_data import build_more_data
from resnet_space.ui.finetune.plan import plan_html
from resnet_space.ui.finetune.status import EMPTY, RANDOM, runs_html, status_html
from resnet_space.ui.workshop import BACKBONE, Workshop

DATASET = "cifar10-mini"
SHOWN_AT_FIRST = 2  # the newest runs
LIVE_SECONDS = 0.5
IDLE_SECONDS = 2.0  # while nothing trains, another visitor's start is noticed within this time


@dataclass(frozen=True)
class FinetuneTab:
    """What the other tabs need: the runs that can predict, and the buttons that lead to them with a run."""

    names: gr.State
    try_it: gr.Button
    explore_it: gr.Button
    followed: gr.State


def build_finetune(workshop: Workshop) -> FinetuneTab:
    """Place the tab's components and wire its events."""
    defaults = training_fields() | {"image_size": 32}

    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            start = gr.Dropdown(
                start_choices(workshop),
                value=BACKBONE if BACKBONE in workshop.trained_names() else RANDOM,
                label="Start from",
                info="a trained network's weights, with a new head where the classes differ",
            )
            with gr.Row(visible=start.value == RANDOM) as architecture_row:
                architecture = gr.Dropdown(
                    list(ARCHITECTURES), value="resnet20", label="Architecture", min_width=130, visible=True
                )
                cbam = gr.Dropdown(CBAM_CHOICES, value="", label="CBAM attention", min_width=130)
            dataset = gr.Dropdown(
                workshop.dataset_choices(), value=DATASET, label="Data", info="small, real, and always there"
            )
            caution = gr.HTML("", apply_default_css=False, visible=False)
            more_data = build_more_data(workshop)
            strategy = gr.Dropdown(
                [name for name in STRATEGIES if name != "scratch"],
                value="full",
                label="Strategy",
                info="what trains when",
            )
            with gr.Row():
                fields: dict[str, Any] = {
                    "epochs": gr.Number(defaults["epochs"], label="Epochs", min_width=130),
                    "batch_size": gr.Number(defaults["batch_size"], label="Batch size", min_width=130),
                }
            with gr.Row():
                for name, part in (("backbone_lr", "Backbone"), ("head_lr", "Head")):
                    fields[name] = gr.Number(
                        defaults[name], label=f"{part} rate", info="peak learning rate", step=0.001, min_width=130
                    )
            suggest_button = gr.Button("Suggest a learning rate", size="sm")
            with gr.Row():
                start_button = gr.Button("Start", variant="primary", min_width=120)
                stop_button = gr.Button("Stop", variant="stop", min_width=120, interactive=False)
            compare_button = gr.Button("Compare: the same from random initialisation", interactive=False)
            with gr.Accordion("Advanced", open=False):
                fields |= advanced_fields(defaults)

        with gr.Column(scale=2, min_width=320):
            status = gr.HTML(EMPTY, apply_default_css=False)
            with gr.Accordion("The plan: which part trains when, and at which peak rate", open=False):
                plan_view = gr.HTML("", apply_default_css=False)
            with gr.Accordion("The data: how many, a few of them, and as the model sees them", open=False):
                data_view = gr.HTML("", apply_default_css=False)
            suggestion_plot = gr.Plot(visible=False, show_label=False, elem_classes="chart")
            with gr.Row():
                loss_plot = gr.Plot(charts.loss_chart({}), show_label=False, min_width=300, elem_classes="chart")
                accuracy_plot = gr.Plot(
                    charts.accuracy_chart({}), show_label=False, min_width=300, elem_classes="chart"
                )
            table = gr.HTML(runs_html([]), apply_default_css=False)
            with gr.Row(visible=False) as next_steps:
                try_it = gr.Button("Try it in Predict", size="sm")
                explore_it = gr.Button("Explore its residuals", size="sm")
            shown = gr.Dropdown(
                [], value=[], multiselect=True, label="Runs in the plots", info="choose which to lay over one another"
            )

    names = gr.State(workshop.trained_names())  # for the other tabs' choices
    followed = gr.State(None)  # the run that the status line speaks of
    drawn = gr.State(None)  # what is on the page, to redraw only what changed
    timer = gr.Timer(LIVE_SECONDS)

    def refresh(shown_names: Sequence[str], drawn_key: object, known: list[str]) -> tuple[Any, ...]:
        """The page as the runs' folders have it now; everything that is as it was is skipped."""
        runs = {run.name: run for run in workshop.library.runs()}  # newest first
        here = [name for name in workshop.finetuned_names() if name in runs]
        trained = [name for name, run in runs.items() if run.has_weights]
        if drawn_key is None and not shown_names:  # a page that was just opened
            shown_names = here[:SHOWN_AT_FIRST][::-1]
        active = workshop.trainer.active()
        if active is not None and active not in shown_names:
            shown_names = [*shown_names, active]
        shown_names = [name for name in shown_names if name in runs]
        rows = [
            (run, workshop.trainer.status(run), workshop.library.metrics(run))
            for run in map(runs.__getitem__, shown_names)
        ]
        key = (active, tuple((r.name, s, len(m)) for r, s, m in rows), tuple(here), tuple(trained))
        if key == drawn_key:
            return (gr.skip(),) * len(view)
        followed_row = next((row for row in rows if row[0].name == active), rows[-1] if rows else None)
        histories = {run.name: metrics for run, _, metrics in rows}
        can_go_on = followed_row is not None and not followed_row[1].is_active and followed_row[0].has_weights
        comparable = can_go_on and followed_row is not None and followed_row[0].config.training.start is not None
        return (
            key,
            status_html(*followed_row) if followed_row else EMPTY,
            charts.loss_chart(histories),
            charts.accuracy_chart(histories),
            runs_html(rows),
            gr.update(choices=[*here, *(n for n in trained if n not in here)], value=shown_names),
            gr.update(interactive=active is None),
            gr.update(interactive=active is not None),
            gr.update(interactive=comparable, variant="primary" if comparable else "secondary"),
            gr.update(visible=can_go_on),
            followed_row[0].name if followed_row else None,
            trained if trained != known else gr.skip(),
            gr.Timer(LIVE_SECONDS if active else IDLE_SECONDS),
        )

    view = [
        drawn,
        status,
        loss_plot,
        accuracy_plot,
        table,
        shown,
        start_button,
        stop_button,
        compare_button,
        next_steps,
        followed,
        names,
        timer,
    ]

    def shown_with(shown_names: list[str], run: Run) -> Any:
        names = [*shown_names, run.name]
        return gr.update(choices=names, value=names)

    def asked(values: Sequence[Any]) -> Request:
        start_name, dataset_name, architecture_name, cbam_place, strategy_name, *rest = values
        settings = {"strategy": strategy_name, **dict(zip(fields, rest, strict=True))}
        return Request(start_name, dataset_name, architecture_name, cbam_place, settings)

    def on_start(shown_names: list[str], *values: Any, progress: gr.Progress = gr.Progress()) -> Any:  # noqa: B008
        request = asked(values)
        if request.start != RANDOM and is_pretrained(request.start):  # before the trainer is held for the start
            try:
                workshop.start_run(request.start, lambda done, all_: progress(done / max(all_, 1), desc="Downloading"))
            except RunError as error:
                raise gr.Error(str(error), print_exception=False) from None
        return shown_with(shown_names, start_training(workshop, lambda: create_run(workshop, request)))

    def look_ahead(*values: Any) -> tuple[str, Any, str]:
        """(the plan, what to mind, the data) of the form as it stands; nothing of what it does not allow yet."""
        request = asked(values)
        summary = None
        try:
            summary = workshop.summary(workshop.pinned(DatasetRef.parse(request.dataset or "")))
            phases, config = requested_plan(workshop, request)
        except (ConfigError, RunError, DataError) as error:
            refused = cautions_html([str(error)])
            return refused, gr.update(value=refused, visible=True), data_html(summary, None) if summary else ""
        sentences = cautions(summary, config.model, config.training)
        return (
            plan_html(config.training.strategy, phases, config.model),
            gr.update(value=cautions_html(sentences), visible=bool(sentences)),
            data_html(summary, config),
        )

    def suit(names: Sequence[str], values: dict[str, Any]) -> list[Any]:
        return [values.get(name, gr.skip()) for name in names]

    def on_data(start_name: str, dataset_name: str, architecture_name: str) -> list[Any]:
        try:
            summary = workshop.summary(workshop.pinned(DatasetRef.parse(dataset_name or "")))
            return suit(DATA_SETTINGS, data_values(workshop, summary, start_name, architecture_name))
        except (ConfigError, RunError, DataError):  # the look ahead says why
            return suit(DATA_SETTINGS, {})

    def on_start_chosen(name: str) -> tuple[Any, Any, Any]:
        try:
            takes_cbam = name == RANDOM or workshop.start_model(name).cbam is None
        except RunError:
            takes_cbam = False
        own = "stage" if name == RANDOM else ""
        return gr.update(visible=takes_cbam), gr.update(visible=name == RANDOM), gr.update(value=own)

    def on_suggest(*values: Any, progress: gr.Progress = gr.Progress()) -> Any:  # noqa: B008
        points, found = suggest(workshop, asked(values), lambda share: progress(share, desc="Training a few steps"))
        rates = (found.backbone_lr, found.head_lr) if found else (gr.skip(), gr.skip())
        return gr.update(value=charts.range_chart(points, found.head_lr if found else None), visible=True), *rates

    def on_compare(shown_names: list[str], name: str) -> Any:
        return shown_with(shown_names, start_training(workshop, lambda: create_comparison(workshop, name)))

    def on_stop() -> None:
        active = workshop.trainer.active()
        if active is None:
            raise gr.Error("Nothing is training, so there is nothing to stop.", print_exception=False)
        workshop.trainer.stop(workshop.library.open(active))

    form = [start, dataset, architecture, cbam, strategy, *fields.values()]
    # Not preprocessed: Gradio refuses a run that appeared after the page was built; the library knows which runs there
    # are.
    private: Any = {"api_visibility": "private", "preprocess": False}
    tick: Any = {
        "fn": refresh,
        "inputs": [shown, drawn, names],
        "outputs": view,
        "queue": False,
        "show_progress": "hidden",
    }
    timer.tick(**tick, **private)
    shown.input(**tick, **private)
    quiet: Any = private | {"show_progress": "hidden"}
    data_fields = [fields[name] for name in DATA_SETTINGS]
    start.change(on_start_chosen, start, [architecture_row, architecture, cbam], **quiet)
    for component in (start, architecture, dataset):
        component.change(on_data, [start, dataset, architecture], data_fields, **quiet)
    strategy.change(
        lambda name: suit(STRATEGY_SETTINGS, strategy_values(name)),
        strategy,
        [fields[name] for name in STRATEGY_SETTINGS],
        **quiet,
    )
    more_data.added.change(
        lambda ref: gr.update(choices=workshop.dataset_choices(), value=ref), more_data.added, dataset, **quiet
    )
    ahead: Any = quiet | {"trigger_mode": "always_last", "concurrency_limit": 2}
    gr.on([component.change for component in form], look_ahead, form, [plan_view, caution, data_view], **ahead)
    gr.on(None, look_ahead, form, [plan_view, caution, data_view], **ahead)  # when the page is opened
    suggest_button.click(
        on_suggest,
        form,
        [suggestion_plot, fields["backbone_lr"], fields["head_lr"]],
        concurrency_limit=1,
        show_progress_on=suggestion_plot,
        **private,
    )
    for button, handler, inputs in (
        (start_button, on_start, [shown, *form]),
        (compare_button, on_compare, [shown, followed]),
    ):
        button.click(handler, inputs, shown, show_progress="hidden", **private).success(**tick, **private)
    stop_button.click(on_stop, None, None, **private).success(**tick, **private)
    names.change(lambda: gr.update(choices=start_choices(workshop)), None, start, **quiet)
    build_api(workshop)
    return FinetuneTab(names, try_it, explore_it, followed)


def start_choices(workshop: Workshop) -> list[tuple[str, str]]:
    """(label, name) of all that a training can start from."""
    trained = workshop.trained_names()
    pretrained = [name for name in workshop.start_names() if name not in trained]
    choices = [(name, name) for name in trained] + [(RANDOM, RANDOM)]
    return choices + [(f"{name} (ImageNet weights, to be downloaded)", name) for name in pretrained]


def advanced_fields(defaults: dict[str, Any]) -> dict[str, Any]:
    """The rarely changed settings: one place a knob, keyed by the configuration's field names."""

    def number(name: str, label: str, info: str, step: float = 0.01) -> gr.Number:
        return gr.Number(defaults[name], label=label, info=info, step=step, min_width=130)

    fields: dict[str, Any] = {}
    with gr.Row():
        fields["optimizer"] = gr.Dropdown(["sgd", "adamw"], value="sgd", label="Optimizer", min_width=130)
        fields["schedule"] = gr.Dropdown(
            ["cosine", "one-cycle", "plateau", "constant"], value="cosine", label="Schedule", min_width=130
        )
    with gr.Row():
        fields["warmup"] = number("warmup", "Warm-up", "share of a phase's steps")
        fields["weight_decay"] = number("weight_decay", "Weight decay", "not on norms, biases", 0.0001)
    with gr.Row():
        fields["momentum"] = number("momentum", "Momentum", "of SGD")
        fields["layer_decay"] = number("layer_decay", "Layer decay", "discriminative only; 1 is none", 0.05)
    with gr.Row():
        fields["label_smoothing"] = number("label_smoothing", "Label smoothing", "0 is none", 0.05)
        fields["clip_norm"] = number("clip_norm", "Gradient clipping", "largest norm; 0 is none", 0.5)
    with gr.Row():
        fields["mixup"] = number("mixup", "MixUp", "alpha; 0 is none", 0.1)
        fields["cutmix"] = number("cutmix", "CutMix", "alpha; 0 is none", 0.1)
    with gr.Row():
        fields["ema"] = number("ema", "Moving average", "of the weights: decay; 0 is none", 0.001)
        fields["patience"] = number("patience", "Patience", "epochs without a better one; 0: never ends early", 1)
    with gr.Row():
        fields["image_size"] = number("image_size", "Image size", "pixels that the model sees", 32)
        fields["validation_fraction"] = number(
            "validation_fraction", "Validation share", "chooses the best epoch", 0.05
        )
    with gr.Row():
        fields["crop"] = gr.Dropdown(["padded", "resized"], value="padded", label="Random crop", min_width=130)
        fields["crop_padding"] = number("crop_padding", "Crop padding", "pixels, of the padded crop", 1)
    with gr.Row():
        fields["min_crop_area"] = number("min_crop_area", "Least crop area", "of the resized crop", 0.05)
        fields["seed"] = number("seed", "Seed", "the same gives the same run on a CPU", 1)
    fields["flip"] = gr.Checkbox(defaults["flip"], label="Mirror half of the images")
    return fields
