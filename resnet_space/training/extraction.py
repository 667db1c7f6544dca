"""Compute features of pictures with a frozen network once: the classifier's input, and the channel means for the
out-of-distribution score.

The forward pass uses the fastest exact backend on this machine: PyTorch, or on a CPU ONNX Runtime if it is faster and
its results agree. This is measured on the first pictures and stored. Features in a `FeatureStore` are not computed
again.
"""

import hashlib
import json
import os
import time
import warnings
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from resnet_space.common.background import tell_once
from resnet_space.common.files import replaced_atomically
from resnet_space.common.hardware import use_any_core
from resnet_space.common.steps import Steps
from resnet_space.config import ModelConfig
from resnet_space.data.batches import centre_crop, evaluation_batch, normalise
from resnet_space.data.splits import ImageSet
from resnet_space.explain.ood import recorded_means
from resnet_space.models import Backbone
from resnet_space.training.feature_store import FeatureStore, Floats

AGREEMENT = 1e-4  # of the largest number, that another route's may differ by
WORTH_A_CHOICE = 4_000_000  # pixels of all new pictures: fewer are done before another route is made ready
MOST_ROUTES = 8  # exported networks that are kept on disk, 18 MB for EfficientNet-Lite0
EXPORTED, CHOICE = ".onnx", ".json"

Progress = Callable[[int, int], None]  # (pictures done, all)


@dataclass(frozen=True)
class Extracted:
    """Features of n pictures, in order, on the CPU.

    Attributes:
        features: float32 [n, D], the classifier's input.
        means: float32 [n, M], as `explain.ood.recorded_means` gives them.
    """

    features: Tensor
    means: Tensor


class _Route(Protocol):
    def __call__(self, images: Tensor) -> Tensor:
        """Normalised images [n, 3, H, W] -> features and means in one, [n, D + M], on the CPU."""


class _Both(nn.Module):
    """images -> features and means in one."""

    def __init__(self, model: Backbone) -> None:
        super().__init__()
        self.model = model
        self.eval()  # the exporter puts all of it back into this one's mode

    def forward(self, images: Tensor) -> Tensor:
        with recorded_means(self.model) as means:
            features = self.model.forward_head(self.model.forward_features(images), pre_logits=True)
        return torch.cat([features.float().cpu(), means[0]], 1)


