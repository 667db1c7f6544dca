"""The ratios that a training records, and the images that are measured."""

import statistics
from typing import Any

import pytest
import torch

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig
from resnet_space.data.splits import ImageSet
from resnet_space.models import BasicBlock, ResNet
from resnet_space.residuals import balanced, labels_for, probe, probe_batches, recorded_growth, residual_norms
from resnet_space.residuals.history import growth_entry, probe_images
from resnet_space.runs import Metric
from tests.networks import alive

MODEL = ModelConfig("resnet20", ("a", "b"), image_size=8)


def tiny(shortcut: Any = "pad") -> ResNet:
    torch.manual_seed(0)
    return alive(ResNet(BasicBlock, (1, 1), (8, 12), num_classes=2, stem="cifar", shortcut=shortcut))


def image_set(labels: list[int], classes: tuple[str, ...] = ("a", "b")) -> ImageSet:
    pixels = torch.arange(len(labels), dtype=torch.uint8)[:, None, None, None].expand(-1, 8, 8, 3).contiguous()
    return ImageSet(pixels, torch.tensor(labels), classes)


def metric(epoch: int, entry: object) -> Metric:
    return {"event": "epoch", "epoch": epoch, "residuals": entry}


ENTRY = {"images": 4, "blocks": ["layer1.0"], "ratio": [[0.1, 0.2, 0.3]]}


# Growth


def test_what_is_recorded_are_the_quartiles_of_the_measured_ratios() -> None:
    model = tiny()
    images = torch.randn(9, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    entry = growth_entry(model, images)["residuals"]
    expected = [
        statistics.quantiles(row, n=4, method="inclusive") for row in residual_norms(model, images).ratio.tolist()
    ]
    assert entry["blocks"] == ["layer1.0", "layer2.0"]
    assert entry["images"] == 9
    assert entry["ratio"] == [pytest.approx(three, rel=1e-3) for three in expected]
    found = recorded_growth([metric(1, entry)])
    assert found is not None
    assert found.quartiles == [[tuple(three) for three in entry["ratio"]]]


def test_a_plain_network_or_one_that_is_not_finite_records_nothing() -> None:
    images = torch.randn(2, 3, 8, 8)
    assert growth_entry(tiny("none"), images) == {}
    broken = tiny()
    broken.conv1.weight.data[:] = torch.nan
    assert growth_entry(broken, images) == {}


def test_the_growth_is_read_in_the_order_of_the_epochs_and_what_is_not_as_written_is_left_out() -> None:
    other = ENTRY | {"ratio": [[0.2, 0.4, 0.6]]}
    start: Metric = {"event": "start", "residuals": ENTRY}
    found = recorded_growth([start, metric(2, other), metric(1, ENTRY)])
    assert found is not None
    assert (found.epochs, found.blocks, found.images) == ([0, 1, 2], ["layer1.0"], 4)
    assert [three for (three,) in found.quartiles] == [(0.1, 0.2, 0.3), (0.1, 0.2, 0.3), (0.2, 0.4, 0.6)]
    wrong: list[object] = [
        None, 3, [], {}, ENTRY | {"ratio": []}, ENTRY | {"ratio": [[1, 2]]}, ENTRY | {"ratio": [[1, 2, "3"]]},
        ENTRY | {"ratio": [[1, 2, float("nan")]]}, ENTRY | {"blocks": [1]}, ENTRY | {"more": 1},
        ENTRY | {"images": "4"},
    ]  # fmt: skip
    assert all(recorded_growth([metric(1, entry)]) is None for entry in wrong)
    with_other_blocks = recorded_growth([metric(1, ENTRY), metric(2, ENTRY | {"blocks": ["else"]})])
    assert with_other_blocks is not None
    assert with_other_blocks.epochs == [1]
    assert recorded_growth([{"event": "epoch", "epoch": 1}]) is None  # as older runs have it


@pytest.mark.parametrize(("train_images", "count"), [(10, 1), (1_800, 30), (45_000, 64)])
def test_the_watched_images_are_few_beside_an_epoch_and_of_every_class(train_images: int, count: int) -> None:
    validation = image_set([0] * 50 + [1] * 50)
    images = probe_images(validation, MODEL, train_images, torch.device("cpu"))
    assert images.shape == (count, 3, 8, 8)
    if count > 1:  # each image's pixels have its number: the second class begins at 50
        numbers = images[:, 0, 0, 0] * 0.229 * 255 + 0.485 * 255
        assert int((numbers > 49.5).sum()) == count // 2


# The images


def test_balanced_images_have_each_class_in_turn() -> None:
    data = image_set([0] * 6 + [1] * 3)
    chosen = balanced(data, 6)
    assert [set(pair.tolist()) for pair in chosen.labels.split(2)] == [{0, 1}] * 3
    assert len(set(chosen.images[:, 0, 0, 0].tolist())) == 6
    assert len(balanced(data, 100)) == 9


def test_labels_follow_the_models_order_of_classes_or_are_unknown() -> None:
    data = image_set([0, 1, 1], ("b", "a"))
    assert labels_for(data, ("a", "x", "b")) is not None
    ((_, labels),) = probe_batches(data, ModelConfig("resnet20", ("a", "x", "b"), image_size=8))
    assert labels.tolist() == [2, 0, 0]
    ((images, labels),) = probe_batches(data, ModelConfig("resnet20", ("a", "x"), image_size=8))
    assert labels.tolist() == [-1, -1, -1]
    assert images.shape == (3, 3, 8, 8)


def test_a_split_that_is_not_there_is_refused_in_a_sentence() -> None:
    with pytest.raises(
        UserError, match=r"^The dataset cifar10-mini has no validation images: choose one of train, test\.$"
    ):
        probe("cifar10-mini", "validation", 4, MODEL)
