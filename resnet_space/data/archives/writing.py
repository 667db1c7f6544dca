"""The files of a data set: an image as it is kept, and parquet in the Hub's layout, with bounded memory."""

import io
import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from resnet_space.data.archives.layout import Selection, SpooledImage
from resnet_space.data.images import ImageError, open_image

MAX_SHORT_SIDE = 512  # pixels; more than a ResNet looks at, and a phone's photograph takes a fiftieth of its bytes
ROW_GROUP_BYTES = 32_000_000
SHARD_BYTES = 500_000_000  # as on the Hub; Arrow cannot read more than 2 GB of nested bytes at once
UNFINISHED = ".partial"  # no data set yet to those who look for *.parquet


def kept_bytes(data: bytes) -> bytes:
    """An image's own bytes, or an upright JPEG of quality 90 where its short side has more than 512 pixels.

    Raises:
        ImageError: for what cannot be decoded.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a damaged file's metadata: that the image decodes is enough
            image = open_image(io.BytesIO(data))
    except ImageError:
        raise
    except Exception as error:  # Pillow's forty decoders meet hostile bytes here: none of them may end an import
        raise ImageError(f"The image is damaged and cannot be decoded ({error}): try to save it anew.") from None
    short = min(image.size)
    if short <= MAX_SHORT_SIDE:
        return data
    width, height = (round(side * MAX_SHORT_SIDE / short) for side in image.size)
    file = io.BytesIO()
    image.resize((width, height), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


def write_splits(selection: Selection, spool: IO[bytes], folder: Path) -> None:
    """Write the parquet files of all splits."""
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
                    writer.write_table(_table(group, spool, schema))
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
            run, taken = [], 0
    if run:
        yield run


def _table(rows: list[tuple[SpooledImage, int]], spool: IO[bytes], schema: pa.Schema) -> pa.Table:
    encoded = []
    for image, _ in rows:
        spool.seek(image.offset)
        encoded.append(spool.read(image.size))
    paths = pa.array([image.name for image, _ in rows], pa.string())
    images = pa.StructArray.from_arrays(
        [pa.array(encoded, pa.binary()), paths], fields=list(schema.field("image").type)
    )
    return pa.table([images, pa.array([label for _, label in rows], pa.int64())], schema=schema)
