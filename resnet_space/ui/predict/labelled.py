"""Test pictures of a run, with their labels: some that it got right and some that it got wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from pathlib import Path

import numpy as np
from PIL.Image import Image

from resnet_space.common.errors import UserError
from resnet_space.common.text import shortened
from resnet_space.data.reference import DatasetRef
from resnet_space.data.rows import read_images
from resnet_space.data.sources import Dataset, open_dataset
from resnet_space.runs import EVALUATION, Run, last_metric
from resnet_space.serve.context import AppContext
from resnet_space.training.evaluation import Evaluation, load_evaluation
from resnet_space.ui.finetune.data_view import tile
from resnet_space.ui.html import note_html
from resnet_space.ui.pictures import jpeg_url

MOST = 5  # of each kind


@dataclass(frozen=True)
class HeldOut:
    """Where a run's test pictures are, and what it said of them.

    Attributes:
        run: its name.
        split: of the dataset.
        data: the dataset's files.
        evaluation: of the run.
    """

    run: str
    split: str
    data: Dataset
    evaluation: Evaluation

    def position(self, row: int) -> int:
        """Of a row of the split in the evaluation. Raises UserError."""
        (found,) = np.nonzero(self.evaluation.rows == row)
        if not len(found):
            raise UserError(f"Row {row} is not a test image of {self.run}: choose one of those on the page.")
        return int(found[0])

    def images(self, positions: Sequence[int]) -> list[Image | None]:
        rows = [int(self.evaluation.rows[i]) for i in positions]
        return read_images(self.data.files[self.split], rows, self.data.columns.image)


def test_pictures(context: AppContext, name: str) -> HeldOut | None:
    """Those of a run; None where it was not tested here or its dataset is not on this machine. Downloads nothing."""
    try:
        run = context.library.open(name)
        test, evaluation = last_metric(context.library.metrics(run), "test"), load_evaluation(run)
        ref = DatasetRef.of(run.config.training)
        if test is None or evaluation is None or str(ref) not in _here(context, ref):
            return None
        data = open_dataset(ref, evaluation.classes)
    except (UserError, OSError):
        return None
    return HeldOut(name, test["split"], data, evaluation) if test["split"] in data.files else None


def _here(context: AppContext, ref: DatasetRef) -> set[str]:
    """The references of the datasets on this machine; one of its own folders is looked for when it is opened."""
    return {reference for _, reference in context.datasets.choices()} if ref.is_on_hub else {str(ref)}


def test_picture(context: AppContext, name: str, named: str) -> tuple[Image, str]:
    """A test picture of a run by its "split:row", and its label. Raises UserError."""
    found = test_pictures(context, name)
    split, _, row = named.partition(":")
    if found is None or split != found.split or not row.isdecimal():
        raise UserError(f"There is no test image {named[:40]!r} of {name[:100]!r} on this machine.")
    position = found.position(int(row[:12]))
    (image,) = found.images([position])
    if image is None:
        raise UserError(f"Test image {named} of {name} cannot be decoded.")
    return image, found.evaluation.classes[found.evaluation.labels[position]]


def first_picture(context: AppContext, name: str) -> str | None:
    """A test picture that a run gets right, "split:row"; None where it has none here."""
    found = test_pictures(context, name)
    right = [i for i in some_of(found.evaluation) if found.evaluation.correct[i]] if found else []
    return f"{found.split}:{found.evaluation.rows[right[0]]}" if found and right else None


def some_of(evaluation: Evaluation, most: int = MOST) -> list[int]:
    """Positions of some images that were classified wrongly, the most confident first, then of some that were not.

    They are of as many classes as there are, and always the same.
    """
    order = np.random.default_rng(0).permutation(len(evaluation))
    confident = order[np.argsort(-evaluation.confidence[order], kind="stable")]
    wrong = [int(i) for i in confident if not evaluation.correct[i]]
    right = [int(i) for i in order if evaluation.correct[i]]
    return [*_of_each_class(wrong, evaluation, most), *_of_each_class(right, evaluation, most)]


def _of_each_class(positions: Sequence[int], evaluation: Evaluation, most: int) -> list[int]:
    """The first of every class, then the second of every class, ..."""
    seen: dict[int, int] = {}
    turns = []
    for i in positions:
        label = int(evaluation.labels[i])
        turns.append((seen.get(label, 0), i))
        seen[label] = seen.get(label, 0) + 1
    return [i for _, i in sorted(turns, key=lambda turn: turn[0])[:most]]


def labelled_html(context: AppContext, name: str | None) -> str:
    """Thumbnails, each a button; empty where there are no test pictures of the run here."""
    if not name:
        return ""
    try:
        run = context.library.open(name)
        changed = run.path.joinpath(EVALUATION).stat().st_mtime_ns
    except (UserError, OSError):
        return ""
    return _html(context, run.path, changed)


@lru_cache(maxsize=16)
def _html(context: AppContext, path: Path, _changed: int) -> str:
    found = test_pictures(context, Run.open(path).name)
    if found is None:
        return ""
    evaluation = found.evaluation
    positions = some_of(evaluation)
    try:
        images = found.images(positions)
    except (UserError, OSError, IndexError):
        return ""
    buttons = "".join(
        _button(found, i, tile(image)) for i, image in zip(positions, images, strict=True) if image is not None
    )
    note = note_html(f"Test images of {escape(found.run)}; ✗ marks those it gets wrong")
    return f'{note}<div class="examples labelled">{buttons}</div>'


def _button(found: HeldOut, position: int, image: Image) -> str:
    evaluation = found.evaluation
    label, said = (evaluation.classes[of[position]] for of in (evaluation.labels, evaluation.predicted))
    words = f"labelled {label}, " + ("classified correctly" if label == said else f"predicted {said}")
    mark = "✓" if label == said else "✗"
    return (
        f'<button type="button" data-picture="{found.split}:{evaluation.rows[position]}" data-of="{escape(found.run)}" '
        f'aria-label="Test image, {escape(words)}" title="{escape(words)}">'
        f'<img alt="" src="{jpeg_url(image)}">'
        f'<span aria-hidden="true">{mark} {escape(shortened(label, 12))}</span></button>'
    )
