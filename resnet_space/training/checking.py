"""Check a dataset by its pictures and by features of a network that never saw its labels.

Every picture is held out once, copies together; heads that have not seen it say what it looks like (see
`label_issues`). Nothing is changed.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from resnet_space.data.checks.copies import find_copies, thumbnail
from resnet_space.data.checks.quality import Looks, looks_of
from resnet_space.data.checks.tiles import tile, tile_side
from resnet_space.data.columns import count_rows
from resnet_space.data.reference import DatasetRef
from resnet_space.data.sources import open_dataset
from resnet_space.data.splits import ImageSet, UnlabelledError, load_split
from resnet_space.data.summary import image_settings, summarise
from resnet_space.runs import Run
from resnet_space.training.comparing import loaded
from resnet_space.training.cross_validation import Examples, solved_out_of_fold
from resnet_space.training.data_map import MOST, UNKNOWN, Mapped
from resnet_space.training.data_report import DataReport
from resnet_space.training.device import choose_device
from resnet_space.training.enough import learning_curve
from resnet_space.training.extraction import Extractor
from resnet_space.training.feature_store import FeatureStore
from resnet_space.training.findings import Pictures, between_splits, groups_of, near_duplicates, outliers, with_labels
from resnet_space.training.plane import on_a_plane, principal_components
from resnet_space.training.work import Underway

# How much of the whole is done after each phase; and how much of it remains where a map is asked for, too.
PICTURES, COPIES, LABELS, SPLITS, WITH_MAP = 0.6, 0.7, 0.8, 0.85, 0.6
DECODING = 0.4  # of a picture's time


class Check(Underway[DataReport]):
    """Checks a dataset.

    It raises UserError for one that cannot be read, or has fewer than two classes with two pictures each.

    Args:
        asked: names the dataset, and says whether a map is wanted.
        run: whose network computes the features.
        store: of features.
        folder: of the check: for decoded images for which memory has no room, and for what a map is drawn from.
    """

    def __init__(self, asked: DataReport, run: Run, store: FeatureStore, folder: Path | None = None) -> None:
        super().__init__(replace(asked, backbone=run.name))
        self.run, self.store, self.folder = run, store, folder
        self.most_mapped = MOST if folder is not None or asked.mapped else 0
        self.tiles: dict[tuple[str, int], bytes] = {}  # of the pictures that may be on a map

    def work(self) -> None:
        pictures = self._pictures()
        pairs = find_copies(pictures.thumbnails, pictures.features, self.teller("copies", PICTURES, COPIES))
        self.now = replace(self.now, near_duplicates=near_duplicates(pictures, pairs))
        self.now = replace(self.now, outliers=outliers(pictures))
        copies = groups_of(len(pictures.where), pairs)
        examples = Examples(pictures.features, pictures.labels, len(pictures.classes), copies)
        solved = solved_out_of_fold(examples, self.teller("labels", COPIES, LABELS))
        self.now = with_labels(self.now, pictures, solved)
        shifted = between_splits(pictures, self.teller("splits", LABELS, SPLITS))
        self.now = replace(self.now, classes=(*self.now.classes, *shifted))
        curve = learning_curve(examples, self.teller("curve", SPLITS, 1.0), solved)
        if curve is not None:
            self.now = replace(self.now, curve=curve.points, predicted=(curve.predicted,))
        self._map(pictures, solved.logits.argmax(1).where(solved.judged, UNKNOWN).numpy())

    def _map(self, pictures: Pictures, predicted: NDArray[np.int64]) -> None:
        """Draw a map, if that is asked for, and keep what another one is drawn from."""
        if not self.most_mapped:
            return
        rows = [i for i, where in enumerate(pictures.where) if where[:2] in self.tiles]
        mapped = Mapped(
            [pictures.where[i] for i in rows],
            pictures.labels[rows].numpy(),
            predicted[rows],
            pictures.classes,
            principal_components(pictures.features[rows]),
            [self.tiles[pictures.where[i][:2]] for i in rows],
        )
        if self.folder is not None:
            mapped.write(self.folder)
        if self.now.mapped:
            places = on_a_plane(mapped.components, self.store.folder, self.teller("plane", 1.0, 1 / WITH_MAP))
            self.now = replace(self.now, map=mapped.points(places))

    def teller(self, phase: str, low: float = 0.0, high: float = 1.0, name: str = "") -> Callable[[int, int], None]:
        without_map = WITH_MAP if self.now.mapped else 1.0
        return super().teller(phase, low * without_map, high * without_map, name)

    def _pictures(self) -> Pictures:
        ref = DatasetRef.parse(self.now.dataset)
        dataset = open_dataset(ref)
        config, _ = image_settings(summarise(ref).side, self.run.config.model)
        config = replace(config, classes=dataset.columns.classes)
        model = loaded(self.run, config).to(choose_device())
        where: list[tuple[str, int, str]] = []
        looks: list[Looks] = []
        thumbnails, features, labels, unreadable = list[Tensor](), list[Tensor](), list[Tensor](), dict[str, int]()
        sizes = {split: count_rows(files) for split, files in dataset.files.items()}
        total, before = sum(sizes.values()), 0
        side = tile_side(min(total, MOST))
        drawn = np.random.default_rng(0).permutation(total) < self.most_mapped
        for split, files in dataset.files.items():
            seen: dict[int, tuple[Looks, Tensor]] = {}
            begin, end = (PICTURES * rows / total for rows in (before, before + sizes[split]))
            middle = begin + DECODING * (end - begin)
            look = partial(self._look, seen, split, drawn[before:], side)
            before += sizes[split]
            try:
                data = load_split(
                    files,
                    config.stored_size,
                    dataset.columns,
                    split=split,
                    progress=self.teller("decoding", begin, middle),
                    folder=self.folder,
                    look=look,
                )
            except UnlabelledError:  # as the tests of competitions are
                unreadable[split] = sizes[split]
                continue
            extracted = Extractor(model, config, self.store).of(data, self.teller("features", middle, end))
            features.append(extracted.features)
            labels.append(data.labels)
            names = _file_names(files, dataset.columns.image)
            rows = _rows(data)
            where += [(split, row, names[row]) for row in rows]
            looks += [seen[row][0] for row in rows]
            thumbnails += [seen[row][1] for row in rows]
            unreadable[split] = sizes[split] - len(data)
        counts = Counter(split for split, *_ in where)
        self.now = replace(self.now, counts=dict(counts), unreadable=unreadable)
        found = torch.cat(labels)
        return Pictures(where, found, dataset.columns.classes, looks, torch.stack(thumbnails), torch.cat(features))

    def _look(
        self,
        seen: dict[int, tuple[Looks, Tensor]],
        split: str,
        drawn: NDArray[np.bool_],
        side: int,
        row: int,
        image: Image.Image,
    ) -> None:
        seen[row] = looks_of(image), thumbnail(image)
        if drawn[row]:
            self.tiles[split, row] = tile(image, side)


def _rows(data: ImageSet) -> list[int]:
    assert data.source is not None
    return [int(row) for row in data.source]


def _file_names(files: Sequence[Path], column: str) -> list[str]:
    """The name of each row's picture in what was brought; "" where it was not kept."""
    names: list[str] = []
    for file in files:
        kind = pq.read_schema(file).field(column).type
        if pa.types.is_struct(kind) and kind.get_field_index("path") >= 0:
            with pq.ParquetFile(file) as parquet:
                values = parquet.read(columns=[f"{column}.path"])[column].to_pylist()
            names += [str((value or {}).get("path") or "") for value in values]
        else:
            names += [""] * count_rows([file])
    return names
