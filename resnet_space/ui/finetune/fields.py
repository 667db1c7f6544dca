"""The fine-tune tab's form on the page: its components. What they set in one another is in `wiring`."""

from collections.abc import Sequence
from html import escape
from typing import Any

import gradio as gr

from resnet_space.common.errors import UserError
from resnet_space.config import OBJECTIVES, OPTIMIZERS
from resnet_space.models import list_models
from resnet_space.serve.context import AppContext
from resnet_space.training.strategies import STRATEGIES, own_field_hint
from resnet_space.ui.finetune.form import CBAM_CHOICES, SHORTCUT_CHOICES, Request, training_fields
from resnet_space.ui.finetune.more_data import DATASET, build_data
from resnet_space.ui.finetune.proposals import form_values, proposal_for
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


# The rarely changed settings, two in a row: their names in the configuration, their labels and hints, and their steps.
ADVANCED = (
    ("warmup", "Warm-up", "fraction of a phase's steps", 0.01),
    ("weight_decay", "Weight decay", "not on norms and biases", 0.0001),
    ("momentum", "Momentum", "of SGD", 0.01),
    ("layer_decay", "Layer decay", own_field_hint("layer_decay"), 0.05),
    ("label_smoothing", "Label smoothing", "0 is none", 0.05),
    ("clip_norm", "Gradient clipping", "maximum norm; 0 is none", 0.5),
    ("mixup", "MixUp", "alpha; 0 is none", 0.1),
    ("cutmix", "CutMix", "alpha; 0 is none", 0.1),
    ("ema", "Moving average", "decay, of the weights; 0 is none", 0.001),
    ("patience", "Patience", "epochs without improvement; 0: no early stop", 1),
    ("image_size", "Image size", "pixels at the model's input", 32),
    ("validation_fraction", "Validation share", "held out to choose the best epoch", 0.05),
)


