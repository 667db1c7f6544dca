"""Cached outputs of the frozen beginning of a network, which stay the same throughout a phase."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from resnet_space.common.hardware import memory_bytes
from resnet_space.config import ModelConfig, TrainConfig
from resnet_space.data.batches import batch_indices, centre_crop, evaluation_batch, normalise
from resnet_space.data.splits import ImageSet
from resnet_space.models import Backbone
from resnet_space.models.contract import Segment, run_all
from resnet_space.training import distributed

MEMORY_SHARE = 0.125  # of the machine's or the GPU's memory, that the features of a training's images may take


def frozen_segments(model: Backbone) -> int:
    """The number of leading segments of the forward pass without trainable parameters."""
    return next(i for i, segment in enumerate(model.segments()) if any(p.requires_grad for p in parameters(segment)))


def parameters(segment: Segment) -> Iterator[Tensor]:
    return (parameter for module in segment.modules for parameter in module.parameters())


class CutModel(nn.Module):
    """A model in two: images -> `features`, by the segments that are frozen; features -> logits, by the rest.

    Both together are the model's own forward pass, to the bit, except that autograd keeps nothing of the first.

    Args:
        model: what of it is frozen has to be in eval mode.
        frozen: how many segments come before the cut.
    """

    def __init__(self, model: Backbone, frozen: int) -> None:
        super().__init__()
        self.model = model
        self.frozen = frozen
        segments = model.segments()
        self.before, self._run_before = segments[:frozen], run_all(segments[:frozen])
        self._run_after = run_all(segments[frozen:])

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """images [n, 3, H, W] -> features before the cut: [n, C, h, w], or [n, C] right before the head."""
        return self._run_before(images)

    def forward(self, features: Tensor) -> Tensor:
        """-> logits [n, classes]"""
        return self._run_after(features)

    def with_head_input(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """-> logits [n, classes], and the input of the classifier [n, D], as `forward_head` gives it"""
        seen: list[Tensor] = []
        hook = self.model.get_classifier().register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            return self(features), seen[0]
        finally:
            hook.remove()


def same_before(ours: CutModel, theirs: CutModel) -> bool:
    """Whether two models have the same weights and statistics before the cut."""
    states = ([module.state_dict() for part in cut.before for module in part.modules] for cut in (ours, theirs))
    return all(torch.equal(own[name], other[name]) for own, other in zip(*states, strict=True) for name in own)


class KnownFeatures:
    """The features of a set's images as they are, without augmentation: each computed once, where memory allows.

    They are kept as the model gives them, so in bfloat16 under autocast, on the device that computes.

    Args:
        cut: whose features.
        data: the images.
        model: how they are prepared.
        dtype: of autocast, None for plain float32.
    """

    def __init__(self, cut: CutModel, data: ImageSet, model: ModelConfig, dtype: torch.dtype | None) -> None:
        self.cut, self.data, self.model, self.dtype = cut, data, model, dtype
        self.device = next(cut.model.parameters()).device
        self._known = torch.zeros(len(data), dtype=torch.bool)  # on the CPU, so that looking waits for no GPU
        self._kept: Tensor | None = None  # [N, h, w, C] or [N, C]
        self._fit = cut.frozen > 0

    def of(self, rows: Tensor) -> Tensor:
        """Of the images at these positions, int64 [n] on the CPU."""
        return self._computed(rows, None)

    def of_own_part(self, batch: Tensor) -> Tensor:
        """Of this process's part of a batch; all processes compute what is new in it, and keep all of it."""
        return self._computed(batch, distributed.own_part(len(batch)))

    def _computed(self, batch: Tensor, own: slice | None) -> Tensor:
        rows = batch if own is None else batch[own]
        if self._kept is not None and self._known[batch].all():
            kept = self._kept[rows.to(self.device)]
            return kept.permute(0, 3, 1, 2) if kept.ndim == 4 else kept
        chosen = rows.to(self.data.images.device)
        pixels = centre_crop(self.data.pixels(chosen).to(self.device), self.model.image_size)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
            features = self.cut.features(normalise(pixels, self.model))
        if self._fit:
            # Also what was known already: a batch of another size might be computed with other roundings.
            whole = features if own is None else distributed.gathered(features, len(batch))
            if self._kept is None:
                fit = len(self.data) * whole[0].nbytes <= room_for_features(self.device)
                self._fit = fit if own is None else distributed.agreed(fit)
            if self._fit:
                self._keep(batch, whole.permute(0, 2, 3, 1) if whole.ndim == 4 else whole)
        return features

    def _keep(self, batch: Tensor, features: Tensor) -> None:
        if self._kept is None:
            self._kept = features.new_empty(len(self.data), *features.shape[1:])
        self._kept[batch.to(self.device)] = features
        self._known[batch] = True


def unaugmented_batches(
    features: KnownFeatures, training: TrainConfig, epoch: int, first_step: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """`data.batches.training_batches` of images that are not augmented, as (features, labels)."""
    for batch in batch_indices(len(features.data), training, epoch, first_step):
        labels = features.data.labels[batch[distributed.own_part(len(batch))].to(features.data.labels.device)]
        yield features.of_own_part(batch), labels.to(features.device)


def evaluation_features(features: KnownFeatures) -> Iterator[tuple[Tensor, Tensor]]:
    """`data.batches.evaluation_batches`, as (features, labels)."""
    images, size = len(features.data), evaluation_batch(features.model)
    for first in range(0, images, size):
        rows = torch.arange(first, min(first + size, images))
        yield features.of(rows), features.data.labels[rows.to(features.data.labels.device)].to(features.device)


def room_for_features(device: torch.device) -> float:
    """Bytes. Not of what is free now, as a training that is taken up again should keep what it kept before."""
    if device.type == "cuda":
        return MEMORY_SHARE * torch.cuda.get_device_properties(device).total_memory
    return MEMORY_SHARE * memory_bytes() / distributed.count()
