"""Write the result of teaching by showing as a run, so that everything that works with runs works with it.

It is written from the solved head, not by `train(run)`. A training holds out a validation and a test set: of ten
pictures a class it would learn from seven and be judged by two. This head has learned from all, and its test is what
heads that had not seen a picture made of it, of every picture: see `taught`. A training of the same dataset from the
form is the usual one.

All of it is written beside the run, which then changes at once: nobody meets a configuration of three classes with the
weights of two. The backbone's weights are kept in half precision where that is what they have.
"""

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from resnet_space.common.files import discard
from resnet_space.config import RunConfig
from resnet_space.explain.ood import save_feature_statistics
from resnet_space.models import Backbone
from resnet_space.runs import EVALUATION, LEFT_OUT_ONCE, RESUME, Metric, Run, without_head
from resnet_space.training.calibration import Passed, calibrate_confidence
from resnet_space.training.evaluation import save as save_evaluation
from resnet_space.training.evaluation import summary
from resnet_space.training.strategies import plan, recipe
from resnet_space.training.taught import Lesson

STRATEGY = "linear-probe"
LEFT_OUT = "Taught by showing: each picture was held out once and classified by heads that had not seen it."


def config_of(backbone: Run, dataset: str, classes: tuple[str, ...]) -> RunConfig:
    """The configuration of a run taught with a dataset, on a frozen backbone."""
    model = replace(backbone.config.model, classes=classes, temperature=1.0)
    return RunConfig(model, recipe(STRATEGY, dataset, start=backbone.name, epochs=1))


def write_taught_run(
    path: Path,
    config: RunConfig,
    lesson: Lesson,
    backbone: Run,
    model: Backbone,
    *,
    seconds: float,
    claim: Callable[[Run], None],
) -> Run:
    """Write a run, or replace one that was written this way.

    Args:
        path: of the run's folder.
        config: of `config_of`.
        lesson: what was learned.
        backbone: what it was learned on; its licence goes with the weights.
        model: the backbone's, with its own head.
        seconds: that the lesson took.
        claim: makes a new run somebody's; one that is replaced stays whose it was.

    Raises:
        UserError: if it cannot be written; then the old run stays.
    """
    made = Run(path.with_name(f".{path.name}.{os.getpid()}.tmp"), config)
    discard(made.path)  # of a process that was killed
    with made.made_whole():
        made.write_config()
        made.save_weights(_weights(model, lesson, config.model.entry.head))
        made.take_notice(backbone)
        if lesson.statistics is not None:
            save_feature_statistics(lesson.statistics, made)
        save_evaluation(lesson.held_out, made.path / EVALUATION)
        _write_metrics(made, lesson, model, seconds)
        if not path.exists():
            claim(made)
        elif (path / RESUME).is_dir():  # whose it is
            shutil.copytree(path / RESUME, made.path / RESUME)
        discard(path)
        made.path.rename(path)
    return Run.open(path)


def _weights(model: Backbone, lesson: Lesson, head: str) -> dict[str, Tensor]:
    kept = without_head(dict(model.state_dict()), head)
    half = {name: value.half() if value.is_floating_point() else value for name, value in kept.items()}
    if all(torch.equal(value.float(), kept[name]) for name, value in half.items() if value.is_floating_point()):
        kept = half
    return kept | {f"{head}.weight": lesson.head.weight, f"{head}.bias": lesson.head.bias}


def _write_metrics(run: Run, lesson: Lesson, model: Backbone, seconds: float) -> None:
    """Those of a linear probe's training, with the pictures that were left out in the place of other sets."""
    judged = lesson.held_out
    scores = {name: round(value, 5) for name, value in summary(judged).items()}
    loss = round(lesson.head.loss, 5)
    old_head = sum(parameter.numel() for parameter in model.get_classifier().parameters())
    own_head = lesson.head.weight.numel() + lesson.head.bias.numel()
    start: Metric = {
        "event": "start",
        "time": round(time.time() - seconds, 1),
        "device": "cpu",
        "precision": "float32",
        "parameters": sum(parameter.numel() for parameter in model.parameters()) - old_head + own_head,
        "train_images": len(lesson.directions),
        "validation_images": len(judged),
        "epochs": 1,
        "steps_per_epoch": 1,
        "phases": [phase.to_json() for phase in plan(run.config.training, run.config.model)],
        "warning": LEFT_OUT,
    }
    pace = round(len(lesson.directions) / max(seconds, 1e-3), 1)
    step: Metric = {"event": "step", "step": 1, "rates": {}, "loss": loss, "images_per_second": pace}
    epoch: Metric = {
        "event": "epoch",
        "epoch": 1,
        "step": 1,
        "phase": 1,
        "train_loss": loss,
        "train_accuracy": round(lesson.accuracy, 5),
        "validation_loss": scores["loss"],
        "validation_accuracy": scores["accuracy"],
        "best": True,
        "penalty": lesson.head.penalty,
    }
    labels = torch.from_numpy(judged.labels).long()
    run, calibration = calibrate_confidence(run, Passed(lesson.logits, np.empty((0, 0), np.float32), labels))
    test: Metric = {"event": "test", "split": "train", "images": len(judged), **scores, LEFT_OUT_ONCE: True}
    for metric in (start, step, epoch, calibration, test):
        run.append_metric(metric | {"seconds": round(seconds, 2)})
    run.append_metric({"event": "end", "status": "finished", "time": round(time.time(), 1)})
