"""The images that are measured: some of a dataset's, or pictures of the visitor's own."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_space.common.errors import UserError
from resnet_space.common.text import plotly_text
from resnet_space.config import ModelConfig
from resnet_space.data.images import ImageError, open_image, to_model_size
from resnet_space.data.reference import SPLITS, DatasetRef
from resnet_space.serve.context import AppContext
from resnet_space.serve.uploads import uploaded_file

if TYPE_CHECKING:
    from resnet_space.data.splits import ImageSet

DATASET, OWN = "dataset", "own"  # where images are from
SOURCES = (("From a dataset", DATASET), ("Your own pictures", OWN))
MAX_IMAGES = 10_000
MAX_PICTURES = 64  # of one's own
CACHED_BYTES = 50_000_000  # of each of the sets that stay decoded
PUBLIC_BYTES = 150_000_000  # of a set on a public app: 10,000 images at 64 pixels, or 762 photographs
# What programs write: "test images of cifar10-mini", or "test:cifar10-mini".
SOURCE = re.compile(rf"({'|'.join(SPLITS)})(?: images of |:)(.+)", re.S)
ONE_OWN = "one picture of your own"  # or OWN


@dataclass(frozen=True)
class Images:
    """Which images: `count` of a split, the classes in turn; or the files that a visitor uploaded."""

    dataset: str = ""
    split: str = ""
    count: int = 0
    files: tuple[str, ...] = ()

    def words(self, images: int) -> str:
        """So many of them, in words."""
        if self.files:
            return "your picture" if images == 1 else f"{images} of your own pictures"
        of = f"{self.split} image{'' if images == 1 else 's'} from {DatasetRef.parse(self.dataset).name}"
        return f"{images:,} {of}"


def split_counts(context: AppContext, key: str | None, dataset: object) -> dict[str, int]:
    """How many images each split of a dataset has that the visitor may see. Downloads nothing. Raises UserError."""
    here = {reference for _, reference in context.datasets.choices(key)}
    ref = DatasetRef.parse(str(dataset))
    if ref.is_on_hub and str(ref) not in here:
        raise UserError(f"There is no dataset {str(dataset)!r} here: choose another, or add it in the Fine-tune tab.")
    context.datasets.named(dataset, key)
    return {split: sum(counts) for split, counts in context.datasets.summary(ref).counts.items()}


def dataset_images(context: AppContext, key: str | None, dataset: object, split: object, count: object) -> Images:
    """Some of a dataset's images; of a split with fewer, all. Raises UserError."""
    counts = split_counts(context, key, dataset)
    if split not in counts:
        raise UserError(f"The split is {split!r}, but must be one of {', '.join(counts)}.")
    whole = not isinstance(count, bool) and isinstance(count, int | float) and int(count) == count
    if not whole or not 1 <= count <= MAX_IMAGES:
        raise UserError(f"The number of images is {count}, but must be a whole number from 1 to {MAX_IMAGES:,}.")
    return Images(str(DatasetRef.parse(str(dataset))), str(split), min(int(count), counts[str(split)]))


def own_images(payloads: Sequence[dict[str, Any]] | None) -> Images:
    """Pictures as image components give them, taken as they came (`preprocess=False`). Raises UserError."""
    files = [payload.get("image", payload) for payload in payloads or () if isinstance(payload, dict)]
    files = [file for file in files if isinstance(file, dict) and file.get("path")]
    if not files:
        raise UserError("No picture yet: upload, take or paste one.")
    if len(files) > MAX_PICTURES:
        raise UserError(f"You chose {len(files)} pictures, but at most {MAX_PICTURES} can be measured at once.")
    paths = [uploaded_file(file) for file in files]
    for path in paths:
        _picture(path)
    return Images(files=tuple(map(str, paths)))


def images_from(context: AppContext, source: str, count: object, picture: dict[str, Any] | None) -> Images:
    """What a program asks for: "test images of cifar10-mini", or the picture. Raises UserError."""
    if source in (OWN, ONE_OWN):
        return own_images([picture] if picture else None)
    match = SOURCE.fullmatch(str(source))
    if not match:
        raise UserError(
            f"The source is {str(source)!r}, but must be {ONE_OWN!r}, or such as 'test images of cifar10-mini'."
        )
    return dataset_images(context, None, match[2], match[1], count)


def image_set(images: Images, config: ModelConfig, *, public: bool = False) -> "ImageSet":
    """The pixels at the size that the model stores. Raises UserError; on a `public` app also for too many of them."""
    count, each = len(images.files) or images.count, config.stored_size**2 * 3
    if public and count * each > PUBLIC_BYTES:
        size = f"{config.stored_size} x {config.stored_size} pixels"
        raise UserError(
            f"{count:,} images of {size} are more than this app measures at once: choose at most "
            f"{PUBLIC_BYTES // each:,}."
        )
    return (_cached_image_set if count * each <= CACHED_BYTES else _image_set)(images, config)


def _image_set(images: Images, config: ModelConfig) -> "ImageSet":
    import torch

    from resnet_space.data.splits import ImageSet
    from resnet_space.residuals import probe

    if not images.files:
        return probe(images.dataset, images.split, images.count, config)
    pixels = np.stack([np.array(to_model_size(_picture(Path(file)), config.stored_size)) for file in images.files])
    return ImageSet(torch.from_numpy(pixels), torch.full((len(pixels),), -1), ("",))


_cached_image_set = lru_cache(maxsize=4)(_image_set)  # every view of the same result needs them again


def _picture(path: Path) -> Any:
    try:
        return open_image(path)
    except (ImageError, OSError) as error:
        raise UserError(str(error)) from None


def image_names(images: Images, data: "ImageSet") -> list[str]:
    """What the hover calls each: "image 17, cat", by its row in the dataset's files; safe for Plotly."""
    if images.files:
        return ["your picture"] if len(data) == 1 else [f"picture {i + 1}" for i in range(len(data))]
    rows = range(len(data)) if data.source is None else data.source.tolist()
    names = [plotly_text(name) for name in data.classes]
    return [f"image {row}, {names[label]}" for row, label in zip(rows, data.labels.tolist(), strict=True)]
