"""Estimate what a network costs from the configuration alone, before anything is loaded.

What the backward pass needs grows with the numbers that the convolutions give: of each, its output and that of
the norm layer after it, and on the way back as much again. Measured on a CPU in float32, the peak of two steps above
the model alone, beside this estimate (two cores of a Xeon, PyTorch 2.11, November 2026):

  resnet18, 224 px, batch 16: 0.83 GB, 0.64; batch 32: 1.45 GB, 1.27; in bfloat16 0.84 GB
  resnet50, 224 px, batch 16: 2.56 GB, 2.85
  resnet18 with the CIFAR stem, 32 px, batch 256: 1.62 GB, 2.52
  resnet20, 32 px, batch 512: 1.27 GB, 1.54; batch 2,048: 3.22 GB, 6.17; in bfloat16 2.01 GB
"""

from resnet_space.config import OBJECTIVES, ModelConfig, TrainConfig
from resnet_space.training.strategies import plan

BYTES = 16  # of a number that a convolution gives: in float32, twice, and on the way back twice more


def batch_bytes(model: ModelConfig, training: TrainConfig, images: int | None = None) -> int:
    """Estimated bytes for training on a batch in float32, accurate to within a factor of two.

    Args:
        model: what learns.
        training: its strategy and batch size; what it freezes keeps nothing for the backward pass.
        images: of a batch, in place of the training's.
    """
    numbers = model.shape.numbers
    trained = {part.partition(".")[0] for phase in plan(training, model) for part in phase.rates}
    first = next((i for i, stage in enumerate(numbers) if stage in trained), 0)  # the way back ends there
    learned = sum(list(numbers.values())[first:])
    # Of what is frozen one layer's output is there at a time, beside its input.
    streams: int = 1 + OBJECTIVES[training.objective].has_second_stream
    return streams * BYTES * max(learned, 3 * model.image_size**2) * (training.batch_size if images is None else images)


def multiply_adds(model: ModelConfig) -> float:
    """About how many one image costs: as counted in the registry, else as if each weight met a hundred positions."""
    counted = model.entry.multiply_adds or 100 * model.entry.parameters
    return counted * (model.image_size / model.input_size) ** 2
