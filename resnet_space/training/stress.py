"""Test a run on its test images under common corruptions (Hendrycks & Dietterich 2019)."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from resnet_space.common.errors import UserError
from resnet_space.data.batches import centre_crop
from resnet_space.data.columns import count_rows
from resnet_space.data.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from resnet_space.data.reference import DatasetRef
from resnet_space.data.sources import open_dataset
from resnet_space.data.splits import ImageSet, load_split
from resnet_space.data.summary import SMALL_IMAGE
from resnet_space.explain.ood import load_feature_statistics
from resnet_space.runs import Run, last_metric
from resnet_space.training.calibration import passed
from resnet_space.training.device import choose_device
from resnet_space.training.evaluation import calibration_error, load_evaluation
from resnet_space.training.robustness import CLEAN, Robustness, Stressed, digest, load_robustness, store

MOST_IMAGES, MOST_PHOTOGRAPHS = 1_000, 200  # to be classified 61 times


def stress_test(run: Run, *, seed: int = 0) -> Robustness:
    """Test a run under corruptions, or read what was stored of that. Raises as `stress_steps`."""
    *_, found = stress_steps(run, seed=seed)
    return found


def stress_steps(run: Run, *, seed: int = 0) -> Iterator[Robustness]:
    """Test a run under corruptions; gives what there is so far after each, and stores the complete result.

    Args:
        run: tested.
        seed: of the corruptions.

    Raises:
        UserError: for a run that was not tested, or whose test images are gone.
    """
    stored = load_robustness(run)
    if stored is not None and stored.seed == seed:
        yield stored
        return
    data, config = _test_images(run), run.config.model
    model = run.load_model().to(choose_device())
    statistics = load_feature_statistics(run)

    def result(corruption: str, severity: int) -> Stressed:
        images = corrupt(data.images, corruption, severity, seed) if severity else data.images
        logits, means, labels = passed(model, replace(data, images=images), config)
        confidence, predicted = (logits / config.temperature).softmax(1).max(1)
        right = (predicted == labels).numpy()
        unlike = None if statistics is None else round(float((statistics.ood_score(means) > 1).mean()), 5)
        ece = calibration_error(confidence.numpy(), right)
        return Stressed(corruption, severity, round(float(right.mean()), 5), round(ece, 5), unlike)

    wanted = [(CLEAN, 0), *((name, severity) for name in CORRUPTIONS for severity in range(1, SEVERITIES + 1))]
    found = Robustness(digest(run), len(data), seed, (), len(wanted))
    for corruption, severity in wanted:
        found = replace(found, rows=(*found.rows, result(corruption, severity)))
        if found.is_complete:
            store(found, run)
        yield found


def _test_images(run: Run) -> ImageSet:
    """Those that the run was tested on, or of too many some that are spread evenly; cropped as the model sees them."""
    evaluation, test, model = load_evaluation(run), last_metric(run.metrics(), "test"), run.config.model
    if evaluation is None or test is None:
        raise UserError(f"{run.name} was not tested yet: train it to its end first.")
    if test.get("left_out_once"):
        raise UserError(f"{run.name} has learned all of its images, so it cannot be tested on corrupted ones.")
    dataset = open_dataset(DatasetRef.of(run.config.training), model.classes)
    files = dataset.files.get(test["split"])
    if not files:
        raise UserError(f"The test images of {run.name} are not on this machine.")
    most = MOST_IMAGES if model.image_size <= SMALL_IMAGE else MOST_PHOTOGRAPHS
    rows = evaluation.rows[np.linspace(0, len(evaluation) - 1, min(most, len(evaluation))).astype(int)]
    wanted = np.zeros(count_rows(files), dtype=np.bool_)
    if rows.max() >= len(wanted):
        raise UserError(f"The dataset {run.config.training.dataset!r} has changed since {run.name} was tested.")
    wanted[rows] = True
    data = load_split(files, model.stored_size, dataset.columns, split=test["split"], wanted=wanted)
    pixels = data.pixels(torch.arange(len(data)))
    return replace(data, images=centre_crop(pixels, model.image_size).contiguous(), rows=None)
