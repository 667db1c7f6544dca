"""Limits for trainings and visitors on a shared machine, and retention times."""

import os
from dataclasses import dataclass, fields
from typing import Self

from resnet_space.common.errors import UserError
from resnet_space.common.hardware import memory_bytes, nvidia_gpus
from resnet_space.config import ModelConfig, TrainConfig
from resnet_space.training.footprint import batch_bytes

VARIABLES = {
    "epochs": "RESNET_SPACE_MAX_EPOCHS",
    "minutes": "RESNET_SPACE_MAX_MINUTES",
    "images": "RESNET_SPACE_MAX_IMAGES",
    "batch_mb": "RESNET_SPACE_MAX_BATCH_MB",
    "queue": "RESNET_SPACE_MAX_QUEUE",
    "days": "RESNET_SPACE_KEEP_DAYS",
    "gigabytes": "RESNET_SPACE_MAX_STORAGE_GB",
    "upload_mb": "RESNET_SPACE_MAX_UPLOAD_MB",
    "requests": "RESNET_SPACE_MAX_REQUESTS",
    "streams": "RESNET_SPACE_MAX_STREAMS",
}


@dataclass(frozen=True)
class Limits:
    """Limits for one training, one visitor, and all visitors together; None is no limit.

    Attributes:
        epochs: passes over the training images.
        minutes: of training; then it stops and keeps its best weights.
        images: training images of the dataset.
        batch_mb: megabytes of memory for training on one batch, as `footprint.batch_bytes` estimates; without it, this
            machine's memory is the limit.
        queue: maximum number of queued trainings.
        days: until a visitor's run or dataset is deleted, counted from its last change.
        gigabytes: of all visitors' data; beyond it, the oldest is deleted.
        upload_mb: megabytes of an uploaded file.
        requests: costly requests per minute and address: predictions, measurements, trainings, exports.
        streams: open event streams per address; a page has one or two.
    """

    epochs: int | None = None
    minutes: int | None = None
    images: int | None = None
    batch_mb: int | None = None
    queue: int | None = None
    days: int | None = None
    gigabytes: int | None = None
    upload_mb: int | None = None
    requests: int | None = None
    streams: int | None = None

    @classmethod
    def from_environment(cls, *, public: bool) -> Self:
        """Read the limits from the environment; by default a public app has modest limits, a private one none.

        Raises:
            UserError: for a variable that is not a whole number above 0.
        """
        defaults = PUBLIC if public else Limits()
        limits = {}
        for field in fields(cls):
            name = VARIABLES[field.name]
            text = os.environ.get(name, "")
            if text and not (text.isascii() and text.isdigit() and int(text) > 0):
                raise UserError(f"{name} must be a whole number above 0, not {text!r}.")
            limits[field.name] = int(text) if text else getattr(defaults, field.name)
        return cls(**limits)

    def check(self, training: TrainConfig, images: int, model: ModelConfig | None = None) -> None:
        """Raises UserError if a training with this many images, or a batch of it for this model, exceeds a limit."""
        if self.epochs is not None and training.total_epochs > self.epochs:
            raise UserError(f"{training.total_epochs} epochs exceed the limit of {self.epochs} on this app.")
        if self.images is not None and images > self.images:
            raise UserError(
                f"The dataset has {images:,} training images, above this app's limit of {self.images:,}: "
                "choose a smaller one, or run the app on your own machine."
            )
        if model is not None:
            self._check_batch(training, model)

    def _check_batch(self, training: TrainConfig, model: ModelConfig) -> None:
        if self.batch_mb is not None:
            most, where = self.batch_mb * 1_000_000, "this app allows"
        elif nvidia_gpus():
            return  # whose memory nobody knows before PyTorch is there; it says itself when it is too little
        else:
            most, where = memory_bytes(), "this machine has"
        needed = batch_bytes(model, training)
        if needed > most:
            fits = most // batch_bytes(model, training, 1)
            smaller = f"a batch size of at most {fits:,}, or a smaller" if fits >= 2 else "a smaller"
            asked = f"A batch of {training.batch_size:,} images at {model.image_size} px"
            raise UserError(
                f"{asked} needs about {needed / 1e9:,.1f} GB with {model.architecture}, but {where} only "
                f"{most / 1e9:,.1f} GB: choose {smaller} image size or network."
            )


PUBLIC = Limits(
    epochs=50,
    minutes=30,
    images=60_000,
    batch_mb=6_000,
    queue=8,
    days=7,
    gigabytes=20,
    upload_mb=300,
    requests=30,
    streams=100,
)
