"""Several processes that train one run together, as torchrun starts them: each on a GPU of its own, or on the CPU.

`torchrun --nproc-per-node N -m resnet_space.train RUN_DIR`. Every process has the whole model and computes its part of
each batch; gradients, BatchNorm's statistics and metrics are those of the whole batch, so that the number of processes
changes no more than rounding. The first process alone writes to the run's folder, and says when to stop. In a process
that trains alone, nothing here does anything.
"""

import gc
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_autograd
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from resnet_space.common.errors import UserError
from resnet_space.data.decoded import load_decoded, save_decoded
from resnet_space.data.splits import ImageSet, Splits
from resnet_space.models import Backbone
from resnet_space.runs import DECODED, Run

# What one may wait for another: the first decodes the data set, and perhaps downloads it, while the others wait. That
# another has ended is noticed at once.
LONGEST_WAIT = timedelta(hours=6)

REASON = "reason"  # the key under which a process that fails leaves why

_store: Any = None  # torchrun's, a TCPStore


@contextmanager
def joined() -> Iterator[None]:
    """Within it, this process belongs to those that torchrun started, if it did, until they `leave`.

    Raises:
        UserError: for more processes than there are GPUs.
    """
    global _store
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    on_gpus = torch.cuda.is_available()
    if on_gpus:
        here, gpus = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
        if here > gpus:
            raise UserError(f"{here} processes were started for {gpus} GPUs: start one for each GPU.")
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    backend = "cpu:gloo,cuda:nccl" if on_gpus else "gloo"
    dist.init_process_group(backend, timeout=LONGEST_WAIT)
    _store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        _store = None


def leave() -> None:
    """End what the processes have in common, after the last thing that they do together: from now on each is alone."""
    if dist.is_initialized():
        _wait_for_all()
        gc.collect()  # a DistributedDataParallel that outlives the group may wait for its threads for ever
        dist.destroy_process_group()


def exit_if_joined(status: int) -> None:
    """End this process now, where it failed and has not left the others, so that its threads wait for nobody."""
    if count() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _wait_for_all() -> None:
    summed(torch.zeros(1))  # on the CPU: a barrier would go through the GPUs


def count() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return rank() == 0


def device_for_all(device: torch.device) -> torch.device:
    """The device that was chosen, or where several processes cannot compute on it, the CPU."""
    return torch.device("cpu") if count() > 1 and device.type == "mps" else device


def own_part(images: int) -> slice:
    """This process's part of so many images; the parts differ by one at most."""
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
    if count() > 1:
        dist.all_reduce(tensor)
    return tensor


def agreed(flag: bool) -> bool:
    """What the first process says; the others wait for it."""
    if count() == 1:
        return flag
    told = torch.tensor([flag], dtype=torch.uint8)
    dist.broadcast(told, 0)
    return bool(told)


def gathered(part: Tensor, images: int) -> Tensor:
    """Every process's `own_part` of a batch of so many images, put together: the same [images, ...] for each."""
    if count() == 1:
        return part
    whole = part.new_zeros(images, *part.shape[1:])
    whole[own_part(images)] = part
    return summed(whole)


def decoded_once(run: Run, splits: Splits | None) -> Splits:
    """The images that the first process has decoded (the others give None), for every process to read."""
    folder = run.path / DECODED
    if count() == 1:
        assert splits is not None
        return splits
    if splits is not None:
        save_decoded(splits, folder)
    _wait_for_all()
    found = splits or load_decoded(folder)
    _wait_for_all()
    if is_first():  # the others have their files open
        shutil.rmtree(folder, ignore_errors=True)
    return found


# The model


def in_parallel(module: nn.Module) -> nn.Module:
    """The module, whose backward pass gives every process the mean of all gradients of what trains now."""
    if count() == 1:
        return module
    return DistributedDataParallel(module, broadcast_buffers=False)  # BatchNorm's statistics are the same everywhere


def weighted(loss: Tensor, own: int, images: int) -> Tensor:
    """This process's mean loss over its own part of a batch, so that the processes' mean is that over all images."""
    return loss if count() == 1 else loss * (own * count() / images)


def with_shared_statistics(model: Backbone, device: torch.device) -> Backbone:
    """The model, with every BatchNorm that trains normalising by the whole batch, not by its process's part."""
    if count() == 1:
        return model
    if device.type == "cuda":
        converted: Backbone = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return converted
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                shared = SharedBatchNorm(child.num_features, child.eps, child.momentum).to(child.weight)
                shared.load_state_dict(child.state_dict())
                setattr(module, name, shared)
    return model


class SharedBatchNorm(nn.BatchNorm2d):
    """BatchNorm over the parts of a batch that all processes have, for CPUs: PyTorch's SyncBatchNorm is for GPUs only.

    Means and variances are summed over the processes with gradients, as in SyncBatchNorm; parts may differ in size.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        values = x.to(torch.promote_types(x.dtype, torch.float32))
        own = values.new_tensor([x.numel() / x.shape[1]])  # values of each channel
        total = dist_autograd.all_reduce(torch.cat([values.sum((0, 2, 3)), own]))
        count, mean = total[-1].detach(), total[:-1] / total[-1]
        centred = values - mean[:, None, None]
        variance = dist_autograd.all_reduce(centred.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        out: Tensor = (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)
        return out


# How it fails


def leave_reason(end: dict[str, str]) -> None:
    """Tell the first process what "end" should say of this one's failure: by itself it only notices that it is gone."""
    if _store is not None:
        with suppress(RuntimeError):  # the store has gone too
            _store.set(REASON, json.dumps(end))


def reason_of_others(error: Exception) -> dict[str, str] | None:
    """What "end" should say where this error is that another process has ended; None where it is one of our own."""
    talking = isinstance(error, dist.DistError) or "gloo" in str(error)
    if count() == 1 or not (isinstance(error, RuntimeError) and talking):
        return None
    with suppress(RuntimeError, ValueError):
        if _store is not None and _store.check([REASON]):
            left: dict[str, str] = json.loads(_store.get(REASON))
            return left
    return {"reason": f"One of the {count()} processes that train it was ended from outside: Resume goes on."}