class Extractor:
    """Computes features with one network; only one thread at a time may use it.

    Args:
        model: in eval mode, on the device that computes; its weights must not change from now on, but for the head's.
        config: how pictures are prepared.
        store: the cache of features.
        exports: whether the network may be exported here, beside which no other thread may use torch; else another
            route is taken where a training has made it ready.
    """

    def __init__(
        self, model: Backbone, config: ModelConfig, store: FeatureStore | None = None, *, exports: bool = True
    ) -> None:
        self.model = model
        self.config = config
        self.store = store
        self.exports = exports
        self._route: _Route | None = None
        classifier = model.get_classifier()
        assert isinstance(classifier, nn.Linear)  # as `can_be_solved` asks
        self.width = classifier.in_features

    @cached_property
    def key(self) -> bytes:
        """A digest of everything that features depend on except the picture."""
        digest = hashlib.blake2b(digest_size=16)
        config = self.config
        prepared = (config.architecture, sorted(config.options.items()), config.image_size, config.stored_size)
        digest.update(repr((prepared, config.mean, config.std, self.model.observed())).encode())
        head = f"{config.entry.head}."
        for name, value in self.model.state_dict().items():
            if not name.startswith(head):
                digest.update(name.encode())
                digest.update(value.cpu().contiguous().numpy().tobytes())
        return digest.digest()

    def __call__(self, pixels: Tensor) -> Extracted:
        """Pictures uint8 [n, S, S, 3], S being `config.stored_size`, on any device."""
        steps = Steps(self.steps(len(pixels), lambda rows: pixels[rows]))
        list(steps)
        return steps.result

    def of(self, data: ImageSet, progress: Progress) -> Extracted:
        """Of the images of a set."""
        steps = Steps(self.steps(len(data), data.pixels))
        for done in steps:
            progress(done, len(data))
        return steps.result

    def steps(self, count: int, pixels: Callable[[Tensor], Tensor]) -> Generator[int, None, Extracted]:
        """As calling it, where the pictures at positions int64 [m] come by `pixels`, a batch at a time.

        Yields:
            How many of all pictures are done, before each batch and at the end.
        """
        size = evaluation_batch(self.config)
        digests = [digest for rows in torch.arange(count).split(size) for digest in _digests(pixels(rows))]
        known: dict[bytes, Floats] = {} if self.store is None else self.store.get(self.key, digests)
        new = list({digest: i for i, digest in enumerate(digests) if digest not in known}.values())  # copies once
        for first in range(0, len(new), size):
            yield count - len(new) + first
            rows = torch.tensor(new[first : first + size])
            images = normalise(centre_crop(pixels(rows), self.config.image_size), self.config)
            if self._route is None:
                self._route = self._chosen(images, len(new))
            computed = {digests[i]: row for i, row in zip(rows.tolist(), self._route(images).numpy(), strict=True)}
            known |= computed
            if self.store is not None:
                self.store.put(self.key, computed)
        yield count
        both = torch.from_numpy(np.stack([known[digest] for digest in digests]))
        return Extracted(both[:, : self.width], both[:, self.width :])

    def images_per_second(self, pixels: Tensor) -> float:
        """How fast many pictures like these uint8 [n, S, S, 3] would be done; nothing is kept of them."""
        images = normalise(centre_crop(pixels, self.config.image_size), self.config)
        if self._route is None:
            self._route = self._chosen(images, WORTH_A_CHOICE)
        return len(images) / _seconds(self._route, images)

    # The backend

    def _chosen(self, images: Tensor, count: int) -> _Route:
        """The fastest route that there is, by `images`, for so many of them."""
        eager = self._eager()
        if next(self.model.parameters()).device.type != "cpu" or self.store is None:
            return eager
        folder, name = self.store.folder, self.key.hex()
        worth_it = self.exports and count * self.config.image_size**2 >= WORTH_A_CHOICE
        if not worth_it and not (folder / f"{name}{CHOICE}").exists():
            return eager
        try:
            return self._fastest(folder, name, eager, images)
        except Exception as error:  # an operator that the exporter lacks, a full disk: PyTorch needs neither
            tell_once(f"{self.config.architecture} runs in PyTorch: {type(error).__name__}: {error}"[:500])
            return eager

    def _fastest(self, folder: Path, name: str, eager: _Route, images: Tensor) -> _Route:
        exported, choice = folder / f"{name}{EXPORTED}", folder / f"{name}{CHOICE}"
        with suppress(OSError, ValueError):
            known = json.loads(choice.read_text(encoding="utf-8"))
            if known.get("cores") == _cores():
                return _OnnxRuntime(exported) if known.get("route") == "onnxruntime" else eager
        if not exported.exists():
            if not self.exports:
                return eager
            self._export(exported)
        other = _OnnxRuntime(exported)
        ours, theirs = eager(images), other(images)  # both are warm from now on
        agree = bool((ours - theirs).abs().max() <= AGREEMENT * ours.abs().max())
        seconds = {"pytorch": _seconds(eager, images), "onnxruntime": _seconds(other, images)}
        fastest = min(seconds, key=seconds.__getitem__) if agree else "pytorch"
        speeds = {route: round(len(images) / taken, 1) for route, taken in seconds.items()}
        with replaced_atomically(choice) as file:
            file.write_text(
                json.dumps({"route": fastest, "cores": _cores(), "agree": agree, "images_per_second": speeds})
            )
        _keep_newest(folder)
        return other if fastest == "onnxruntime" else eager

    def _eager(self) -> _Route:
        both = _Both(self.model.to(memory_format=torch.channels_last))  # pyrefly: ignore[no-matching-overload]
        device = next(self.model.parameters()).device

        @torch.inference_mode()
        def run(images: Tensor) -> Tensor:
            result: Tensor = both(images.to(device))
            return result

        return run

    def _export(self, path: Path) -> None:
        """By the exporter that traces: a tenth of the other's time."""
        size = self.config.image_size
        with replaced_atomically(path) as file, warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                _Both(self.model),
                (torch.zeros(2, 3, size, size),),
                str(file),
                input_names=["images"],
                output_names=["features"],
                dynamic_axes={"images": {0: "n"}, "features": {0: "n"}},
                opset_version=17,
                dynamo=False,
            )


class _OnnxRuntime:
    """A network in ONNX Runtime, with as many threads as PyTorch has."""

    def __init__(self, path: Path) -> None:
        def opened() -> Any:
            use_any_core()  # its threads are where this one is
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = torch.get_num_threads()
            options.log_severity_level = 3
            return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

        # Both in a thread of their own: this one may keep to one core.
        self._thread = ThreadPoolExecutor(1)
        self._session = self._thread.submit(opened).result()
        os.utime(path)  # used last

    def __call__(self, images: Tensor) -> Tensor:
        batch = {"images": images.cpu().contiguous().numpy()}
        (features,) = self._thread.submit(self._session.run, ["features"], batch).result()
        return torch.from_numpy(features)


def _digests(pixels: Tensor) -> list[bytes]:
    return [hashlib.blake2b(picture.tobytes(), digest_size=16).digest() for picture in pixels.cpu().numpy()]


def _cores() -> int:
    return torch.get_num_threads()


def _seconds(route: _Route, images: Tensor) -> float:
    """The better of two, as other work must not decide."""
    best = float("inf")
    for _ in range(2):
        started = time.perf_counter()
        route(images)
        best = min(best, time.perf_counter() - started)
    return best


def _keep_newest(folder: Path) -> None:
    exported = sorted(folder.glob(f"*{EXPORTED}"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in exported[MOST_ROUTES:]:
        path.unlink(missing_ok=True)
        path.with_suffix(CHOICE).unlink(missing_ok=True)
