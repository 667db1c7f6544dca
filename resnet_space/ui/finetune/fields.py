"""The fine-tune tab's form on the page: its components. What they set in one another is in `wiring`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from resnet_space.common.errors import UserError
from resnet_space.config import OPTIMIZERS
from resnet_space.models import list_models
from resnet_space.serve.context import AppContext
from resnet_space.training.strategies import STRATEGIES, own_field_hint
from resnet_space.ui.finetune.form import (
    CBAM_CHOICES,
    SHORTCUT_CHOICES,
    Request,
    training_fields,
)
from resnet_space.ui.finetune.more_data import build_more_data
from resnet_space.ui.finetune.proposals import (
    form_values,
    proposal_for,
)
from resnet_space.ui.finetune.status import RANDOM, RANDOM_WORDS
from resnet_space.ui.pull import build_pull

DATASET = "cifar10-mini"


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
    recommended: gr.HTML
    recommend_button: gr.Button
    message: gr.HTML
    start_button: gr.Button
    stop_button: gr.Button
    compare_button: gr.Button

    @property
    def by_name(self) -> dict[str, Any]:
        """All that is asked for."""
        chosen = {name: getattr(self, name) for name in ("start", "dataset", "architecture", "cbam", "strategy")}
        return chosen | self.settings

    @property
    def components(self) -> list[Any]:
        """What a handler that calls `request` needs as its inputs."""
        return list(self.by_name.values())

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
    defaults = training_fields() | {"image_size": 32} | first_values(context)
    start = gr.Dropdown(
        start_choices(context),
        value=defaults["start"],
        label="Start from",
        info="a trained network's weights, with a new head where the classes differ",
    )
    pulled = build_pull(context, visitor)
    with gr.Row(visible=start.value == RANDOM) as architecture_row:
        architecture = gr.Dropdown(
            list_models(), value=defaults["architecture"], label="Architecture", min_width=130, visible=True
        )
        cbam = gr.Dropdown(CBAM_CHOICES, value=defaults["cbam"], label="CBAM attention", min_width=130)
        shortcut = gr.Dropdown(SHORTCUT_CHOICES, value="", label="Shortcuts", min_width=130, visible=True)
    dataset = gr.Dropdown(
        context.datasets.choices(), value=DATASET, label="Data", info="the first is small, real, and always there"
    )
    caution = gr.HTML("", apply_default_css=False, visible=False)
    added = build_more_data(context, visitor)
    strategy = gr.Dropdown(
        [(strategy.label, name) for name, strategy in STRATEGIES.items() if strategy.start != "none"],
        value=defaults["strategy"],
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
    recommended = gr.HTML("", elem_id="recommended", apply_default_css=False)
    recommend_button = gr.Button("Use the recommended setup", size="sm", visible=False)
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
        recommended,
        recommend_button,
        message,
        start_button,
        stop_button,
        compare_button,
    )


def first_values(context: AppContext) -> dict[str, Any]:
    """What the form has as the page comes up: what is proposed for the first data set."""
    try:
        return form_values(proposal_for(context, DATASET, None))
    except UserError:  # it was removed; the page tells it
        return {"start": RANDOM, "architecture": "resnet20", "cbam": "", "strategy": "full"}


def start_choices(context: AppContext, key: str | None = None) -> list[tuple[str, str]]:
    """(label, name) of all that a visitor's training can start from."""
    trained = context.trained_names(key)
    pretrained = [name for name in context.start_names(key) if name not in trained]
    choices = [(name, name) for name in trained] + [(RANDOM_WORDS, RANDOM)]
    return choices + [(f"{name} (from the Hub)", name) for name in pretrained]


def advanced_fields(defaults: dict[str, Any]) -> dict[str, Any]:
    """The rarely changed settings: one place a knob, keyed by the configuration's field names."""

    def number(name: str, label: str, info: str, step: float = 0.01) -> gr.Number:
        return gr.Number(defaults[name], label=label, info=info, step=step, min_width=130)

    fields: dict[str, Any] = {}
    with gr.Row():
        fields["optimizer"] = gr.Dropdown(
            list(OPTIMIZERS), value=defaults["optimizer"], label="Optimizer", min_width=130
        )
        fields["schedule"] = gr.Dropdown(
            ["cosine", "one-cycle", "plateau", "constant"], value=defaults["schedule"], label="Schedule", min_width=130
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
        fields["crop"] = gr.Dropdown(["padded", "resized"], value=defaults["crop"], label="Random crop", min_width=130)
        fields["crop_padding"] = number("crop_padding", "Crop padding", "pixels, of the padded crop", 1)
    with gr.Row():
        fields["min_crop_area"] = number("min_crop_area", "Least crop area", "of the resized crop", 0.05)
        fields["seed"] = number("seed", "Seed", "the same gives the same run on a CPU", 1)
    fields["flip"] = gr.Checkbox(defaults["flip"], label="Mirror half of the images")
    return fields
