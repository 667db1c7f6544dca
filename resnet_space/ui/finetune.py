"""The fine-tune tab: a form, a live view of what trains, and the comparison of runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
from gradio.events import api

from resnet_space import charts
from resnet_space.config import ARCHITECTURES, ModelConfig, RunConfig, TrainConfig
from resnet_space.process import BusyError
from resnet_space.runs import Run, RunError, last_metric
from resnet_space.ui.status import EMPTY, RANDOM, runs_html, status_html
from resnet_space.ui.workshop import BACKBONE, SHIPPED, Workshop

DATASETS = ["cifar10-mini"]
CBAM_CHOICES = [("none", "none"), ("after every stage", "stage"), ("inside every block", "block")]
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


@dataclass(frozen=True)
class Request:
    """What the form asks for. `architecture` and `cbam` count only where `start` is random initialisation."""

    start: str
    dataset: str
    architecture: str
    cbam: str
    training: dict[str, Any]  # by TrainConfig's field names


def create_run(workshop: Workshop, request: Request) -> Run:
    """A new run as the form describes it.

    Raises:
        ConfigError, RunError, DataError: one sentence on what is not allowed; then nothing was created.
    """
    from resnet_space.data.sources import dataset_classes

    source = None if request.start == RANDOM else workshop.library.open(request.start)
    classes = dataset_classes(request.dataset)
    if source is not None:
        model = replace(source.config.model, classes=classes)
    else:
        cbam: Any = None if request.cbam == "none" else request.cbam
        small = request.architecture in ARCHITECTURES and ARCHITECTURES[request.architecture].is_cifar_family
        model = ModelConfig(request.architecture, classes, cbam=cbam, shortcut="pad" if small else "projection")
    # A page sends 10 or 10.0 as it likes; what is no whole number stays, so that the configuration can refuse it.
    numbers: dict[str, Any] = {
        k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in request.training.items()
    }
    config = TrainConfig(dataset=request.dataset, start=source.name if source else None, **numbers)
    name = workshop.library.free_name("fine-tune" if source else "scratch")
    return Run.create(workshop.library.root / name, RunConfig(model, config), start=source)


def create_comparison(workshop: Workshop, name: str) -> Run:
    """A new run like another one, but from random initialisation. Raises RunError."""
    config = workshop.library.open(name).config
    path = workshop.library.root / workshop.library.free_name("scratch")
    return Run.create(path, replace(config, training=replace(config.training, start=None)))


def start_training(workshop: Workshop, create: Callable[[], Run]) -> Run:
    """Create a run and start it. Raises gr.Error with one sentence; then nothing was created."""
    try:
        return workshop.trainer.start_new(create)
    except (RunError, BusyError, ValueError) as error:  # ConfigError and DataError are ValueErrors
        raise gr.Error(str(error), print_exception=False) from None


def training_status(workshop: Workshop, name: str) -> dict[str, Any]:
    """How a run's training stands, for programs: its state and its last metrics."""
    try:
        run = workshop.library.open(name)
    except RunError as error:
        raise gr.Error(str(error), print_exception=False) from None
    metrics = workshop.library.metrics(run)
    status = workshop.trainer.status(run)
    last = {event: last_metric(metrics, event) for event in ("step", "epoch", "test")}
    return {"run": name, "state": status.state, "reason": status.reason, **last}


