"""The device and precision of a training, and its memory use."""

import psutil
import torch

from resnet_space.common.hardware import bfloat16_is_faster, is_zero_gpu
from resnet_space.config import TrainConfig


def choose_device() -> torch.device:
    """A CUDA GPU, an Apple GPU, or the CPU, in this order.

    On a ZeroGPU Space it is the CPU, although PyTorch reports a GPU: that is only for slices of training.
    """
    if is_zero_gpu():
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def autocast_dtype(training: TrainConfig, device: torch.device) -> torch.dtype | None:
    """bfloat16, or None for plain float32. "auto" uses bfloat16 if the hardware is faster in it."""
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
    """Bytes of memory used by this process: on the GPU if it computes on one, else on the machine."""
    if device.type == "cuda":
        return torch.cuda.memory_reserved(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    return int(psutil.Process().memory_info().rss)
