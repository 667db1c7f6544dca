"""What a batch of a training takes in memory, told from its configuration alone, before anything is loaded.

What is kept for the backward pass grows with the numbers that the convolutions give: of each, its output and that of
the norm layer after it, and on the way back as much again. Measured on a CPU in float32, the peak of two steps above
the model alone, beside this estimate (two cores of a Xeon, PyTorch 2.11, November 2026):

  resnet18, 224 px, batch 16: 0.83 GB, 0.64; batch 32: 1.45 GB, 1.27; in bfloat16 0.84 GB
  resnet50, 224 px, batch 16: 2.56 GB, 2.85
  resnet18 with the CIFAR stem, 32 px, batch 256: 1.62 GB, 2.52
  resnet20, 32 px, batch 512: 1.27 GB, 1.54; batch 2,048: 3.22 GB, 6.17; in bfloat16 2.01 GB
"""

from resnet_space.config import ARCHITECTURES, ModelConfig, TrainConfig

BYTES = 16  # of a number that a convolution gives: in float32, twice, and on the way back twice more
FROZEN = {"linear-probe": 0, "last-stage": 1}  # strategies -> how many of the last stages are passed on the way back


def batch_bytes(model: ModelConfig, training: TrainConfig, images: int | None = None) -> int:
    """About the bytes that a batch takes while the model learns from it in float32, at most twice too few or too many.

    Args:
        model: what learns.
        training: its strategy and batch size; what it freezes keeps nothing for the backward pass.
        images: of a batch, in place of the training's.
    """
    stages = FROZEN.get(training.strategy)
    numbers = _numbers(model)
    learned = sum(numbers if stages is None else numbers[len(numbers) - stages :])
    # Of what is frozen one layer's output is there at a time, beside its input.
    return BYTES * max(learned, 3 * model.image_size**2) * (training.batch_size if images is None else images)


def _numbers(model: ModelConfig) -> list[int]:
    """How many numbers the convolutions of the stem and of each stage give for one image."""
    block, depths, widths = ARCHITECTURES[model.architecture]
    bottleneck = block == "bottleneck"
    size = model.image_size
    size = size if model.stem == "cifar" else -(-size // 2)
    found = [widths[0] * size**2]
    size = size if model.stem == "cifar" else -(-size // 2)
    channels = widths[0]
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        before, size = size, size if stage == 0 else -(-size // 2)
        out = 4 * width if bottleneck else width
        each = (2 * width + out if bottleneck else 2 * width) * size**2
        total = depth * each
        if bottleneck:  # the first 1x1 convolution is before the stride
            total += width * (before**2 - size**2)
        if out != channels and model.shortcut == "projection":
            total += out * size**2
        found.append(total)
        channels = out
    return found
