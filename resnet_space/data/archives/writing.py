"""Write the files of a dataset: stored images, and parquet in the Hub's layout, with bounded memory."""

import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from resnet_space.data.archives.layout import SpooledImage
from resnet_space.data.archives.members import Budget, ImportLimits
from resnet_space.data.archives.report import Decision
from resnet_space.data.archives.selection import Selection
from resnet_space.data.deep import Scale
from resnet_space.data.images import Picture
from resnet_space.data.words import images

MAX_SHORT_SIDE = 512  # pixels; more than a ResNet looks at, and a phone's photograph takes a fiftieth of its bytes
ENOUGH = 2 * MAX_SHORT_SIDE  # pixels that a large picture is decoded to before it is resized
MAX_JPEG_SIDE = 65_500  # pixels, of the format
ROW_GROUP_BYTES = 32_000_000
SHARD_BYTES = 500_000_000  # as on the Hub; Arrow cannot read more than 2 GB of nested bytes at once
UNFINISHED = ".partial"  # no dataset yet to those who look for *.parquet


def stored_bytes(data: bytes) -> bytes:
    """The bytes of an image as stored: its own, or an upright JPEG of quality 90 if its short side exceeds 512 pixels.

    A small image in a format that many programs misread (16 bits, HEIC) becomes a PNG.

    Raises:
        ImageError: for an image that cannot be decoded.
    """
    with Picture(io.BytesIO(data), short_side=ENOUGH) as picture:
        usual = picture.is_usual
        return _encoded(data, picture.decode().image, usual)


class ImageEncoder:
    """Keeps the images of one dataset as `stored_bytes` does, but with one scale for all that have more than 8 bits.

    So `encode` gives those as they came, and `finish` scales them when all are known.
    """

    def __init__(self, limits: ImportLimits) -> None:
        self._budget = Budget(limits)
        self._scales: dict[bool, Scale] = {}  # by whether they are of 16 bits
        self._deep: Counter[bool] = Counter()
        self._bands = 0

    def encode(self, data: bytes) -> bytes:
        """Raises ImageError for an image that cannot be decoded, UserError if the import exceeds its budget."""
        with Picture(io.BytesIO(data), short_side=ENOUGH) as picture:
            self._budget.spend(picture.cost, len(data))
            deep, usual = picture.is_deep, picture.is_usual
            decoded = picture.decode()
        self._bands += bool(decoded.bands)
        if not deep:
            return _encoded(data, decoded.image, usual)
        scale = decoded.scale
        if scale is not None:
            kind = scale.bits is not None
            self._scales[kind] = self._scales.get(kind, scale) | scale
            self._deep[kind] += 1
        else:
            self._deep[True] += 1
        return data

    def finish(self, kept: bytes) -> bytes:
        """Turn a result of `encode` into the bytes to write."""
        if not self._deep:
            return kept
        with Picture(io.BytesIO(kept), short_side=ENOUGH) as picture:
            if not picture.is_deep:
                return kept
            decoded = picture.decode(lambda own: self._scales.get(own.bits is not None, own))
        return _encoded(kept, decoded.image, False)

    @property
    def decisions(self) -> list[Decision]:
        """The decisions about scales and bands."""
        said = []
        for of_16_bits, count in self._deep.items():
            scale = self._scales.get(of_16_bits, Scale.of_bits(16))
            if of_16_bits:
                said.append(
                    f"{images(count)} with 16 bits per channel, of which at most {scale.bits} are used: scaled "
                    f"from {scale.bits} bits."
                )
            else:
                values = f"{scale.low:g} (black) to {scale.high:g} (white)"
                said.append(f"{images(count)} with 32 bits per value: scaled from {values}.")
        if self._bands:
            said.append(
                f"{images(self._bands)} with several bands: the first three are used as RGB, or the first of "
                "two as grey."
            )
        return [Decision("scale", sentence) for sentence in said]


def _encoded(data: bytes, image: Image.Image, usual: bool) -> bytes:
    file = io.BytesIO()
    short = min(image.size)
    if short > MAX_SHORT_SIDE:
        width, height = (round(side * MAX_SHORT_SIDE / short) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    elif usual:
        return data
    lossless = short <= MAX_SHORT_SIDE or max(image.size) > MAX_JPEG_SIDE
    image.save(file, "PNG" if lossless else "JPEG", quality=90)
    return file.getvalue()


def write_splits(
    selection: Selection, spool: IO[bytes], folder: Path, finish: Callable[[bytes], bytes] = lambda kept: kept
) -> None:
    """Write the parquet files of all splits; `finish` is given every image of the spool."""
    schema = image_schema(selection.classes)
    labels = {name: label for label, name in enumerate(selection.classes)}
    for split, members in selection.images.items():
        rows = ((image, labels[name]) for name, found in members.items() for image in found)
        shards = list(_runs(rows, SHARD_BYTES))
        for i, shard in enumerate(shards):
            file = folder / f"{split}-{i:05d}-of-{len(shards):05d}.parquet{UNFINISHED}"
            with pq.ParquetWriter(
                file, schema, compression="zstd", use_dictionary=["label"], write_statistics=["label"]
            ) as writer:
                for group in _runs(shard, ROW_GROUP_BYTES):
                    writer.write_table(_table(group, spool, schema, finish))
    for file in sorted(folder.glob(f"*{UNFINISHED}")):
        file.rename(file.with_suffix(""))


def image_schema(classes: Sequence[str]) -> pa.Schema:
    """Of a table of images and their labels, as the Hub's viewer and the `datasets` library read it."""
    features = {"image": {"_type": "Image"}, "label": {"names": list(classes), "_type": "ClassLabel"}}
    return pa.schema(
        {"image": pa.struct({"bytes": pa.binary(), "path": pa.string()}), "label": pa.int64()},
        {"huggingface": json.dumps({"info": {"features": features}})},
    )


def _runs(rows: Iterable[tuple[SpooledImage, int]], size: int) -> Iterator[list[tuple[SpooledImage, int]]]:
    """Consecutive rows in lists of at least `size` bytes, but for the last."""
    run: list[tuple[SpooledImage, int]] = []
    taken = 0
    for row in rows:
        run.append(row)
        taken += row[0].size
        if taken >= size:
            yield run
            run = []
            taken = 0
    if run:
        yield run


def _table(
    rows: list[tuple[SpooledImage, int]], spool: IO[bytes], schema: pa.Schema, finish: Callable[[bytes], bytes]
) -> pa.Table:
    encoded = []
    for image, _ in rows:
        spool.seek(image.offset)
        encoded.append(finish(spool.read(image.size)))
    paths = pa.array([image.name for image, _ in rows], pa.string())
    column = pa.StructArray.from_arrays(
        [pa.array(encoded, pa.binary()), paths], fields=list(schema.field("image").type)
    )
    return pa.table([column, pa.array([label for _, label in rows], pa.int64())], schema=schema)
