"""A run is a folder, and the folder is the Hub repository: see `files` for its content."""

import errno
import json
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors.numpy import save_file

from resnet_space.common.errors import UserError
from resnet_space.common.files import discard, in_a_sentence, replaced_atomically
from resnet_space.common.records import read_record, write_record
from resnet_space.config import RunConfig
from resnet_space.runs.files import (
    CONFIG,
    FEATURE_STATISTICS,
    METRICS,
    NAME_PATTERN,
    NOTICE,
    RESUME,
    SOURCE,
    START_WEIGHTS,
    WEIGHTS,
)
from resnet_space.runs.metrics import Metric, MetricError, metric_of, read_metrics
from resnet_space.runs.turn import Turn
from resnet_space.runs.weights import Weights, without_head


@dataclass(frozen=True)
class Source:
    """The origin of a run: a Hub repository and the full commit hash."""

    repo_id: str
    revision: str


class Run(Weights, Turn):
    """A run's folder. Use `open` or `create`."""

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Run":
        """Raises UserError for a folder without a valid configuration."""
        path = Path(path).absolute()
        what = f"The {CONFIG} of {path.name}"
        with in_a_sentence(f"{what} cannot be read"):
            try:
                config = RunConfig.from_json(json.loads((path / CONFIG).read_text(encoding="utf-8")))
            except FileNotFoundError:
                raise UserError(f"{path.name} is not a run: it has no {CONFIG}.") from None
            except UserError as error:
                raise UserError(f"{what} is not valid: {error}") from None
            except (ValueError, RecursionError) as error:  # not UTF-8, or not JSON
                raise UserError(f"{what} cannot be read: {error}.") from None
        return cls(path, config)

    @classmethod
    def create(cls, path: str | os.PathLike[str], config: RunConfig, *, start: "Run | None" = None) -> "Run":
        """Create a new run's folder, ready to train.

        Args:
            path: the folder; it must not exist yet.
            config: what to train, and how; its temperature is reset.
            start: the run whose weights to start from; they are copied, so that the new run stands on its own, without
                its head where the classes differ.

        Raises:
            UserError: if the name is invalid or taken, or `start` has no weights.
        """
        path = Path(path).absolute()
        require_name("" if ".." in path.parts else path.name)
        weights = None if start is None else start.start_arrays()
        run = cls(path, replace(config, model=replace(config.model, temperature=1.0)))
        with run.made_whole():
            (path / RESUME).mkdir()
            if start is not None and weights is not None:
                same = start.config.model.classes == config.model.classes
                with replaced_atomically(path / START_WEIGHTS) as file:
                    save_file(weights if same else without_head(weights, config.model.entry.head), file)
                run.take_notice(start)
            run.write_config()
        return run

    def take_notice(self, start: "Run") -> None:
        """Copy the notice about third-party weights from the run that they come from, if it has one."""
        if (start.path / NOTICE).is_file():
            with replaced_atomically(self.path / NOTICE) as file:
                shutil.copyfile(start.path / NOTICE, file)

    @contextmanager
    def made_whole(self) -> Generator[None]:
        """Create the folder with its content, or leave nothing. Raises UserError."""
        with in_a_sentence(f"{self.name} cannot be created"):
            try:
                self.path.mkdir(parents=True)
            except FileExistsError:
                raise UserError(f"A run named {self.name} already exists: choose another name.") from None
            try:
                yield
            except BaseException:
                discard(self.path)
                raise

    def again(self, path: str | os.PathLike[str], config: RunConfig | None = None) -> "Run":
        """A new run from this one's start, ready to train: a repetition, or one with other settings of the same model.

        Raises:
            UserError: as `create`, or if the weights that this run started from are missing.
        """
        config = config or self.config
        if config.training.start is None:
            return Run.create(path, config)
        if not (self.path / START_WEIGHTS).is_file():  # one that came from another machine, or is of a study
            roots = (self.path.parent, Path(path).absolute().parent)
            starts = (root / config.training.start for root in roots)
            start = next((start for start in starts if start.is_dir()), roots[0] / config.training.start)
            return Run.create(path, config, start=Run.open(start))
        made = Run.create(path, config)
        try:
            with in_a_sentence(f"{made.name} cannot be created"):
                made.take_notice(self)
                with replaced_atomically(made.path / START_WEIGHTS) as file:
                    shutil.copyfile(self.path / START_WEIGHTS, file)
        except BaseException:
            discard(made.path)
            raise
        return made

    def with_more_epochs(self, epochs: int) -> "Run":
        """This run with more epochs, to be resumed. Raises UserError unless it is a whole number above 0."""
        training = replace(self.config.training, more_epochs=(*self.config.training.more_epochs, epochs))
        changed = replace(self, config=replace(self.config, training=training))
        changed.write_config()
        return changed

    @contextmanager
    def unchanged_if_refused(self) -> Generator[None]:
        """Restore the configuration if the block fails, even on a full disk."""
        before = self.path / f".{CONFIG}.before.{os.getpid()}.tmp"
        try:
            shutil.copyfile(self.path / CONFIG, before)
            try:
                yield
            except BaseException:
                with suppress(OSError):
                    before.replace(self.path / CONFIG)  # which takes neither room nor an open file
                raise
        finally:
            with suppress(OSError):
                before.unlink(missing_ok=True)

    def write_config(self) -> None:
        with replaced_atomically(self.path / CONFIG) as file:
            file.write_text(json.dumps(self.config.to_json(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @property
    def source(self) -> Source | None:
        """The Hub commit that it was pulled from; None if it was created on this machine."""
        try:
            return read_record(Source, self.path / SOURCE)
        except (OSError, ValueError):  # none, or not written here
            return None

    def write_source(self, source: Source) -> None:
        write_record(source, self.path / SOURCE)

    def model_written(self) -> tuple[float, ...]:
        """When the files of the model were last replaced (seconds since 1970); 0 for missing ones."""
        return tuple(_written(self.existing(name)) for name in (WEIGHTS, CONFIG, FEATURE_STATISTICS))

    # Metrics

    def append_metric(self, metric: Metric) -> None:
        """Append a line in a single write, so that a reader sees all of it or an unfinished last line.

        Raises:
            OSError: if it cannot be written; then the file ends with the last complete line.
        """
        line = json.dumps(metric, ensure_ascii=False).encode() + b"\n"
        file = os.open(self.path / METRICS, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            end = _end_of_lines(file)
            try:
                rest = memoryview(line)
                while rest:  # a disk that is nearly full takes a part
                    written = os.write(file, rest)
                    if not written:
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    rest = rest[written:]
            except OSError:
                os.ftruncate(file, end)
                raise
        finally:
            os.close(file)

    def metrics(self) -> list[Metric]:
        """All metrics written so far, without unreadable lines and an unfinished last one.

        Raises:
            UserError: if the file itself cannot be read.
        """
        with in_a_sentence(f"The {METRICS} of {self.name} cannot be read"):
            try:
                with (self.path / METRICS).open("rb") as file:
                    return read_metrics(file)
            except FileNotFoundError:
                return []

    def forget_metrics_after(self, size: int) -> None:
        """Truncate the metrics after this many bytes, and remove an incomplete last line."""
        with in_a_sentence(f"The {METRICS} of {self.name} cannot be written"):
            if (self.path / METRICS).exists():
                with (self.path / METRICS).open("r+b") as file:
                    file.truncate(min(size, os.fstat(file.fileno()).st_size))  # not longer than it is
                    _end_of_lines(file.fileno())


def _end_of_lines(file: int) -> int:
    """Where the complete lines of metrics end in a file that can be written. What is left of one that was broken off is
    removed, unless all that it lacks is its end.
    """
    size = os.fstat(file).st_size
    begin, tail = size, b""
    while begin and b"\n" not in tail:  # from the end, as nothing but the last line matters
        step = min(begin, 65_536)
        begin -= step
        tail = os.pread(file, step, begin) + tail
    rest = tail[tail.rfind(b"\n") + 1 :]
    if not rest:
        return size
    try:
        metric_of(rest)
        os.pwrite(file, b"\n", size)
        return size + 1
    except MetricError:
        os.ftruncate(file, size - len(rest))
        return size - len(rest)


def _written(file: Path | None) -> float:
    with suppress(OSError):
        return file.stat().st_mtime if file else 0.0
    return 0.0


def require_name(name: object) -> None:
    if not isinstance(name, str) or not NAME_PATTERN.fullmatch(name):
        raise UserError(f"{name!r} is not a valid run name: use at most 96 letters, digits, '.', '_' and '-'.")
