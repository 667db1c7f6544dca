"""Many pictures: read one at a time, classified in batches, and a row for each prediction."""

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL.Image import Image

from resnet_space.data.archives import File, is_archive, read_files
from resnet_space.data.archives.members import DEFAULT_LIMITS, Budget
from resnet_space.data.archives.report import SkippedFiles
from resnet_space.data.images import ImageError, Picture, to_model_size
from resnet_space.training.evaluation import Evaluation

if TYPE_CHECKING:
    from resnet_space.inference import Classifier

TOP = 5
MOST_BYTES = 50_000_000  # of a picture's file


@dataclass(frozen=True)
class Row:
    """The prediction of a run for one picture.

    Attributes:
        file: its name, with its folders.
        folder: its label: the class whose name one of its folders has, or empty.
        classes, probabilities: the top ones, best first.
        indices: the classes' positions among the run's.
        loss: the cross-entropy of the folder's class in nats; NaN without one.
        unusual: whether the picture is unlike the training images.
        thumbnail: of the picture as a data: URL, or empty where it is not kept.
    """

    file: str
    folder: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    indices: tuple[int, ...]
    loss: float
    unusual: bool
    thumbnail: str = field(default="", repr=False)

    @property
    def right(self) -> bool | None:
        """Whether the label was predicted; None without a label."""
        return self.folder == self.classes[0] if self.folder else None


@dataclass
class Reading:
    """How far the reading is, and what could not be used."""

    skipped: SkippedFiles
    done: int = 0
    total: int = 0


def read_all(sources: Sequence[tuple[Path, str]]) -> Iterator[File]:
    """The files of several (path, name): archives, folders of this machine, and single files. Raises UserError."""
    for i, (path, name) in enumerate(sources):
        if path.is_dir() or is_archive(path):
            for file in read_files(path):
                # Of several sources each counts the same, however many files are in it.
                share = 1.0 if len(sources) == 1 else file.done / max(file.total, 1)
                done, total = (file.done, file.total) if len(sources) == 1 else (round(100 * (i + share)), 0)
                # A folder of this machine may be one of a class.
                parts = (path.name, *file.parts) if path.is_dir() and file.parts else file.parts
                yield File(file.name, parts, file.data, file.problem, done, total or 100 * len(sources))
        else:
            large = path.stat().st_size > MOST_BYTES
            problem = f"It has more than the {MOST_BYTES:,} bytes that a picture may have." if large else None
            data = b"" if large else path.read_bytes()
            yield File(name, (name,), data, problem, 100 * (i + 1), 100 * len(sources))


def first_short_side(files: Iterator[File]) -> tuple[int, Iterator[File]]:
    """(pixels of the short side of the first picture among the files, all the files); 0 where there is no picture."""
    seen: list[File] = []
    for file in files:
        seen.append(file)
        if file.parts and not file.problem:
            with suppress(ImageError), Picture(io.BytesIO(file.data)) as picture:
                return min(picture.size), chain(seen, files)
    return 0, iter(seen)


def classified(
    classifier: "Classifier",
    files: Iterable[File],
    reading: Reading,
    *,
    most: int,
    stopped: Callable[[], bool] = lambda: False,
    thumbnail: Callable[[Image, bool], str] = lambda image, is_wrong: "",
) -> Iterator[Row]:
    """A row for every picture among the files, in their order; one batch of pictures is in memory at a time.

    Args:
        classifier: the run's.
        files: as they are read.
        reading: is kept up to date.
        most: pictures; what comes after them is not read.
        stopped: is asked before each file.
        thumbnail: of a picture at the model's size, and whether it is wrong by its label: what is kept of it.

    Raises:
        UserError: where the pictures have too many pixels in all, or take too long; see `ImportLimits`.
    """
    names: deque[tuple[str, str, Image]] = deque()
    classes = classifier.config.classes
    known = {name.casefold(): name for name in classes}
    stored_size = classifier.config.stored_size
    short_side = 2 * stored_size
    budget = Budget(DEFAULT_LIMITS)

    def pictures() -> Iterator[Image]:
        taken = 0
        for file in files:
            if stopped():
                return
            reading.done, reading.total = file.done, file.total
            if not file.parts:
                continue
            try:
                if file.problem:
                    raise ImageError(file.problem)
                # At once, as a batch of them would take as many times what the largest picture does.
                with Picture(io.BytesIO(file.data), short_side=short_side) as picture:
                    budget.spend(picture.cost, len(file.data))
                    image = to_model_size(picture.decode().image, stored_size)
            except ImageError as error:
                reading.skipped.add(file.name, str(error))
                continue
            folder = next((known[part.casefold()] for part in file.parts[-2::-1] if part.casefold() in known), "")
            names.append(("/".join(file.parts), folder, image))
            yield image
            taken += 1
            if taken == most:
                return

    for prediction in classifier.predict_many(pictures(), top=TOP):
        name, folder, image = names.popleft()
        loss = float("nan")
        if folder:
            scaled = prediction.logits.double() / classifier.config.temperature
            loss = float(scaled.logsumexp(0) - scaled[classes.index(folder)])
        yield Row(
            name,
            folder,
            tuple(prediction.classes),
            tuple(prediction.probabilities),
            tuple(prediction.indices),
            loss,
            bool(prediction.unusual),
            thumbnail(image, bool(folder) and folder != prediction.classes[0]),
        )


def evaluation_of(rows: Sequence[Row], classes: tuple[str, ...]) -> Evaluation | None:
    """Of the rows whose folder is a class; None where there are none."""
    labelled = [row for row in rows if row.folder]
    if not labelled:
        return None
    return Evaluation(
        labels=np.array([classes.index(row.folder) for row in labelled], dtype=np.int32),
        top=np.array([row.indices for row in labelled], dtype=np.int32),
        probabilities=np.array([row.probabilities for row in labelled], dtype=np.float32),
        losses=np.array([row.loss for row in labelled], dtype=np.float32),
        rows=np.arange(len(labelled), dtype=np.int32),
        classes=classes,
    )


def table_columns(top: int) -> list[str]:
    """Of `table_rows`, for so many classes a picture."""
    ranks = ["", *(f" {i}" for i in range(2, top + 1))]
    ranked = [f"{name}{rank}" for rank in ranks for name in ("predicted", "probability %")]
    return ["file", "label", "correct", *ranked, "unlike training images"]


def table_rows(rows: Sequence[Row]) -> list[list[Any]]:
    """A row a picture, for the CSV; the probabilities in per cent."""
    table: list[list[Any]] = []
    for row in rows:
        ranked: list[Any] = []
        for name, probability in zip(row.classes, row.probabilities, strict=True):
            ranked += [name, round(100 * probability, 2)]
        correct = {None: "", True: "yes", False: "no"}[row.right]
        table.append([row.file, row.folder, correct, *ranked, "yes" if row.unusual else ""])
    return table
