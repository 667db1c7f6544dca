"""Calibration at the end of a training; `resnet_space.calibrate` repeats it.

Fitted on the validation images, which were not used to train the weights:

- a temperature (Guo et al. 2017, arXiv:1706.04599), in `config.json`: logits are divided by it before the softmax,
  so that about 80 % of the predictions with 80 % confidence are right;
- the threshold of the out-of-distribution score, stored with the feature statistics: see `explain.ood`.

The sanity check of the model's maps (see `sanity`) is made with them. All shown probabilities are calibrated, those of
the test in `test.safetensors` too; a run from before there was a temperature has that of 1.
"""

import copy
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnet_space.data.batches import evaluation_batch, evaluation_batches
from resnet_space.data.splits import ImageSet, Splits
from resnet_space.data.summary import SMALL_IMAGE
from resnet_space.explain.ood import fit_feature_statistics, recorded_means, save_feature_statistics
from resnet_space.explain.sanity import GATES, ROLLOUT, SANITY_IMAGES, sanity_check, sanity_metric
from resnet_space.models import Backbone
from resnet_space.runs import Metric, Run
from resnet_space.training.evaluation import calibration_error

if TYPE_CHECKING:
    from resnet_space.config import ModelConfig

FIT_IMAGES = 2_000  # of the training images, for the feature statistics
COOLEST, HOTTEST = 0.05, 20.0


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature at which logits [N, C] have the least mean cross-entropy with labels [N], 0.05 to 20.

    The labels are trusted as far as N of them can be: a share of 1 / (N + 2) goes to the other classes (Platt 1999), or
    else a few images that are all right would make the model as good as certain of anything.
    """
    n, c = logits.shape
    doubt = 1 / (n + 2)
    logits = logits.double()
    targets = torch.full_like(logits, doubt / (c - 1))
    targets[torch.arange(n), labels] = 1 - doubt
    wanted = (targets * logits).sum(1).mean()
    # Convex in 1 / temperature: its derivative rises through 0 at the minimum.
    low, high = 1 / HOTTEST, 1 / COOLEST
    for _ in range(60):
        middle = (low + high) / 2
        expected = ((logits * middle).softmax(1) * logits).sum(1).mean()
        low, high = (middle, high) if expected < wanted else (low, middle)
    return round(2 / (low + high), 4)


def calibrate(run: Run, model: Backbone, splits: Splits) -> tuple[Run, list[Metric]]:
    """Calibrate a run, and write the result to its folder.

    Args:
        run: whose folder and configuration are changed.
        model: the run's, in eval mode, on any device.
        splits: of its dataset; the test images are not used.

    Returns:
        The run with its new configuration, and the metrics to write: "calibration", and a "sanity" of each method.
    """
    validation = passed(model, splits.validation, run.config.model)
    run, metric = calibrate_confidence(run, validation)
    fit_statistics(run, passed(model, fit_images(splits.train), run.config.model), validation)
    return run, [metric, *sanity_metrics(model, splits.validation, run.config.model)]


def calibrate_confidence(run: Run, validation: "Passed") -> tuple[Run, Metric]:
    """Fit the temperature and write it to the run's configuration. Returns the changed run and the metric to write."""
    logits, _, labels = validation
    temperature = fit_temperature(logits, labels)
    run = replace(run, config=replace(run.config, model=replace(run.config.model, temperature=temperature)))
    run.write_config()
    metric: Metric = {"event": "calibration", "images": len(labels), "temperature": temperature}
    for when, scaled in (("before", logits), ("after", logits / temperature)):
        best = scaled.softmax(1).max(1)
        metric[f"ece_{when}"] = round(calibration_error(best.values.numpy(), (best.indices == labels).numpy()), 5)
        metric[f"loss_{when}"] = round(torch.nn.functional.cross_entropy(scaled, labels).item(), 5)
    return run, metric


def fit_statistics(run: Run, training: "Passed", validation: "Passed") -> None:
    """Fit the feature statistics and write them to the run's folder; skipped for too few images."""
    statistics = fit_feature_statistics(training.means, validation.means)
    if statistics is not None:
        save_feature_statistics(statistics, run)


def fit_images(data: ImageSet) -> ImageSet:
    """The images to fit the statistics on: all, or evenly spaced ones."""
    return data.subset(torch.linspace(0, len(data) - 1, min(FIT_IMAGES, len(data))).long())


class Passed(NamedTuple):
    """Outputs of a model for N images, on the CPU: logits float32 [N, C], channel means [N, D], labels int64 [N]."""

    logits: Tensor
    means: NDArray[np.float32]
    labels: Tensor


def passed(model: Backbone, data: ImageSet, config: "ModelConfig") -> Passed:
    """Compute the outputs in one pass over all images."""
    logits, labels = list[Tensor](), list[Tensor]()
    device = next(model.parameters()).device
    with torch.inference_mode(), recorded_means(model) as means:
        for images, truth in evaluation_batches(data, config, min(100, evaluation_batch(config)), device):
            logits.append(model(images).float().cpu())
            labels.append(truth.cpu())
    return Passed(torch.cat(logits), torch.cat(means).numpy(), torch.cat(labels))


def sanity_metrics(
    model: Backbone, data: ImageSet, config: "ModelConfig", checked: Collection[str] = ()
) -> Iterator[Metric]:
    """A "sanity" metric of each method that is not yet `checked`, from a few of these images."""
    large = config.image_size > SMALL_IMAGE
    count = min(SANITY_IMAGES // 2 if large else SANITY_IMAGES, len(data))  # of photographs each takes seconds
    if count < 2:  # of one image, norm layers have no statistics
        return
    chosen = torch.linspace(0, len(data) - 1, count).long()
    ((images, _),) = evaluation_batches(data.subset(chosen), config, count)
    model = copy.deepcopy(model).cpu()
    methods = ["grad-cam", *([GATES] if model.attention() else []), *([ROLLOUT] if model.attention_weights() else [])]
    if missing := [method for method in methods if method not in checked]:
        yield from map(sanity_metric, sanity_check(model, images, missing))
