"""Datasets of another domain that need no files: the bundled one, restyled when it is first opened."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_space.common.errors import UserError
from resnet_space.common.faults import words_of
from resnet_space.common.files import replaced_atomically

if TYPE_CHECKING:
    from PIL.Image import Image

ORIGINAL = "cifar10-mini"
FOLDER = ".restyled"  # below the folder of datasets, hidden as it can be made again
BLUR = 1.2  # pixels: the standard deviation of the Gaussian


def _defocused(image: "Image") -> "Image":
    from PIL import ImageFilter

    return image.filter(ImageFilter.GaussianBlur(BLUR))


def _recoloured(image: "Image") -> "Image":
    """The negative, with red as green, green as blue and blue as red."""
    from PIL import Image, ImageOps

    red, green, blue = ImageOps.invert(image).split()
    return Image.merge("RGB", (blue, red, green))


def _sketched(image: "Image") -> "Image":
    """Dark edges on white."""
    from PIL import ImageFilter, ImageOps

    edges = ImageOps.grayscale(image).filter(ImageFilter.FIND_EDGES)
    return ImageOps.invert(ImageOps.autocontrast(edges)).convert("RGB")


_STYLES: Mapping[str, Callable[["Image"], "Image"]] = {
    "defocused": _defocused,
    "recoloured": _recoloured,
    "sketched": _sketched,
}

# By their names, which no import gives a folder: what the page calls them.
RESTYLED = {f"{ORIGINAL}+{style}": f"{ORIGINAL}, {style}" for style in _STYLES}


def restyled_folder(name: str, original: Path, root: Path) -> Path:
    """The folder of a dataset of `RESTYLED` below `root`, made in a few seconds if it is not there yet.

    The images have the labels, splits and order of the original, as PNG. Raises UserError if the disk is full.
    """
    folder = root / FOLDER / name
    try:
        for file in sorted(original.rglob("*.parquet")):
            made = folder / file.name
            if not made.exists():
                made.parent.mkdir(parents=True, exist_ok=True)
                with replaced_atomically(made) as temporary:
                    _restyle(file, temporary, _STYLES[name.removeprefix(f"{ORIGINAL}+")])
    except OSError as error:
        raise UserError(f"The dataset {RESTYLED[name]} cannot be made: {words_of(error)}") from None
    return folder


def _restyle(source: Path, made: Path, style: Callable[["Image"], "Image"]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    table = pq.read_table(source)
    at = table.schema.get_field_index("img")
    values = []
    for value in table["img"].to_pylist():
        file = io.BytesIO()
        style(Image.open(io.BytesIO(value["bytes"])).convert("RGB")).save(file, "PNG")
        values.append({"bytes": file.getvalue(), "path": None})
    field = table.schema.field(at)
    pq.write_table(table.set_column(at, field, pa.array(values, field.type)), made)
