"""The hardware of this machine: memory, cores, GPUs, and whether its CPU is faster in bfloat16."""

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

_WAIT_POLICY_VARIABLE = "OMP_WAIT_POLICY"
_sleeps_by_choice = False
_CORES = os.sched_getaffinity(0) if sys.platform == "linux" else set()  # before torch pins this thread to one of them
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_CGROUPS = Path("/sys/fs/cgroup")
_CGROUP_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")  # of version 2, of version 1
_CONVOLUTION = ((32, 64, 8, 8), (64, 64, 3, 3))  # images and weight: 75 million multiplications


def memory_bytes(cgroups: Path = _CGROUPS) -> int:
    """Bytes of memory that this process may use: those of the machine or, if smaller, of its container."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in _CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # there is none, or it is "max"
            sizes.append(int((cgroups / name).read_text(encoding="ascii")))
    return min(sizes)


def image_memory_bytes(share: float) -> int:
    """Bytes that the decoded images of one split may take: `RESNET_SPACE_IMAGE_MEMORY_MB`, or a share of all memory.

    Raises:
        ValueError: if the variable is not a whole number.
    """
    text = os.environ.get(IMAGE_MEMORY_VARIABLE, "")
    if not text:
        return int(memory_bytes() * share)
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{IMAGE_MEMORY_VARIABLE} must be a whole number of megabytes, not {text!r}.")
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


def sleep_while_waiting() -> None:
    """Have PyTorch's threads sleep while they wait for one another, in a process beside which another one trains.

    Has to be called before torch is imported. By default such threads spin for a while, which is fastest alone; but two
    processes that spin on the same cores take each other's time (`benchmarks/beside.py`). What the environment says
    already is obeyed. OpenBLAS's threads, which SciPy takes to solve heads, always spin: it has one, before numpy is
    imported (of a few dozen pictures a head then takes 10 ms, and beside another process 200 with two).
    """
    global _sleeps_by_choice
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if _WAIT_POLICY_VARIABLE not in os.environ:
        os.environ[_WAIT_POLICY_VARIABLE] = "PASSIVE"
        _sleeps_by_choice = True


def training_environment() -> dict[str, str]:
    """The environment for a process that trains: this one's, without what `sleep_while_waiting` has set in it; and this
    package is found, wherever the process starts.
    """
    environment = dict(os.environ)
    if _sleeps_by_choice:
        environment.pop(_WAIT_POLICY_VARIABLE, None)
    search = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]
    return environment | {"PYTHONPATH": os.pathsep.join(filter(None, search))}


def keep_threads_apart() -> None:
    """Pin each of PyTorch's threads to its own core, in a process that does nothing but train on the CPU.

    Has to be called before torch is imported. Otherwise the system may put two on one core where another process
    computes, too; each then spins for as long as it may while the other cannot go on, and a training takes 26 times as
    long (`benchmarks/beside.py`). Not where a GPU computes, nor where processes or settings leave it some of the cores:
    all such processes would keep to the first ones.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # which L-BFGS calls for short vectors: its threads would spin
    alone = os.environ.get("LOCAL_WORLD_SIZE", "1") == "1"  # by torchrun
    has_all_cores = "OMP_NUM_THREADS" not in os.environ
    if sys.platform == "linux" and alone and has_all_cores and not nvidia_gpus():
        os.environ.setdefault("OMP_PROC_BIND", "true")


def use_any_core() -> None:
    """Let the calling thread run on all cores of this process if its parent thread is pinned to one."""
    if _CORES:
        os.sched_setaffinity(0, _CORES)


def nvidia_gpus() -> int:
    """How many NVIDIA GPUs this Linux machine shows; without PyTorch, which takes seconds to import."""
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


@cache
def bfloat16_is_faster() -> bool:
    """Whether this CPU convolves faster in bfloat16 than in float32. Measured once, in some 30 ms.

    The CPU's instruction set does not decide this: on an AMD EPYC bfloat16 is much faster, on an Intel Xeon without AMX
    it takes 1.6 times as long as float32.
    """
    import torch

    if not (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return False  # oneDNN emulates it
    with ThreadPoolExecutor(1) as pool:  # a thread of its own may set how many threads it computes with
        in_float32, in_bfloat16 = pool.submit(_convolution_seconds, (torch.float32, torch.bfloat16)).result()
    return in_bfloat16 < in_float32


def _convolution_seconds(dtypes: "tuple[torch.dtype, torch.dtype]") -> list[float]:
    """Time of a 3x3 convolution with 64 channels on one core, in each type.

    Measured in turns by the thread's own clock, taking the fastest of each, so that other load does not decide.
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


def is_zero_gpu() -> bool:
    """Whether this is a ZeroGPU Space, as the package `spaces` detects it: its GPU is lent for one call at a time."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")
