"""What programs can ask of the fine-tune tab: `gradio_client`, plain HTTP."""

from typing import Any

import gradio as gr
from gradio.events import api

from resnet_space.runs import RunError, last_metric
from resnet_space.ui import visitors
from resnet_space.ui.finetune.form import Request, create_run, own_settings, start_training
from resnet_space.ui.finetune.slices import LIMITS, also_hosting
from resnet_space.ui.workshop import BACKBONE, Workshop
from resnet_space.zero import is_zero_gpu


def training_status(workshop: Workshop, name: str) -> dict[str, Any]:
    """How a run's training stands, for programs: its state and its last metrics."""
    try:
        run = workshop.library.open(name)
    except RunError as error:
        raise gr.Error(str(error), print_exception=False) from None
    metrics = workshop.library.metrics(run)
    status = workshop.trainer.status(run)
    last = {event: last_metric(metrics, event) for event in ("step", "epoch", "test")}
    return {"run": name, "state": status.state, "place": status.place, "reason": status.reason, **last}


def build_api(workshop: Workshop) -> None:
    """The endpoints /start_training, /training_status and /stop_training."""

    def start_training_endpoint(
        start: str = BACKBONE,
        dataset: str = "cifar10-mini",
        architecture: str = "resnet20",
        cbam: str = "",
        strategy: str = "full",
        epochs: int = 10,
        batch_size: int | None = None,
        backbone_lr: float | None = None,
        head_lr: float | None = None,
        seed: int = 0,
        more: dict[str, Any] | None = None,
        key: str = "",
    ) -> dict[str, Any]:
        """Start fine-tuning a ResNet; one training runs at a time, the others wait.

        Args:
            start: a trained run's name, ImageNet weights such as "resnet18.tv_in1k", or "random initialisation".
            dataset: a data set on the machine, e.g. "cifar10-mini", or one of the Hub: "owner/name@revision#config",
                of which revision and configuration may be left out.
            architecture: used with random initialisation only, e.g. "resnet20".
            cbam: "none", "stage" or "block" with random initialisation or a start without CBAM.
            strategy: "full", "linear-probe", "last-stage", "freeze-unfreeze", "three-stage", "discriminative" or
                "one-cycle".
            epochs: passes over the training images.
            batch_size: images a step; what suits the images where it is left out.
            backbone_lr: peak learning rate of everything but the head; the strategy's own where it is left out.
            head_lr: peak learning rate of the head; the strategy's own where it is left out.
            seed: of everything random.
            more: other settings by their names in config.json, e.g. {"mixup": 0.2, "image_size": 64}.
            key: a secret of yours that stops the run later; on a public app one is made where it is left out.

        Returns:
            The run's name and state, as training_status gives them, and the key.
        """
        key = key or (visitors.new_key() if workshop.public else "")
        given = {"batch_size": batch_size, "backbone_lr": backbone_lr, "head_lr": head_lr}
        given = {name: value for name, value in given.items() if value is not None}

        def create() -> Any:
            request = Request(start, dataset, architecture, cbam, {"strategy": strategy})
            settings = {"strategy": strategy, **own_settings(workshop, request), **given}
            settings |= {"epochs": epochs, "seed": seed, **(more or {})}
            return create_run(workshop, Request(start, dataset, architecture, cbam, settings))

        return training_status(workshop, start_training(workshop, create, key).name) | {"key": key}

    def training_status_endpoint(run: str) -> dict[str, Any]:
        """How a run's training stands.

        Args:
            run: the run's name.

        Returns:
            Its state (new, queued, starting, training, stopping, finished, stopped, failed), its place in the queue (1
            is next, 0 for one that does not wait), the reason where it failed, and its last step, epoch and test
            metrics.
        """
        return training_status(workshop, run)

    def stop_training_endpoint(run: str, key: str = "") -> dict[str, Any]:
        """Ask a run's trainer to stop at its next step, or take it from the queue; its best weights are kept.

        Args:
            run: the run's name.
            key: that start_training gave back.

        Returns:
            As training_status.
        """
        try:
            workshop.trainer.stop(workshop.own_run(run, key))
        except RunError as error:
            raise gr.Error(str(error), print_exception=False) from None
        return training_status(workshop, run)

    if is_zero_gpu():
        api(also_hosting(workshop, start_training_endpoint), api_name="start_training", **LIMITS)
    else:
        api(start_training_endpoint, api_name="start_training")
    api(training_status_endpoint, api_name="training_status", queue=False)
    api(stop_training_endpoint, api_name="stop_training", queue=False)
