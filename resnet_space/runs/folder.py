"""A run is a folder, and the folder is the repo. The names of its files live here and nowhere else.

checkpoints/<run>/
  config.json          RunConfig: all that is needed to rebuild the model and to repeat the run
  model.safetensors    the weights of the best validation epoch
  metrics.jsonl        one JSON object a line, appended while training
  test.safetensors     what the model says about every test image
  usual.safetensors    what training images look like to the model, to know what does not
  README.md            the model card, generated from the above
  figures/*.png        for the card
  source.json          which commit of the Hub it came from, if it did; stays on this machine
  resume/              what training needs to go on; stays on this machine
"""

import errno
import fcntl
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from resnet_space.common.errors import UserError
from resnet_space.common.faults import is_passing, words_of
from resnet_space.config import RunConfig
from resnet_space.runs.metrics import Metric, MetricError, metric_of, read_metrics

if TYPE_CHECKING:  # torch takes seconds to import, and the page is up before it is needed
    from numpy.typing import NDArray
    from torch import Tensor

    from resnet_space.models import ResNet

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
METRICS = "metrics.jsonl"
EVALUATION = "test.safetensors"
USUAL = "usual.safetensors"
CARD = "README.md"
FIGURES = "figures"
FIGURE_PATTERN = re.compile(rf"{FIGURES}/[A-Za-z0-9][A-Za-z0-9._-]{{0,94}}\.png")
SOURCE = "source.json"
RESUME = "resume"
START_WEIGHTS = f"{RESUME}/start.safetensors"
STATE = f"{RESUME}/state.pt"
DECODED = f"{RESUME}/images"
MEMBERS = f"{RESUME}/members.npz"  # which pictures each set had when the training began
LOG = f"{RESUME}/trainer.log"
STOP = f"{RESUME}/stop"
LOCK = f"{RESUME}/lock"
TRAINER = f"{RESUME}/trainer"  # the number of the process that trains it
QUEUED = f"{RESUME}/queued"
OWNER = f"{RESUME}/owner"
GUESTS = f"{RESUME}/guests"  # who may see it besides, as they pulled the same
JOB = f"{RESUME}/job.json"  # of one that trains elsewhere

# What the Hub allows, so that any run can be pushed.
NAME_PATTERN = re.compile(r"(?!.*(--|\.\.|\.git$))[A-Za-z0-9]([A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")

# Those that come with the app: the backbone to fine-tune from, a model whose classes everybody knows, and three of one
# recipe to compare in the Explore tab.
BACKBONE = "resnet20-cbam-imagenet32"
SHOWPIECE = "resnet20-cbam-cifar10"
SHALLOW, DEEP, PLAIN = "resnet20-cifar10", "resnet56-cifar10", "plain56-cifar10"
SHIPPED = (BACKBONE, SHOWPIECE, SHALLOW, DEEP, PLAIN)

# By safetensors' names: of weights, and of what counts the batches that a norm layer has seen.
FLOATS, INTEGERS, COUNTER = ("F32", "F16", "BF16", "F64"), ("I64", "I32", "I16", "I8"), ".num_batches_tracked"

W = TypeVar("W")  # a tensor of any library


@contextmanager
def in_a_sentence(what: str, kind: type[UserError] = UserError) -> Iterator[None]:
    """Raise what the system refuses within it as a UserError, or another `kind` of one: "`what`: the disk is full"."""
    try:
        yield
    except (OSError, MemoryError) as error:
        words = words_of(error)
        told = kind(f"{what}: {words[0].lower()}{words[1:]}")
        told.passing = is_passing(error)
        raise told from error


@contextmanager
def replaced_atomically(path: Path) -> Iterator[Path]:
    """Give a path to write to; on success it takes the place of `path` at once, on failure nothing changes.

    Raises:
        OSError: what cannot be written, also where a library that writes in its own way says so in another.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with _as_os_error():
            yield beside
        with beside.open("rb") as written:
            os.fsync(written.fileno())
        beside.replace(path)
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


@contextmanager
def _as_os_error() -> Iterator[None]:
    try:
        yield
    except (SafetensorError, RuntimeError) as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if isinstance(error, SafetensorError) and number:
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
        if "inline_container" in str(error):  # torch.save wrote less than it was to; it does not say why
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise


def discard(folder: Path) -> None:
    """Remove a folder, or what of it can be removed now. Its name is free at once: the rest is hidden, as what is being
    deleted, and tidied later.
    """
    gone = folder.with_name(f".deleted-{folder.name}-{uuid.uuid4().hex[:8]}")
    with suppress(OSError):
        folder = folder.rename(gone)
    shutil.rmtree(folder, ignore_errors=True)


def remove(path: Path) -> None:
    """Remove a file that may not be there, or a folder that was put in its place."""
    try:
        path.unlink(missing_ok=True)
    except (IsADirectoryError, PermissionError):  # what Linux, and what others say of a folder
        if not path.is_dir():
            raise
        shutil.rmtree(path)


@dataclass(frozen=True)
class Source:
    """Where a run came from: a repository of the Hub, and the commit's 40 digits."""

    repo_id: str
    revision: str