def build_finetune(workshop: Workshop) -> FinetuneTab:
    """Place the tab's components and wire its events."""
    defaults = TrainConfig(dataset=DATASETS[0])
    starts = [*workshop.trained_names(), RANDOM]

    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            start = gr.Dropdown(
                starts,
                value=BACKBONE if BACKBONE in starts else starts[0],
                label="Start from",
                info="a trained run's weights, with a new head where the classes differ",
            )
            dataset = gr.Dropdown(
                DATASETS, value=DATASETS[0], label="Data", info="2,000 training and 1,000 test images of CIFAR-10"
            )
            with gr.Row(visible=start.value == RANDOM) as from_scratch:
                architecture = gr.Dropdown(list(ARCHITECTURES), value="resnet20", label="Architecture", min_width=130)
                cbam = gr.Dropdown(CBAM_CHOICES, value="stage", label="CBAM attention", min_width=130)
            # One knob, one place: keyed by TrainConfig's field names.
            with gr.Row():
                fields = {
                    "epochs": gr.Number(defaults.epochs, label="Epochs", min_width=130),
                    "batch_size": gr.Number(defaults.batch_size, label="Batch size", min_width=130),
                }
            with gr.Row():
                for name, part in (("backbone_lr", "Backbone"), ("head_lr", "Head")):
                    fields[name] = gr.Number(
                        getattr(defaults, name),
                        label=f"{part} rate",
                        info="peak learning rate",
                        step=0.01,
                        min_width=130,
                    )
            fields["seed"] = gr.Number(defaults.seed, label="Seed", info="the same seed gives the same run on a CPU")
            with gr.Row():
                start_button = gr.Button("Start", variant="primary", min_width=120)
                stop_button = gr.Button("Stop", variant="stop", min_width=120, interactive=False)
            compare_button = gr.Button("Compare: the same from random initialisation", interactive=False)

        with gr.Column(scale=2, min_width=320):
            status = gr.HTML(EMPTY, apply_default_css=False)
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
        here = [name for name in runs if name not in SHIPPED]
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

    def on_start(shown_names: list[str], *values: Any) -> Any:
        start_name, dataset_name, architecture_name, cbam_place, *numbers = values
        training = dict(zip(fields, numbers, strict=True))
        request = Request(start_name, dataset_name, architecture_name, cbam_place, training)
        return shown_with(shown_names, start_training(workshop, lambda: create_run(workshop, request)))

    def on_compare(shown_names: list[str], name: str) -> Any:
        return shown_with(shown_names, start_training(workshop, lambda: create_comparison(workshop, name)))

    def on_stop() -> None:
        active = workshop.trainer.active()
        if active is None:
            raise gr.Error("Nothing is training, so there is nothing to stop.", print_exception=False)
        workshop.trainer.stop(workshop.library.open(active))

    form = [start, dataset, architecture, cbam, *fields.values()]
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
    start.change(lambda name: gr.update(visible=name == RANDOM), start, from_scratch, **private)
    for button, handler, inputs in (
        (start_button, on_start, [shown, *form]),
        (compare_button, on_compare, [shown, followed]),
    ):
        button.click(handler, inputs, shown, show_progress="hidden", **private).success(**tick, **private)
    stop_button.click(on_stop, None, None, **private).success(**tick, **private)
    names.change(lambda trained: gr.update(choices=[*trained, RANDOM]), names, start, show_progress="hidden", **private)
    _build_api(workshop)
    return FinetuneTab(names, try_it, explore_it, followed)


def _build_api(workshop: Workshop) -> None:
    defaults = TrainConfig(dataset=DATASETS[0])

    def start_training_endpoint(
        start: str = BACKBONE,
        dataset: str = DATASETS[0],
        architecture: str = "resnet20",
        cbam: str = "stage",
        epochs: int = defaults.epochs,
        batch_size: int = defaults.batch_size,
        backbone_lr: float = defaults.backbone_lr,
        head_lr: float = defaults.head_lr,
        seed: int = defaults.seed,
    ) -> dict[str, Any]:
        """Start fine-tuning a ResNet; one training runs at a time.

        Args:
            start: a trained run's name, or "random initialisation".
            dataset: "cifar10-mini".
            architecture: used with random initialisation only, e.g. "resnet20".
            cbam: used with random initialisation only: "none", "stage" or "block".
            epochs: passes over the training images.
            batch_size: images a step.
            backbone_lr: peak learning rate of everything but the head.
            head_lr: peak learning rate of the head.
            seed: of everything random.

        Returns:
            The run's name and state, as training_status gives them.
        """
        training = {
            "epochs": epochs,
            "batch_size": batch_size,
            "backbone_lr": backbone_lr,
            "head_lr": head_lr,
            "seed": seed,
        }
        request = Request(start, dataset, architecture, cbam, training)
        run = start_training(workshop, lambda: create_run(workshop, request))
        return training_status(workshop, run.name)

    def training_status_endpoint(run: str) -> dict[str, Any]:
        """How a run's training stands.

        Args:
            run: the run's name.

        Returns:
            Its state (starting, training, stopping, finished, stopped, failed), the reason where it failed, and its
            last step, epoch and test metrics.
        """
        return training_status(workshop, run)

    def stop_training_endpoint(run: str) -> dict[str, Any]:
        """Ask a run's trainer to stop at its next step; its best weights are kept.

        Args:
            run: the run's name.

        Returns:
            As training_status.
        """
        try:
            workshop.trainer.stop(workshop.library.open(run))
        except RunError as error:
            raise gr.Error(str(error), print_exception=False) from None
        return training_status(workshop, run)

    api(start_training_endpoint, api_name="start_training")
    api(training_status_endpoint, api_name="training_status", queue=False)
    api(stop_training_endpoint, api_name="stop_training", queue=False)
