"""A dataset of any size, for the benchmarks: noise in the Hub's layout."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

CLASSES = tuple(f"class {i}" for i in range(10))
DIFFERENT = 100  # images; they are repeated


def write_dataset(folder: Path, images: int, size: int, *, test_images: int = 100) -> None:
    """PNG images of `size` pixels in ten classes, as a training and a test split, in parquet files of 10,000 rows."""
    random = np.random.default_rng(0)
    encoded = []
    for _ in range(DIFFERENT):
        # 4 x 4 patches of noise, which compress about as photographs do.
        small = Image.fromarray(random.integers(0, 256, (max(size // 4, 1), max(size // 4, 1), 3), dtype=np.uint8))
        buffer = io.BytesIO()
        small.resize((size, size), Image.Resampling.BICUBIC).save(buffer, "png")
        encoded.append({"bytes": buffer.getvalue(), "path": None})
    features = {"img": {"_type": "Image"}, "label": {"names": list(CLASSES), "_type": "ClassLabel"}}
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    folder.mkdir(parents=True)
    for split, count in (("train", images), ("test", test_images)):
        starts = range(0, count, 10_000)
        for number, start in enumerate(starts):
            rows = range(start, min(start + 10_000, count))
            values = pa.array([encoded[row % DIFFERENT] for row in rows], kind)
            labels = pa.array([row % len(CLASSES) for row in rows], pa.int64())
            table = pa.table({"img": values, "label": labels}).replace_schema_metadata(about)
            pq.write_table(table, folder / f"{split}-{number:05}-of-{len(starts):05}.parquet")
