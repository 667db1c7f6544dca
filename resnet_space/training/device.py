"""What a training computes on, in which precision, and the memory that it takes there."""

import psutil
import torch

from resnet_space.common.hardware import bfloat16_is_faster, is_zero_gpu
from resnet_space.config import TrainConfig


def choose_device() -> torch.device:
    """A CUDA GPU, an Apple GPU, or the CPU, in this order.

    On a ZeroGPU Space it is the CPU, although PyTorch says otherwise there: the GPU is for slices of training only.
    """
    if is_zero_gpu():
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def autocast_dtype(training: TrainConfig, device: torch.device) -> torch.dtype | None:
    """bfloat16 or None for plain float32. "auto" takes bfloat16 where the hardware computes faster in it."""
    if training.precision != "auto":
        return torch.bfloat16 if training.precision == "bfloat16" else None
    if device.type == "cuda":
        supported = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        supported = bfloat16_is_faster()
    else:
        supported = False
    return torch.bfloat16 if supported else None


def memory_in_use(device: torch.device) -> int:
    """Bytes that this process holds: of the GPU where it computes on one, else of the machine."""
    if device.type == "cuda":
        return torch.cuda.memory_reserved(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    return int(psutil.Process().memory_info().rss)