class Fields:
    """The form, placed in the column around it in the order in which one thinks: data, setup, start.

    Attributes:
        settings: by the names of TrainConfig's fields, one knob in one place.
        hint: on the strategy.
        check_button, compare_button: open the sections to check the data, and to compare networks.
        name: of the run.
        queue_button: in the place of Start, while one trains.
        going_on: where the subject can train on, with `more_epochs` and `go_on_button`.
    """

    def __init__(self, shared: Shared) -> None:
        context = shared.context
        self.defaults = training_fields() | {"image_size": 32} | first_values(context)
        self.settings: dict[str, Any] = {}
        place_heading("Data")
        self.data = build_data(shared)
        place_heading("Recommended setup")
        self.recommended = place_html(elem_id="recommended")
        self.caution = place_html(visible=False)
        self.recommend_button = gr.Button("Use the recommended setup", size="sm", visible=False)
        with gr.Row(elem_classes="links"):
            link: Any = {"size": "sm", "elem_classes": "link", "min_width": 10}
            self.compare_button = gr.Button("Which network suits these images?", **link)
            self.check_button = gr.Button("Are their labels right?", **link)
        with gr.Accordion("Change the setup", open=False, elem_id="setup"):
            self._place_setup(shared)
        with gr.Column(elem_id="go"):
            self._place_start()

    def _place_setup(self, shared: Shared) -> None:
        context, defaults = shared.context, self.defaults
        self.start = gr.Dropdown(
            start_choices(context),
            value=defaults["start"],
            label="Backbone",
            info="the weights to start from; the head is replaced if the classes differ",
        )
        self.pulled = build_pull(shared)
        with gr.Row(visible=self.start.value == RANDOM) as self.architecture_row:
            self.architecture = gr.Dropdown(
                list_models(), value=defaults["architecture"], label="Architecture", min_width=130, visible=True
            )
            self.cbam = gr.Dropdown(CBAM_CHOICES, value=defaults["cbam"], label="CBAM attention", min_width=130)
            shortcut = gr.Dropdown(SHORTCUT_CHOICES, value="", label="Shortcuts", min_width=130, visible=True)
        self.strategy = gr.Dropdown(
            [(strategy.label, name) for name, strategy in STRATEGIES.items() if strategy.start != "none"],
            value=defaults["strategy"],
            label="Strategy",
            info="which layers train, and when",
        )
        self.hint = place_html()
        with gr.Row():
            self._number("epochs", "Epochs")
            self._number("batch_size", "Batch size")
        with gr.Row():
            self._number("backbone_lr", "Backbone rate", "peak learning rate", 0.001)
            self._number("head_lr", "Head rate", "peak learning rate", 0.001)
        self.suggest_button = gr.Button("Suggest a learning rate", size="sm")
        self.suggestion = gr.Plot(visible=False, show_label=False, elem_classes="chart")
        with gr.Accordion("Advanced", open=False):
            self._place_advanced()
            self.settings["shortcut"] = shortcut
        with gr.Accordion("Adapt to another domain", open=False, elem_id="domain"):
            self._place_domain(context)
        with gr.Accordion("Plan: what trains when", open=False):
            self.plan = place_html()

    def _number(self, name: str, label: str, info: str | None = None, step: float = 1) -> None:
        self.settings[name] = gr.Number(self.defaults[name], label=label, info=info, step=step, min_width=130)

    def _choice(self, name: str, label: str, choices: Sequence[Any], info: str | None = None) -> None:
        self.settings[name] = gr.Dropdown(
            list(choices), value=self.defaults[name], label=label, info=info, min_width=130
        )

    def _place_advanced(self) -> None:
        with gr.Row():
            self._choice("optimizer", "Optimizer", OPTIMIZERS)
            self._choice("schedule", "Schedule", ["cosine", "one-cycle", "plateau", "constant"])
        for pair in zip(ADVANCED[::2], ADVANCED[1::2], strict=True):
            with gr.Row():
                for field in pair:
                    self._number(*field)
        with gr.Row():
            self._choice("crop", "Random crop", ["padded", "resized"])
            self._number("crop_padding", "Crop padding", "pixels, of the padded crop", 1)
        with gr.Row():
            self._number("min_crop_area", "Smallest crop area", "fraction, of the resized crop", 0.05)
            self._number("seed", "Seed", "the same seed repeats a run on a CPU", 1)
        self.settings["flip"] = gr.Checkbox(self.defaults["flip"], label="Random horizontal flip")
        self.settings["grouped_split"] = gr.Checkbox(
            self.defaults["grouped_split"],
            label="Keep near-duplicates together",
            info="on one side of each split; test images that are held out stay the same when you add images",
        )

    def _place_domain(self, context: AppContext) -> None:
        """The settings for learning from a second, unlabelled dataset."""
        self.settings["target"] = gr.Dropdown(
            [NO_TARGET, *context.datasets.targets()],
            value=self.defaults["target"],
            label="Target dataset",
            info="the same classes in other conditions; its labels are for the test alone",
        )
        self.settings["objective"] = gr.Dropdown(
            [(objective.label, name) for name, objective in OBJECTIVES.items()],
            value=self.defaults["objective"],
            label="Objective",
            info="what is minimised; all but cross-entropy adapt to the target",
        )
        place_html(OBJECTIVE_HINTS)
        with gr.Row():
            self._number("domain_weight", "Domain weight", "λ, of the domain loss", 0.1)
            schedules = [("rising", "ramp"), ("constant", "constant")]
            self._choice("domain_schedule", "Schedule of λ", schedules, "rising from 0, or not")

    def _place_start(self) -> None:
        with gr.Row(elem_id="start-row", equal_height=True):
            self.name = gr.Textbox("", label="Run name", min_width=140, max_length=96, elem_id="run-name")
            self.start_button = gr.Button("Start", variant="primary", min_width=110)
            self.queue_button = gr.Button("Queue", min_width=90, visible=False)
            self.stop_button = gr.Button("Stop", variant="stop", min_width=110, visible=False)
        self.estimate = place_html(elem_id="estimate")
        place_html(UNKNOWN, html_template=LIVE_LINE, elem_id="status")
        self.message = place_html(elem_classes="told")
        with gr.Row(visible=False, elem_id="going-on") as self.going_on:
            self.more_epochs = gr.Number(
                MORE_EPOCHS, label="More epochs", info="than planned", min_width=130, precision=0, minimum=0
            )
            self.go_on_button = gr.Button("Resume", min_width=150)

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