@dataclass(frozen=True)
class Run:
    """A run's folder. Make one with `open` or `create`."""

    path: Path
    config: RunConfig

    @property
    def name(self) -> str:
        return self.path.name

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Run":
        """Raises UserError for a folder without a valid configuration."""
        path = Path(path).absolute()
        try:
            config = RunConfig.from_json(json.loads((path / CONFIG).read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise UserError(f"{path.name} is not a run: it has no {CONFIG}.") from None
        except UserError as error:
            raise UserError(f"The {CONFIG} of {path.name} is not valid: {error}") from None
        except OSError as error:
            with in_a_sentence(f"The {CONFIG} of {path.name} cannot be read"):
                raise error from None
        except (ValueError, RecursionError) as error:  # not UTF-8, or not JSON
            raise UserError(f"The {CONFIG} of {path.name} cannot be read: {error}.") from None
        return cls(path, config)

    @classmethod
    def create(cls, path: str | os.PathLike[str], config: RunConfig, *, start: "Run | None" = None) -> "Run":
        """Make a new run's folder, ready to train.

        Args:
            path: the folder; it must not exist yet.
            config: what to train, and how; a temperature in it is another's, and forgotten.
            start: the run whose weights to start from; they are copied, so that the new run stands on its own,
                without its head where the classes differ.

        Raises:
            UserError: if the name cannot be used or is taken, or `start` has no weights.
        """
        path = Path(path).absolute()
        require_name("" if ".." in path.parts else path.name)
        weights = None
        if start is not None and (weights := start._start_arrays()) is None:
            raise UserError(f"{start.name} has no weights to start from: it was not trained to the end of an epoch.")
        run = cls(path, replace(config, model=replace(config.model, temperature=1.0)))
        with run.made_whole():
            (path / RESUME).mkdir()
            if start is not None and weights is not None:
                same = start.config.model.classes == config.model.classes
                with replaced_atomically(path / START_WEIGHTS) as file:
                    save_file(weights if same else without_head(weights), file)
            run.write_config()
        return run

    @contextmanager
    def made_whole(self) -> Iterator[None]:
        """Make the folder, and what belongs into it, or leave nothing. Raises UserError."""
        with in_a_sentence(f"{self.name} cannot be made"):
            try:
                self.path.mkdir(parents=True)
            except FileExistsError:
                raise UserError(f"There is a run named {self.name} already: choose another name.") from None
            try:
                yield
            except BaseException:
                discard(self.path)
                raise

    def again(self, path: str | os.PathLike[str], config: RunConfig | None = None) -> "Run":
        """A new run from this one's start, ready to train: a repetition, or one with other settings of the same model.

        Raises:
            UserError: as `create`, or where the weights that this one started from are not here.
        """
        config = config or self.config
        if config.training.start is None:
            return Run.create(path, config)
        if not (self.path / START_WEIGHTS).is_file():  # one that came from another machine
            return Run.create(path, config, start=Run.open(self.path.parent / config.training.start))
        made = Run.create(path, config)
        try:
            with in_a_sentence(f"{made.name} cannot be made"), replaced_atomically(made.path / START_WEIGHTS) as file:
                shutil.copyfile(self.path / START_WEIGHTS, file)
        except BaseException:
            discard(made.path)
            raise
        return made

    def with_more_epochs(self, epochs: int) -> "Run":
        """This run, to be trained on for longer when it is resumed. Raises UserError for no whole number above 0."""
        training = replace(self.config.training, more_epochs=(*self.config.training.more_epochs, epochs))
        changed = replace(self, config=replace(self.config, training=training))
        changed.write_config()
        return changed

    @contextmanager
    def unchanged_if_refused(self) -> Iterator[None]:
        """What fails within it leaves the configuration as it was, also on a disk that is full."""
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
        """Which commit of the Hub it was pulled from, None if it was made on this machine."""
        try:
            found = json.loads((self.path / SOURCE).read_text(encoding="utf-8"))
            source = Source(found["repo_id"], found["revision"])
        except (OSError, ValueError, TypeError, KeyError, RecursionError):  # none, or not written here
            return None
        return source if isinstance(source.repo_id, str) and isinstance(source.revision, str) else None

    def write_source(self, source: Source) -> None:
        with replaced_atomically(self.path / SOURCE) as file:
            file.write_text(json.dumps(asdict(source), indent=2) + "\n", encoding="utf-8")

    # Weights

    @property
    def has_weights(self) -> bool:
        return (self.path / WEIGHTS).is_file()

    def model_written(self) -> tuple[float, ...]:
        """When the files that a model is loaded from were replaced last (seconds since 1970), 0 for one that is not."""
        return tuple(_written(self.path / name) for name in (WEIGHTS, CONFIG, USUAL))

    def save_weights(self, state_dict: "Mapping[str, Tensor]") -> None:
        """Replace the weights; float32 and contiguous, whatever the training's memory format."""
        import safetensors.torch
        import torch

        plain = {
            name: value.detach().to("cpu", memory_format=torch.contiguous_format).clone()
            for name, value in state_dict.items()
        }
        with replaced_atomically(self.path / WEIGHTS) as file:
            safetensors.torch.save_file(plain, file, metadata={"format": "pt"})
            file.chmod(0o644)  # safetensors keeps it from other users, who may serve the app

    def load_weights(self, file: str = WEIGHTS) -> "dict[str, Tensor]":
        """The tensors of a safetensors file of this run, on the CPU: float32, and the norm layers' counters.

        Raises:
            UserError: if it is missing or damaged, or has numbers of a kind that weights are not.
        """
        import safetensors.torch

        try:
            weight_types(self.path / file, self.name)
            found = safetensors.torch.load_file(self.path / file)
            return {name: value.float() if value.is_floating_point() else value for name, value in found.items()}
        except FileNotFoundError:
            raise UserError(f"{self.name} has no {file} yet: train it to the end of an epoch first.") from None
        except (SafetensorError, OSError) as error:
            raise UserError(f"The {file} of {self.name} cannot be read: {error}.") from None

    def load_arrays(self, file: str) -> "dict[str, NDArray[Any]] | None":
        """The arrays of a safetensors file of this run; None if there is none. Raises UserError if it is damaged."""
        try:
            return load_file(self.path / file)
        except FileNotFoundError:
            return None
        # The last two: of types that numpy lacks.
        except (SafetensorError, OSError, TypeError, AttributeError) as error:
            raise UserError(f"The {file} of {self.name} cannot be read: {error}.") from None

    def _start_arrays(self) -> "dict[str, NDArray[Any]] | None":
        """The weights for another run to start from, without torch where numpy has their types. Raises UserError."""
        if not self.has_weights:
            return None
        try:
            known_to_numpy = "BF16" not in weight_types(self.path / WEIGHTS, self.name)
        except (SafetensorError, OSError) as error:
            raise UserError(f"The {WEIGHTS} of {self.name} cannot be read: {error}.") from None
        if known_to_numpy:
            return self.load_arrays(WEIGHTS)
        return {name: value.numpy() for name, value in self.load_weights().items()}

    def load_model(self) -> "ResNet":
        """The trained model in eval mode on the CPU. The weights must fit exactly; UserError says what does not."""
        from resnet_space.models import model_from_config

        model = model_from_config(self.config.model)
        weights = self.load_weights()
        expected = model.state_dict()
        problems = [f"{name} is missing" for name in expected if name not in weights]
        problems += [f"{name} does not belong there" for name in weights if name not in expected]
        problems += [
            f"{name} has the shape {tuple(weights[name].shape)} instead of {tuple(value.shape)}"
            for name, value in expected.items()
            if name in weights and weights[name].shape != value.shape
        ]
        if problems:
            more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
            what = "; ".join(problems[:3])
            raise UserError(
                f"The {WEIGHTS} of {self.name} does not fit {self.config.model.architecture}: {what}{more}."
            )
        model.load_state_dict(weights)
        return model.eval()

    # Metrics

    def append_metric(self, metric: Metric) -> None:
        """Append a line in a single write, so that a reader sees all of it or an unfinished last line.

        Raises:
            OSError: where it cannot be written; then the file ends with the last complete line.
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
        """All metrics written so far, but lines that cannot be read, and a last one that is still being written.

        Raises:
            UserError: where the file itself cannot be read.
        """
        try:
            with (self.path / METRICS).open("rb") as file:
                return read_metrics(file)
        except FileNotFoundError:
            return []
        except OSError as error:
            with in_a_sentence(f"The {METRICS} of {self.name} cannot be read"):
                raise error from None

    def forget_metrics_after(self, size: int) -> None:
        """Forget what was written after so many bytes, and what is left of a line that was broken off there."""
        with in_a_sentence(f"The {METRICS} of {self.name} cannot be written"):
            if (self.path / METRICS).exists():
                with (self.path / METRICS).open("r+b") as file:
                    file.truncate(min(size, os.fstat(file.fileno()).st_size))  # not longer than it is
                    _end_of_lines(file.fileno())

    # Training

    @contextmanager
    def training_lock(self) -> Iterator[None]:
        """Held by whoever trains this run. The system frees it however that process ends.

        Raises:
            UserError: if another process trains this run, or the lock cannot be written.
        """
        # Not of one thread: a generator that holds it may be closed by another than the one that began it.
        lock = FileLock(self.path / LOCK, thread_local=False)
        with in_a_sentence(f"{self.name} cannot be trained"):
            (self.path / RESUME).mkdir(exist_ok=True)
            try:
                # Not at once: `is_training` holds the lock for a moment when it looks.
                lock.acquire(timeout=1, poll_interval=0.02)
            except Timeout:
                raise UserError(f"{self.name} is being trained already, by another process.") from None
        try:
            with suppress(OSError):  # else it trains all the same
                self.note_trainer(os.getpid())
            yield
        finally:
            with suppress(OSError):
                (self.path / TRAINER).unlink(missing_ok=True)
            lock.release()

    @property
    def is_training(self) -> bool:
        """Whether some process, ours or not, trains this run now. Raises UserError where that cannot be seen now."""
        try:
            lock = os.open(self.path / LOCK, os.O_RDONLY)  # also where nothing can be written
        except OSError as error:
            if not is_passing(error):
                return False
            with in_a_sentence(f"Whether {self.name} trains cannot be seen"):
                raise
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: those who look are not in one another's way
        except BlockingIOError:
            return True
        except OSError:  # nothing that can be locked
            return False
        finally:
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_UN)  # a process that was forked meanwhile may keep the file open
            os.close(lock)
        return False

    def note_trainer(self, pid: int) -> None:
        """Write down which process trains it, for whoever may have to end it."""
        (self.path / TRAINER).write_text(f"{pid}\n", encoding="ascii")

    @property
    def is_job(self) -> bool:
        """Whether it trains, or trained, on another machine, by a job of the Hub."""
        return (self.path / JOB).exists()

    # Its turn

    def ticket(self) -> "Ticket | None":
        """What was noted when it began to wait for its turn; None for a run that does not wait, or with a note that
        nobody can read.

        Raises:
            UserError: where the machine cannot read anything now.
        """
        try:
            found = json.loads((self.path / QUEUED).read_bytes())
        except (ValueError, RecursionError):
            return None
        except OSError as error:
            if not is_passing(error):
                return None
            with in_a_sentence(f"Whether {self.name} waits cannot be seen"):
                raise
        if not isinstance(found, dict):
            return None
        number, since = found.get("number", 0), found.get("time", 0.0)
        known = isinstance(number, int) and isinstance(since, int | float) and abs(since) < 1e15
        return Ticket(number, float(since), bool(found.get("resume"))) if known else None

    def write_ticket(self, ticket: "Ticket") -> None:
        if (self.path / QUEUED).is_dir():
            self.withdraw_ticket()
        with replaced_atomically(self.path / QUEUED) as file:
            file.write_text(json.dumps(asdict(ticket)), encoding="utf-8")

    def withdraw_ticket(self) -> None:
        remove(self.path / QUEUED)

    @property
    def is_queued(self) -> bool:
        return self.ticket() is not None

    def request_stop(self) -> None:
        """Ask the trainer to stop at its next step. A file, because that reaches any process on any machine."""
        (self.path / STOP).touch()

    def stop_requested(self) -> bool:
        return (self.path / STOP).exists()

    def withdraw_stop(self) -> None:
        remove(self.path / STOP)


@dataclass(frozen=True, order=True)
class Ticket:
    """A run's place in the queue, in their order.

    Attributes:
        number: one more than the highest of those that waited; 0 in tickets of earlier versions. Not a time: clocks are
            set back.
        time: when it began to wait, in seconds since 1970.
        resume: whether it goes on where an earlier training ended.
    """

    number: int
    time: float
    resume: bool


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


def _written(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def require_name(name: object) -> None:
    if not isinstance(name, str) or not NAME_PATTERN.fullmatch(name):
        raise UserError(f"{name!r} cannot name a run: use letters, digits, '.', '_' and '-', at most 96.")


def weight_types(file: Path, whose: str) -> set[str]:
    """The types of numbers in a safetensors file of weights, by safetensors' names; nothing of it is loaded.

    Raises:
        UserError: for others than weights have.
        SafetensorError, OSError: for a file that cannot be read.
    """
    with safe_open(file, "numpy") as opened:
        types = {name: str(opened.get_slice(name).get_dtype()) for name in opened.keys()}  # noqa: SIM118
    for name, kind in types.items():
        if kind not in FLOATS and not (name.endswith(COUNTER) and kind in INTEGERS):
            raise UserError(
                f"The {WEIGHTS} of {whose} cannot be used, as its {name} is {kind}: weights have to be "
                f"{', '.join(FLOATS)}, and not quantised."
            )
    return set(types.values())


def without_head(weights: dict[str, W]) -> dict[str, W]:
    """All but the last, linear layer, which other classes need anew."""
    return {name: value for name, value in weights.items() if not name.startswith("fc.")}
