"""What this machine has and is fast at: its memory, and whether its CPU gains from bfloat16."""

import ctypes
import math
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

IMAGE_MEMORY_VARIABLE = "RESNET_SPACE_IMAGE_MEMORY_MB"

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_CGROUPS = Path("/sys/fs/cgroup")
_CGROUP_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")  # of version 2, of version 1
_CONVOLUTION = ((32, 64, 8, 8), (64, 64, 3, 3))  # images and weight: 75 million multiplications


def memory_bytes(cgroups: Path = _CGROUPS) -> int:
    """The memory that this process may use: the machine's, or less where its container has less."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in _CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # there is none, or it is "max"
            sizes.append(int((cgroups / name).read_text(encoding="ascii")))
    return min(sizes)


def image_memory_bytes(share: float) -> int:
    """What decoded images of one split may take in memory: `RESNET_SPACE_IMAGE_MEMORY_MB`, or a share of all memory.

    Raises:
        ValueError: where the variable is no whole number.
    """
    text = os.environ.get(IMAGE_MEMORY_VARIABLE, "")
    if not text:
        return int(memory_bytes() * share)
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{IMAGE_MEMORY_VARIABLE} is {text!r}, but must be a whole number of megabytes.")
    return int(text) * 1_000_000


def keep_freed_memory() -> None:
    """Have the C library keep what is freed for the next allocation, in a process that only trains from now on.

    By default glibc gives large blocks back to the system. Every step then asks for the same tensors again, and the
    system fills them with zeros first: a quarter of a float32 step of resnet20 where its pages are huge.
    """
    if not sys.platform.startswith("linux"):
        return
    with suppress(OSError, AttributeError):  # another C library than glibc
        mallopt = ctypes.CDLL(None).mallopt
        if not mallopt(_M_MMAP_THRESHOLD, 2**30):
            mallopt(_M_MMAP_THRESHOLD, 2**25)  # the most that older versions take
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


@cache
def bfloat16_is_faster() -> bool:
    """Whether this CPU convolves faster in bfloat16 than in float32. Measured once, in some 30 ms.

    The instructions alone do not tell: on an AMD EPYC they gained much, an Intel Xeon without AMX takes 1.6 times as
    long with them as in float32.
    """
    import torch

    if not (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return False  # oneDNN emulates it
    with ThreadPoolExecutor(1) as pool:  # a thread of its own may set how many threads it computes with
        in_float32, in_bfloat16 = pool.submit(_convolution_seconds, (torch.float32, torch.bfloat16)).result()
    return in_bfloat16 < in_float32


def _convolution_seconds(dtypes: "tuple[torch.dtype, torch.dtype]") -> list[float]:
    """What a 3x3 convolution with 64 channels takes on one core, in each type.

    In turns, by the thread's own clock, and the fastest of each: what else the machine does must not decide.
    """
    import torch
    import torch.nn.functional as F

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        pairs = [
            tuple(torch.ones(shape).to(dtype, memory_format=torch.channels_last) for shape in _CONVOLUTION)
            for dtype in dtypes
        ]
        fastest = [math.inf] * len(pairs)
        for _ in range(8):
            for i, (images, weight) in enumerate(pairs):
                started = time.thread_time()
                F.conv2d(images, weight, padding=1)
                fastest[i] = min(fastest[i], time.thread_time() - started)
    finally:
        torch.set_num_threads(threads)
    return fastest
