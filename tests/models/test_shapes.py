import subprocess
import sys

import pytest
import torch

from resnet_space.config import ModelConfig
from resnet_space.models import shapes
from resnet_space.models.registry import Entry, Options, entry_of
from resnet_space.models.shapes import MOST_PARAMETERS, Shape, passed_shape, shape_of
from resnet_space.runs import SHOWPIECE


@pytest.mark.parametrize(
    ("name", "options", "size"),
    [("resnet20", {"cbam": "stage"}, 32), ("resnet18", {"stem": "cifar"}, 32), ("tf_efficientnet_lite0", {}, 64)],
)
def test_a_shape_is_the_same_with_and_without_arithmetic(name: str, options: dict[str, str], size: int) -> None:
    entry, config = entry_of(name), ModelConfig(name, ("a", "b"), options=options, image_size=size)
    assert entry.parameters <= MOST_PARAMETERS
    with_arithmetic, without = (passed_shape(entry, config.options, size, torch.device(on)) for on in ("cpu", "meta"))
    assert with_arithmetic == without == config.shape


def test_the_shape_of_a_resnet_is_that_of_its_paper() -> None:
    """Section 4.2: 16 channels at 32 x 32, 32 at 16 x 16, 64 at 8 x 8, 2n convolutions each."""
    shape = ModelConfig("resnet20", ("a", "b"), image_size=32).shape
    assert shape.reduction == 4
    assert shape.channels == (16, 16, 32, 64)  # the first convolution's, too
    assert [shape.numbers[f"layer{i}"] for i in (1, 2, 3)] == [6 * 16 * 32**2, 6 * 32 * 16**2, 6 * 64 * 8**2]


@pytest.mark.parametrize(("name", "size", "device"), [("vit_tiny_patch4_32", 32, "cpu"), ("resnet50", 224, "meta")])
def test_only_what_is_quick_is_computed(name: str, size: int, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transformer's attention at 1,024 pixels would take minutes, and gigabytes."""
    asked: list[str] = []

    def passed(_entry: Entry, _options: Options, _size: int, on: torch.device) -> Shape:
        asked.append(on.type)
        return Shape({}, (), 1)

    monkeypatch.setattr(shapes, "passed_shape", passed)
    shapes._shape_of.cache_clear()
    options = ModelConfig(name, ("a", "b"), image_size=32).options
    for pixels in (size, 1_024):
        shape_of(name, options, pixels)
    shapes._shape_of.cache_clear()
    assert asked == [device, "meta"]


def test_it_takes_no_random_numbers_from_anybody() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    shape_of("resnet32", ModelConfig("resnet32", ("a", "b")).options, 24)
    assert torch.equal(torch.rand(3), expected)


def test_the_shipped_run_answers_and_shapes_of_weights_are_known_without_pytorchs_compiler() -> None:
    """Which takes half as long to import as the rest of PyTorch, and 110 MB."""
    code = f"""
import sys
from PIL import Image
from resnet_space.config import imagenet_config
from resnet_space.hub.install import model_shapes
from resnet_space.inference import Classifier
from resnet_space.runs import Run
Classifier(Run.open("checkpoints/{SHOWPIECE}")).predict(Image.new("RGB", (32, 32)))
model_shapes(imagenet_config("resnet50"))
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
