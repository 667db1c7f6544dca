"""Train one run in several processes with Hugging Face Accelerate: each on its own GPU, or on the CPU.

`torchrun --nproc-per-node N -m resnet_space.train RUN_DIR` or `accelerate launch --multi_gpu -m ...` starts them.
Every process has the whole model and computes its part of each batch; gradients and metrics are those of the whole
batch to rounding, and on GPUs BatchNorm normalises by all of it too. On CPUs it normalises by its process's part, and
the first process's statistics are those that count. The first process alone writes to the run's folder, and says when
to stop. In a process that trains alone, nothing here does anything, and Accelerate is not imported.

Accelerate starts the processes' group, wraps the model and sums; ours are two things that it lacks: which part of a
batch is whose (`own_part`: in order, and augmented as in the whole batch), and why another process failed.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from resnet_space.common.errors import UserError
from resnet_space.data.decoded import load_decoded, save_decoded
from resnet_space.data.splits import ImageSet, Splits
from resnet_space.models import Backbone
from resnet_space.runs import DECODED, Run

if TYPE_CHECKING:
    from accelerate import Accelerator

# What one may wait for another: the first decodes the dataset, and perhaps downloads it, while the others wait. That
# another has ended is noticed at once.
LONGEST_WAIT = timedelta(hours=6)

REASON = "reason"  # the key under which a process that fails leaves why

_accelerator: "Accelerator | None" = None
_store: Any = None  # the launcher's, a TCPStore


@contextmanager
def joined() -> Generator[None]:
    """In this block, the process belongs to the group of processes launched together, if any, until they `leave`.

    Raises:
        UserError: for more processes than GPUs.
    """
    global _accelerator, _store
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    from accelerate import Accelerator
    from accelerate.utils import InitProcessGroupKwargs

    on_gpus = torch.cuda.is_available()
    if on_gpus:
        here, gpus = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
        if here > gpus:
            raise UserError(f"{here} processes were started for {gpus} GPUs: start one process per GPU.")
    # With gloo beside nccl, to agree on a flag waits for no GPU.
    backend = {"backend": "cpu:gloo,cuda:nccl"} if on_gpus else {}
    group = InitProcessGroupKwargs(timeout=LONGEST_WAIT, **backend)
    _accelerator = Accelerator(cpu=not on_gpus, mixed_precision="no", kwargs_handlers=[group])
    _store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    try:
        yield
    finally:
        _store = None


def leave() -> None:
    """Leave the process group after the last joint operation: from now on each process is alone."""
    global _accelerator
    if _accelerator is not None:
        _accelerator.wait_for_everyone()
        _accelerator.free_memory()  # a parallel model that outlives the group may wait for its threads for ever
        _accelerator.end_training()
        _accelerator = None


def exit_if_joined(status: int) -> None:
    """End this process immediately if it failed and has not left the group, so that its threads do not wait forever."""
    if count() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def count() -> int:
    return _accelerator.num_processes if _accelerator is not None else 1


def rank() -> int:
    return _accelerator.process_index if _accelerator is not None else 0


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return rank() == 0


def device_for_all(device: torch.device) -> torch.device:
    """The chosen device, or the CPU if several processes cannot compute on it."""
    return torch.device("cpu") if count() > 1 and device.type == "mps" else device


def own_part(images: int) -> slice:
    """This process's part of the images; the parts differ by at most one."""
    return slice(rank() * images // count(), (rank() + 1) * images // count())


def own_rows(images: int, *, with_neighbour: bool) -> Tensor | None:
    """`own_part` of a batch as positions, None where that is all of it.

    With its neighbour, the image before it, comes what MixUp and CutMix mix its first image with.
    """
    if count() == 1:
        return None
    part = own_part(images)
    return torch.arange(part.start - with_neighbour, part.stop) % images


def own_images(data: ImageSet) -> ImageSet:
    """`own_part` of a set's images."""
    return data if count() == 1 else data.subset(torch.arange(len(data))[own_part(len(data))])


def summed(tensor: Tensor) -> Tensor:
    """The sum over all processes; each gets the same bits."""
    if _accelerator is None:
        return tensor
    total: Tensor = _accelerator.reduce(tensor, "sum")
    return total


def agreed(flag: bool) -> bool:
    """The first process's value; the others wait for it."""
    return bool(of_first(torch.tensor([flag], dtype=torch.uint8)))


def of_first(tensor: Tensor) -> Tensor:
    """The first process's tensor, for all processes."""
    if _accelerator is None:
        return tensor
    from accelerate.utils import broadcast

    same: Tensor = broadcast(tensor)
    return same


def gathered(part: Tensor, images: int) -> Tensor:
    """All processes' parts of a batch, concatenated: the same [images, ...] for each."""
    if count() == 1:
        return part
    whole = part.new_zeros(images, *part.shape[1:])
    whole[own_part(images)] = part
    return summed(whole)


def decoded_once(run: Run, decode: Callable[[], Splits]) -> Splits:
    """The images that the first process decodes, for every process to read."""
    if _accelerator is None:
        return decode()
    folder = run.path / DECODED
    with _accelerator.main_process_first():
        splits = decode() if is_first() else load_decoded(folder)
        if is_first():
            save_decoded(splits, folder)
    _accelerator.wait_for_everyone()
    if is_first():  # the others have their files open
        shutil.rmtree(folder, ignore_errors=True)
    return splits


# The model


def in_parallel(module: nn.Module) -> nn.Module:
    """The module, whose backward pass gives every process the mean of all gradients of what trains now."""
    if _accelerator is None:
        return module
    _accelerator.free_memory()  # of the last phase's
    parallel: nn.Module = _accelerator.prepare_model(module)
    return parallel


def weighted(loss: Tensor, own: int, images: int) -> Tensor:
    """This process's mean loss over its own part of a batch, so that the processes' mean is that over all images."""
    return loss if count() == 1 else loss * (own * count() / images)


def with_shared_statistics(model: Backbone, device: torch.device) -> Backbone:
    """The model, on GPUs with every BatchNorm that trains normalising by the whole batch, not by its process's part."""
    if count() == 1 or device.type != "cuda":
        return model
    from timm.layers.norm_act import convert_sync_batchnorm  # torch's would lose the activation in timm's own

    before = dict(model.named_modules())
    converted: Backbone = convert_sync_batchnorm(model)
    for name, module in converted.named_modules():  # a CBAM may follow a norm layer
        module._forward_hooks = before[name]._forward_hooks
    return converted


def with_first_statistics(*models: nn.Module) -> None:
    """Give the models BatchNorm's statistics of the first process."""
    if _accelerator is not None:
        from accelerate.utils import broadcast

        broadcast([buffer for model in models for buffer in model.buffers()])


# Failures


def leave_reason(end: dict[str, str]) -> None:
    """Tell the first process the reason for this one's failure: otherwise it only notices that the process is gone."""
    if _store is not None:
        with suppress(RuntimeError):  # the store has gone too
            _store.set(REASON, json.dumps(end))


def reason_of_others(error: Exception) -> dict[str, str] | None:
    """The reason to report if this error means that another process has ended; None for an error of our own."""
    talking = isinstance(error, dist.DistError) or "gloo" in str(error)
    if count() == 1 or not (isinstance(error, RuntimeError) and talking):
        return None
    with suppress(RuntimeError, ValueError):
        if _store is not None and _store.check([REASON]):
            left: dict[str, str] = json.loads(_store.get(REASON))
            return left
    return {"reason": f"One of the {count()} training processes was killed: Resume continues the training."}
