import pytest
import torch
from torch import Tensor, nn

from resnet_space.config import ModelConfig, TrainConfig
from resnet_space.training.footprint import BYTES, batch_bytes


def convolved(config: ModelConfig) -> int:
    """How many numbers the network's convolutions give for one image."""
    counts: list[int] = []

    def count(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        counts.append(output.numel())

    model = config.build().eval()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    with torch.inference_mode():
        model(torch.zeros(1, 3, config.image_size, config.image_size))
    return sum(counts)


@pytest.mark.parametrize(
    ("architecture", "stem", "size", "shortcut"),
    [
        ("resnet20", "cifar", 33, "pad"),
        ("resnet56", "cifar", 32, "projection"),
        ("resnet18", "imagenet", 64, "projection"),
        ("resnet34", "imagenet", 65, "none"),
        ("resnet50", "imagenet", 96, "projection"),
        ("resnet50", "cifar", 30, "pad"),
    ],
)
def test_a_batch_takes_so_much_as_its_convolutions_give_numbers(
    architecture: str, stem: str, size: int, shortcut: str
) -> None:
    model = ModelConfig(architecture, ("a", "b"), options={"stem": stem, "shortcut": shortcut}, image_size=size)
    assert batch_bytes(model, TrainConfig("-", batch_size=10)) == 10 * BYTES * convolved(model)
    assert batch_bytes(model, TrainConfig("-", batch_size=10), images=3) == 3 * BYTES * convolved(model)


def test_what_is_frozen_takes_little() -> None:
    model = ModelConfig("resnet18", ("a", "b"), image_size=224)
    full, last, head = (
        batch_bytes(model, TrainConfig("-", strategy=s)) for s in ("full", "last-stage", "linear-probe")
    )
    assert head <= last < full / 10
