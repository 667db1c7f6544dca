"""The fine-tune tab's form on the page: its components, what they set in one another, and what they look ahead to."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from resnet_space import plots
from resnet_space.common.errors import UserError
from resnet_space.data.summary import cautions
from resnet_space.models import list_models
from resnet_space.runs import BACKBONE
from resnet_space.serve.context import AppContext
from resnet_space.serve.handlers import costly
from resnet_space.training.strategies import STRATEGIES, own_field_hint
from resnet_space.ui.events import LATEST, QUIET
from resnet_space.ui.finetune.data_view import cautions_html, data_html
from resnet_space.ui.finetune.entries import wire_proposal
from resnet_space.ui.finetune.form import (
    CBAM_CHOICES,
    DATA_SETTINGS,
    SHORTCUT_CHOICES,
    STRATEGY_SETTINGS,
    Request,
    cbam_choices,
    data_values,
    requested_config,
    requested_plan,
    strategy_values,
    suggest,
    training_fields,
)
from resnet_space.ui.finetune.more_data import build_more_data
from resnet_space.ui.finetune.plan import plan_html
from resnet_space.ui.finetune.slices import quota_html
from resnet_space.ui.finetune.status import RANDOM, RANDOM_WORDS
from resnet_space.ui.pull import build_pull

DATASET = "cifar10-mini"
PROGRESS_SECONDS = 1.0  # between two words on a range test

# What the drawn samples depend on, besides the start and the data.
SEEN_BY = ("image_size", "crop", "crop_padding", "min_crop_area", "flip", "seed", "validation_fraction")


@dataclass(frozen=True)
class Fields:
    """The form's components; `settings` by the names of TrainConfig's fields, one knob in one place."""

    start: gr.Dropdown
    pulled: gr.State
    dataset: gr.Dropdown
    architecture: gr.Dropdown
    cbam: gr.Dropdown
    strategy: gr.Dropdown
    settings: dict[str, Any]
    architecture_row: gr.Row
    caution: gr.HTML
    added: gr.State  # the data set that was just brought here
    suggest_button: gr.Button
    message: gr.HTML
    start_button: gr.Button
    stop_button: gr.Button
    compare_button: gr.Button

    @property
    def components(self) -> list[Any]:
        """What a handler that calls `request` needs as its inputs."""
        return [self.start, self.dataset, self.architecture, self.cbam, self.strategy, *self.settings.values()]

    @property
    def offered(self) -> list[Any]:
        """What is shown for some starts only."""
        return [self.architecture_row, self.architecture, self.settings["shortcut"]]

    def request(self, key: str | None, values: Sequence[Any]) -> Request:
        """What the form asks for, for the visitor of this key, from the values of `components`."""
        start, dataset, architecture, cbam, strategy, *rest = values
        settings = {"strategy": strategy, **dict(zip(self.settings, rest, strict=True))}
        return Request(start, dataset, architecture, cbam, settings, key)


def build_fields(context: AppContext, visitor: gr.BrowserState) -> Fields:
    """Place the form's components in the column around it."""
    defaults = training_fields() | {"image_size": 32}
    start = gr.Dropdown(
        start_choices(context),
        value=BACKBONE if BACKBONE in context.trained_names() else RANDOM,
        label="Start from",
        info="a trained network's weights, with a new head where the classes differ",
    )
    pulled = build_pull(context, visitor)
    with gr.Row(visible=start.value == RANDOM) as architecture_row:
        architecture = gr.Dropdown(list_models(), value="resnet20", label="Architecture", min_width=130, visible=True)
        cbam = gr.Dropdown(CBAM_CHOICES, value="", label="CBAM attention", min_width=130)
        shortcut = gr.Dropdown(SHORTCUT_CHOICES, value="", label="Shortcuts", min_width=130, visible=True)
    dataset = gr.Dropdown(
        context.datasets.choices(), value=DATASET, label="Data", info="the first is small, real, and always there"
    )
    caution = gr.HTML("", apply_default_css=False, visible=False)
    added = build_more_data(context, visitor)
    strategy = gr.Dropdown(
        [(strategy.label, name) for name, strategy in STRATEGIES.items() if strategy.start != "none"],
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
    message = gr.HTML("", elem_classes="told", apply_default_css=False)
    with gr.Row():
        start_button = gr.Button("Start", variant="primary", min_width=120)
        stop_button = gr.Button("Stop", variant="stop", min_width=120, interactive=False)
    compare_button = gr.Button("Compare: the same from random initialisation", interactive=False)
    with gr.Accordion("Advanced", open=False):
        fields |= advanced_fields(defaults) | {"shortcut": shortcut}
    return Fields(
        start,
        pulled,
        dataset,
        architecture,
        cbam,
        strategy,
        fields,
        architecture_row,
        caution,
        added,
        suggest_button,
        message,
        start_button,
        stop_button,
        compare_button,
    )


def start_choices(context: AppContext, key: str | None = None) -> list[tuple[str, str]]:
    """(label, name) of all that a visitor's training can start from."""
    trained = context.trained_names(key)
    pretrained = [name for name in context.start_names(key) if name not in trained]
    choices = [(name, name) for name in trained] + [(RANDOM_WORDS, RANDOM)]
    return choices + [(f"{name} (from the Hub)", name) for name in pretrained]


def offered_by(context: AppContext, form: Fields, start: str) -> dict[Any, Any]:
    """Of `form.offered`, what is shown for a start: architecture and shortcuts are for random initialisation only."""
    try:
        takes_cbam = start == RANDOM or context.start_model(start).options.get("cbam", "") is None
    except UserError:
        takes_cbam = False
    return {
        component: gr.update(visible=takes_cbam if component is form.architecture_row else start == RANDOM)
        for component in form.offered
    }


def wire_cbam(context: AppContext, app: gr.Blocks, form: Fields) -> None:
    """Offer CBAM where the chosen network takes it."""

    def offered(start: str, architecture: str, chosen: str) -> Any:
        try:
            choices = cbam_choices(context, start, architecture)
        except UserError:  # the plan says why
            return gr.skip()
        if chosen in [value for _, value in choices]:
            return gr.update(choices=choices)
        return gr.update(choices=choices, value="")

    triggers = [app.load, form.start.change, form.architecture.change]
    gr.on(triggers, offered, [form.start, form.architecture, form.cbam], form.cbam, **LATEST)


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
        fields["layer_decay"] = number("layer_decay", "Layer decay", own_field_hint("layer_decay"), 0.05)
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


def wire_fields(
    context: AppContext,
    app: gr.Blocks,
    visitor: gr.BrowserState,
    form: Fields,
    plan_view: gr.HTML,
    data_view: gr.HTML,
    suggestion_plot: gr.Plot,
) -> None:
    """What the components set in one another, and the plan, the data and the suggestion that they lead to."""

    def look_at_plan(key: str | None, *values: Any) -> dict[Any, Any]:
        """The plan, and what to mind, of the form as it stands, or why it cannot be."""
        request = form.request(key, values)
        try:
            summary = context.datasets.summary(context.datasets.named(request.dataset, key))
            phases, config = requested_plan(context, request)
        except UserError as error:
            refused = cautions_html([str(error)])
            return {plan_view: refused, form.caution: gr.update(value=refused, visible=True)}
        sentences = cautions(summary, config.model, config.training)
        quota = quota_html(context, config, sum(summary.counts["train"]))
        return {
            plan_view: plan_html(config.training.strategy, phases, config.model) + quota,
            form.caution: gr.update(value=cautions_html(sentences), visible=bool(sentences)),
        }

    def look_at_data(key: str | None, *values: Any) -> str:
        request = form.request(key, values)
        try:
            summary = context.datasets.summary(context.datasets.named(request.dataset, key))
        except UserError:  # the plan says why
            return ""
        with context.slots.taken("previews"):
            try:
                return data_html(summary, requested_config(context, request))
            except UserError:
                return data_html(summary, None)

    def on_data(key: str | None, start_name: str, dataset_name: str, architecture_name: str) -> dict[str, Any]:
        try:
            summary = context.datasets.summary(context.datasets.named(dataset_name, key))
            return data_values(context, summary, start_name, architecture_name)
        except UserError:  # the plan says why
            return {}

    @costly
    def on_suggest(key: str | None, *values: Any) -> Iterator[dict[Any, Any]]:
        from resnet_space.training.range_test import STEPS

        # Whose it is is nobody else's business.
        beside = ", while a training runs: both take longer" if context.trainer.active() else ""
        shown_at, points, suggestion = 0.0, list[Any](), None
        yield {form.message: f'<p class="note">The images are decoded for a range test{beside}.</p>'}
        for latest in suggest(context, form.request(key, values)):
            points, suggestion = latest or (points, suggestion)
            if time.monotonic() - shown_at > PROGRESS_SECONDS:
                shown_at = time.monotonic()
                words = f"Step {len(points)} of a range test of at most {STEPS}{beside}."
                yield {form.message: f'<p class="note">{words}</p>' if points else gr.skip()}
        chart = plots.figure(plots.range_chart(points, suggestion.tested if suggestion else None))
        update = {suggestion_plot: gr.update(value=chart, visible=True), form.message: ""}
        if suggestion:
            update |= {settings[name]: getattr(suggestion, name) for name in ("backbone_lr", "head_lr")}
        yield update

    settings, components = form.settings, form.components
    choices = [visitor, form.start, form.dataset, form.architecture]

    wire_cbam(context, app, form)

    def suit(listen: Any) -> Any:
        return wire_proposal(listen, on_data, choices, {name: settings[name] for name in DATA_SETTINGS})

    def suit_start(listen: Any) -> Any:
        offered = listen(lambda name: offered_by(context, form, name), form.start, form.offered, **LATEST)
        chosen = wire_proposal(
            offered.then, lambda name: {"cbam": "stage" if name == RANDOM else ""}, [form.start], {"cbam": form.cbam}
        )
        return suit(chosen.then)

    # At what a visitor chooses, not at any change: the form also changes when it is taken back after a reload.
    suit_start(form.start.input)
    suit(form.architecture.input)
    suit(form.dataset.input)
    pulled = form.pulled.change(
        lambda name, key: gr.update(choices=start_choices(context, key), value=name),
        [form.pulled, visitor],
        form.start,
        **LATEST,
    )
    suit_start(pulled.then)
    strategy_settings = {name: settings[name] for name in STRATEGY_SETTINGS}
    wire_proposal(form.strategy.input, strategy_values, [form.strategy], strategy_settings)
    chosen = form.added.change(
        lambda ref, key: gr.update(choices=context.datasets.choices(key), value=ref),
        [form.added, visitor],
        form.dataset,
        **LATEST,
    )
    suit(chosen.then)

    ahead: Any = LATEST | {"concurrency_limit": 2}
    seen_by = [form.start, form.dataset, form.architecture, *(settings[name] for name in SEEN_BY)]
    asked = [visitor, *components]
    for handler, triggers, views in (
        (look_at_plan, components, [plan_view, form.caution]),
        (look_at_data, seen_by, [data_view]),
    ):
        gr.on([component.change for component in triggers], handler, asked, views, **ahead)
        app.load(handler, asked, views, **ahead)
    suggested = [suggestion_plot, settings["backbone_lr"], settings["head_lr"], form.message]
    suggesting = form.suggest_button.click(on_suggest, asked, suggested, concurrency_limit=1, **QUIET)
    suggesting.failure(lambda: "", None, form.message, **QUIET)
