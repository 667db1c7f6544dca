import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from resnet_space.common import hardware
from resnet_space.common.errors import UserError
from resnet_space.common.hardware import (
    IMAGE_MEMORY_VARIABLE,
    bfloat16_is_faster,
    image_memory_bytes,
    keep_threads_apart,
    memory_bytes,
    sleep_while_waiting,
    training_environment,
)
from resnet_space.config import TrainConfig
from resnet_space.data.splits import load_splits
from resnet_space.training.device import autocast_dtype

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["memory.max", "memory/memory.limit_in_bytes"])
def test_a_container_has_the_memory_that_it_may_use_and_not_its_machine_s(name: str, tmp_path: Path) -> None:
    whole = memory_bytes(tmp_path)
    assert whole == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = tmp_path / name
    limit.parent.mkdir(exist_ok=True)
    for text, expected in (("1000000\n", 1_000_000), ("max\n", whole), ("9223372036854771712\n", whole)):
        limit.write_text(text)
        assert memory_bytes(tmp_path) == expected


def test_decoded_images_may_take_what_is_set_or_a_share_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(IMAGE_MEMORY_VARIABLE, raising=False)
    assert image_memory_bytes(0.25) == int(memory_bytes() * 0.25)
    for text, on_disk in (("1", True), ("0", True), ("10", False)):  # 2,000 images of 32 px are 6.1 MB
        monkeypatch.setenv(IMAGE_MEMORY_VARIABLE, text)
        assert (load_splits(TrainConfig(dataset="cifar10-mini"), 32).train.rows is not None) == on_disk
    monkeypatch.setenv(IMAGE_MEMORY_VARIABLE, "much")
    with pytest.raises(
        UserError, match=r"^RESNET_SPACE_IMAGE_MEMORY_MB must be a whole number of megabytes, not 'much'"
    ):
        load_splits(TrainConfig(dataset="cifar10-mini"), 32)


@pytest.mark.parametrize(("seconds", "dtype"), [([1.0, 0.5], torch.bfloat16), ([0.5, 1.0], None)])
def test_the_cpu_computes_in_bfloat16_only_where_it_is_the_faster(
    seconds: list[float], dtype: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two processors, each as its measurement came out, one with the instructions and one without.
    monkeypatch.setattr(hardware, "_convolution_seconds", lambda _dtypes: seconds)
    for has_instructions in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has=has_instructions: has)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        bfloat16_is_faster.cache_clear()
        expected = dtype if has_instructions else None
        assert autocast_dtype(TrainConfig(dataset="any"), torch.device("cpu")) is expected
    bfloat16_is_faster.cache_clear()


def test_both_precisions_are_timed_and_the_number_of_threads_stays() -> None:
    before = torch.get_num_threads()
    seconds = hardware._convolution_seconds((torch.float32, torch.bfloat16))
    assert all(0 < each < math.inf for each in seconds)
    assert torch.get_num_threads() == before


def test_freed_memory_is_kept_once_that_is_said_and_given_back_before() -> None:
    # 64 MB that are written to and freed: what is left of them in the process, by Linux's own count.
    program = """
import ctypes, psutil, sys
from resnet_space.common.hardware import keep_freed_memory
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
if sys.argv[1] == "keep":
    keep_freed_memory()
before = psutil.Process().memory_info().rss
block = libc.malloc(2**26)
ctypes.memset(block, 1, 2**26)
libc.free(block)
print(psutil.Process().memory_info().rss - before)
"""
    left = {
        how: int(subprocess.check_output([sys.executable, "-c", program, how], cwd=ROOT, text=True))
        for how in ("keep", "default")
    }
    assert left["default"] < 2**24 < 2**25 < left["keep"]


def test_the_threads_of_the_app_sleep_while_they_wait_and_those_of_its_trainer_spin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for before, in_app, in_trainer in ((None, "PASSIVE", None), ("ACTIVE", "ACTIVE", "ACTIVE")):
        monkeypatch.setattr(os, "environ", {} if before is None else {"OMP_WAIT_POLICY": before})
        monkeypatch.setattr(hardware, "_sleeps_by_choice", False)
        sleep_while_waiting()
        assert os.environ["OMP_WAIT_POLICY"] == in_app
        assert training_environment().get("OMP_WAIT_POLICY") == in_trainer


@pytest.mark.parametrize(
    ("gpus", "environment", "bound"),
    [
        (0, {}, "true"),
        (1, {}, None),
        (0, {"LOCAL_WORLD_SIZE": "2"}, None),
        (0, {"OMP_NUM_THREADS": "1"}, None),
        (0, {"OMP_PROC_BIND": "close"}, "close"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads cannot be kept to a core")
def test_a_training_on_the_cpu_alone_keeps_its_threads_apart(
    gpus: int, environment: dict[str, str], bound: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", dict(environment))
    monkeypatch.setattr(hardware, "nvidia_gpus", lambda: gpus)
    keep_threads_apart()
    assert os.environ.get("OMP_PROC_BIND") == bound


@pytest.mark.skipif(sys.platform != "linux" or (os.cpu_count() or 1) < 2, reason="needs cores to choose from")
def test_a_trainer_keeps_to_a_core_and_decodes_on_all() -> None:
    program = """
import os, threading
cores = os.sched_getaffinity(0)
from resnet_space.common import hardware
hardware.nvidia_gpus = lambda: 0
hardware.keep_threads_apart()
import torch
torch.randn(300, 300) @ torch.randn(300, 300)
assert torch.get_num_threads() == len(cores), torch.get_num_threads()
assert len(os.sched_getaffinity(0)) == 1, "this thread keeps to a core"
def decode():
    hardware.use_any_core()
    assert os.sched_getaffinity(0) == cores
    print("decoded")
thread = threading.Thread(target=decode)
thread.start()
thread.join()
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert answer.stdout == "decoded\n"
