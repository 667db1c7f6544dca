"""The fine-tune tab's form on the page: its components. What they set in one another is in `wiring`."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from resnet_space.common.errors import UserError
from resnet_space.config import OBJECTIVES, OPTIMIZERS
from resnet_space.models import list_models
from resnet_space.serve.context import AppContext
from resnet_space.training.strategies import STRATEGIES, own_field_hint
from resnet_space.ui.finetune.form import (
    CBAM_CHOICES,
    SHORTCUT_CHOICES,
    Request,
    training_fields,
)
from resnet_space.ui.finetune.more_data import DATASET, Data, build_data
from resnet_space.ui.finetune.proposals import (
    form_values,
    proposal_for,
)
from resnet_space.ui.finetune.status import RANDOM, RANDOM_WORDS, UNKNOWN
from resnet_space.ui.html import LIVE_LINE, note_html, place_heading, place_html
from resnet_space.ui.pull import build_pull
from resnet_space.ui.subject import Shared

NO_TARGET = ("none", "")
OBJECTIVE_HINTS = (
    '<details><summary>Which objective?</summary><ul class="note">'
    + "".join(
        f"<li><b>{escape(objective.label)}</b>: {escape(objective.hint)}</li>" for objective in OBJECTIVES.values()
    )
    + "</ul></details>"
)
MORE_EPOCHS = 5  # that a finished run is offered


@dataclass(frozen=True)
class Fields:
    """The form's components; `settings` by the names of TrainConfig's fields, one knob in one place."""

    start: gr.Dropdown
    pulled: gr.State
    data: Data
    architecture: gr.Dropdown
    cbam: gr.Dropdown
    strategy: gr.Dropdown
    hint: gr.HTML  # on the strategy
    settings: dict[str, Any]
    architecture_row: gr.Row
    caution: gr.HTML
    suggest_button: gr.Button
    suggestion: gr.Plot
    recommended: gr.HTML
    recommend_button: gr.Button
    check_button: gr.Button  # opens the section in which the data is checked
    compare_button: gr.Button  # opens the section in which networks are compared
    plan: gr.HTML
    name: gr.Textbox  # of the run
    estimate: gr.HTML
    message: gr.HTML
    start_button: gr.Button
    queue_button: gr.Button  # instead, while one trains
    stop_button: gr.Button
    going_on: gr.Row  # where the subject can train on, with the two that follow
    more_epochs: gr.Number
    go_on_button: gr.Button

    @property
    def dataset(self) -> gr.Dropdown:
        return self.data.dataset

    @property
    def labels(self) -> dict[str, str]:
        """What the form calls its fields, by their names."""
        return {name: str(component.label) for name, component in self.by_name.items()}

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


def build_fields(shared: Shared) -> Fields:
    """Place the form in the column around it, in the order in which one thinks: data, setup, start."""
    context = shared.context
    defaults = training_fields() | {"image_size": 32} | first_values(context)
    place_heading("Data")
    data = build_data(shared)
    place_heading("Recommended setup")
    recommended = place_html(elem_id="recommended")
    caution = place_html(visible=False)
    recommend_button = gr.Button("Use the recommended setup", size="sm", visible=False)
    with gr.Row(elem_classes="links"):
        compare_button = gr.Button("Which network suits these images?", size="sm", elem_classes="link", min_width=10)
        check_button = gr.Button("Are their labels right?", size="sm", elem_classes="link", min_width=10)
    with gr.Accordion("Change the setup", open=False, elem_id="setup"):
        start = gr.Dropdown(
            start_choices(context),
            value=defaults["start"],
            label="Backbone",
            info="the weights to start from; the head is replaced if the classes differ",
        )
        pulled = build_pull(shared)
        with gr.Row(visible=start.value == RANDOM) as architecture_row:
            architecture = gr.Dropdown(
                list_models(), value=defaults["architecture"], label="Architecture", min_width=130, visible=True
            )
            cbam = gr.Dropdown(CBAM_CHOICES, value=defaults["cbam"], label="CBAM attention", min_width=130)
            shortcut = gr.Dropdown(SHORTCUT_CHOICES, value="", label="Shortcuts", min_width=130, visible=True)
        strategy = gr.Dropdown(
            [(strategy.label, name) for name, strategy in STRATEGIES.items() if strategy.start != "none"],
            value=defaults["strategy"],
            label="Strategy",
            info="which layers train, and when",
        )
        hint = place_html()
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
        suggestion = gr.Plot(visible=False, show_label=False, elem_classes="chart")
        with gr.Accordion("Advanced", open=False):
            fields |= advanced_fields(defaults) | {"shortcut": shortcut}
        with gr.Accordion("Adapt to another domain", open=False, elem_id="domain"):
            fields |= domain_fields(context, defaults)
        with gr.Accordion("Plan: what trains when", open=False):
            plan = place_html()
    with gr.Column(elem_id="go"):
        with gr.Row(elem_id="start-row", equal_height=True):
            run_name = gr.Textbox("", label="Run name", min_width=140, max_length=96, elem_id="run-name")
            start_button = gr.Button("Start", variant="primary", min_width=110)
            queue_button = gr.Button("Queue", min_width=90, visible=False)
            stop_button = gr.Button("Stop", variant="stop", min_width=110, visible=False)
        estimate = place_html(elem_id="estimate")
        place_html(UNKNOWN, html_template=LIVE_LINE, elem_id="status")
        message = place_html(elem_classes="told")
        with gr.Row(visible=False, elem_id="going-on") as going_on:
            more_epochs = gr.Number(
                MORE_EPOCHS, label="More epochs", info="than planned", min_width=130, precision=0, minimum=0
            )
            go_on_button = gr.Button("Resume", min_width=150)
    return Fields(
        start,
        pulled,
        data,
        architecture,
        cbam,
        strategy,
        hint,
        fields,
        architecture_row,
        caution,
        suggest_button,
        suggestion,
        recommended,
        recommend_button,
        check_button,
        compare_button,
        plan,
        run_name,
        estimate,
        message,
        start_button,
        queue_button,
        stop_button,
        going_on,
        more_epochs,
        go_on_button,
    )


def hint_html(strategy: str) -> str:
    """What a strategy trains, what it is for, and what it needs."""
    entry = STRATEGIES.get(strategy)
    if entry is None:
        return ""
    needs = "a pretrained backbone" if entry.start == "needed" else "no pretrained weights"
    suits = f" <b>For:</b> {entry.suits}." if entry.suits else ""
    return note_html(f"{entry.summary[0].upper()}{entry.summary[1:]}.{suits} <b>Needs:</b> {needs}.")


def first_values(context: AppContext) -> dict[str, Any]:
    """What the form has as the page comes up: what is proposed for the first dataset."""
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
        fields["warmup"] = number("warmup", "Warm-up", "fraction of a phase's steps")
        fields["weight_decay"] = number("weight_decay", "Weight decay", "not on norms and biases", 0.0001)
    with gr.Row():
        fields["momentum"] = number("momentum", "Momentum", "of SGD")
        fields["layer_decay"] = number("layer_decay", "Layer decay", own_field_hint("layer_decay"), 0.05)
    with gr.Row():
        fields["label_smoothing"] = number("label_smoothing", "Label smoothing", "0 is none", 0.05)
        fields["clip_norm"] = number("clip_norm", "Gradient clipping", "maximum norm; 0 is none", 0.5)
    with gr.Row():
        fields["mixup"] = number("mixup", "MixUp", "alpha; 0 is none", 0.1)
        fields["cutmix"] = number("cutmix", "CutMix", "alpha; 0 is none", 0.1)
    with gr.Row():
        fields["ema"] = number("ema", "Moving average", "decay, of the weights; 0 is none", 0.001)
        fields["patience"] = number("patience", "Patience", "epochs without improvement; 0: no early stop", 1)
    with gr.Row():
        fields["image_size"] = number("image_size", "Image size", "pixels at the model's input", 32)
        fields["validation_fraction"] = number(
            "validation_fraction", "Validation share", "held out to choose the best epoch", 0.05
        )
    with gr.Row():
        fields["crop"] = gr.Dropdown(["padded", "resized"], value=defaults["crop"], label="Random crop", min_width=130)
        fields["crop_padding"] = number("crop_padding", "Crop padding", "pixels, of the padded crop", 1)
    with gr.Row():
        fields["min_crop_area"] = number("min_crop_area", "Smallest crop area", "fraction, of the resized crop", 0.05)
        fields["seed"] = number("seed", "Seed", "the same seed repeats a run on a CPU", 1)
    fields["flip"] = gr.Checkbox(defaults["flip"], label="Random horizontal flip")
    fields["grouped_split"] = gr.Checkbox(
        defaults["grouped_split"],
        label="Keep near-duplicates together",
        info="on one side of each split; test images that are held out stay the same when you add images",
    )
    return fields


def domain_fields(context: AppContext, defaults: dict[str, Any]) -> dict[str, Any]:
    """The settings for learning from a second, unlabelled dataset, keyed as those of `advanced_fields`."""
    fields: dict[str, Any] = {
        "target": gr.Dropdown(
            [NO_TARGET, *context.datasets.targets()],
            value=defaults["target"],
            label="Target dataset",
            info="the same classes in other conditions; its labels are for the test alone",
        ),
        "objective": gr.Dropdown(
            [(objective.label, name) for name, objective in OBJECTIVES.items()],
            value=defaults["objective"],
            label="Objective",
            info="what is minimised; all but cross-entropy adapt to the target",
        ),
    }
    place_html(OBJECTIVE_HINTS)
    with gr.Row():
        fields["domain_weight"] = gr.Number(
            defaults["domain_weight"], label="Domain weight", info="λ, of the domain loss", step=0.1, min_width=130
        )
        fields["domain_schedule"] = gr.Dropdown(
            [("rising", "ramp"), ("constant", "constant")],
            value=defaults["domain_schedule"],
            label="Schedule of λ",
            info="rising from 0, or not",
            min_width=130,
        )
    return fields
