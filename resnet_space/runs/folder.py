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

import json
import os
import re
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from resnet_space.config import ConfigError, RunConfig
from resnet_space.runs.metrics import Metric, read_metrics

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

W = TypeVar("W")  # a tensor of any library

_looking = threading.Lock()  # two threads that look at a lock at once would each take the other for a trainer


class RunError(Exception):
    """A run folder that cannot be used; the message says which and why, in one sentence."""


@contextmanager
def replaced_atomically(path: Path) -> Iterator[Path]:
    """Give a path to write to; on success it takes the place of `path` at once, on failure nothing changes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield beside
        with beside.open("rb") as written:
            os.fsync(written.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


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
        """Raises RunError for a folder without a valid configuration."""
        path = Path(path).absolute()
        try:
            config = RunConfig.from_json(json.loads((path / CONFIG).read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise RunError(f"{path.name} is not a run: it has no {CONFIG}.") from None
        except ConfigError as error:
            raise RunError(f"The {CONFIG} of {path.name} is not valid: {error}") from None
        except (OSError, ValueError, RecursionError) as error:  # unreadable, not UTF-8, or not JSON
            raise RunError(f"The {CONFIG} of {path.name} cannot be read: {error}.") from None
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
            RunError: if the name cannot be used or is taken, or `start` has no weights.
        """
        path = Path(path).absolute()
        require_name("" if ".." in path.parts else path.name)
        weights = None
        if start is not None and (weights := start.load_arrays(WEIGHTS)) is None:
            raise RunError(f"{start.name} has no weights to start from: it was not trained to the end of an epoch.")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            raise RunError(f"There is a run named {path.name} already: choose another name.") from None
        (path / RESUME).mkdir()
        if start is not None and weights is not None:
            same = start.config.model.classes == config.model.classes
            save_file(weights if same else without_head(weights), path / START_WEIGHTS)
        run = cls(path, replace(config, model=replace(config.model, temperature=1.0)))
        run.write_config()
        return run

    def again(self, path: str | os.PathLike[str], config: RunConfig | None = None) -> "Run":
        """A new run from this one's start, ready to train: a repetition, or one with other settings of the same model.

        Raises:
            RunError: as `create`, or where the weights that this one started from are not here.
        """
        config = config or self.config
        if config.training.start is None:
            return Run.create(path, config)
        if not (self.path / START_WEIGHTS).is_file():  # one that came from another machine
            return Run.create(path, config, start=Run.open(self.path.parent / config.training.start))
        made = Run.create(path, config)
        shutil.copyfile(self.path / START_WEIGHTS, made.path / START_WEIGHTS)
        return made

    def with_more_epochs(self, epochs: int) -> "Run":
        """This run, to be trained on for longer when it is resumed. Raises ConfigError for no whole number above 0."""
        training = replace(self.config.training, more_epochs=(*self.config.training.more_epochs, epochs))
        changed = replace(self, config=replace(self.config, training=training))
        changed.write_config()
        return changed

    def write_config(self) -> None:
        with replaced_atomically(self.path / CONFIG) as file:
            file.write_text(json.dumps(self.config.to_json(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @property
    def source(self) -> Source | None:
        """Which commit of the Hub it was pulled from, None if it was made on this machine."""
        try:
            found = json.loads((self.path / SOURCE).read_text(encoding="utf-8"))
            source = Source(found["repo_id"], found["revision"])
        except (OSError, ValueError, TypeError, KeyError):  # none, or not written here
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
        """The tensors of a safetensors file of this run, on the CPU. Raises RunError if it is missing or damaged."""
        import safetensors.torch

        try:
            return safetensors.torch.load_file(self.path / file)
        except FileNotFoundError:
            raise RunError(f"{self.name} has no {file} yet: train it to the end of an epoch first.") from None
        except (SafetensorError, OSError) as error:
            raise RunError(f"The {file} of {self.name} cannot be read: {error}.") from None

    def load_arrays(self, file: str) -> "dict[str, NDArray[Any]] | None":
        """The arrays of a safetensors file of this run; None if there is none. Raises RunError if it is damaged."""
        try:
            return load_file(self.path / file)
        except FileNotFoundError:
            return None
        # The last two: of types that numpy lacks.
        except (SafetensorError, OSError, TypeError, AttributeError) as error:
            raise RunError(f"The {file} of {self.name} cannot be read: {error}.") from None

    def load_model(self) -> "ResNet":
        """The trained model in eval mode on the CPU. The weights must fit exactly; RunError says what does not."""
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
            raise RunError(f"The {WEIGHTS} of {self.name} does not fit {self.config.model.architecture}: {what}{more}.")
        model.load_state_dict(weights)
        return model.eval()

    # Metrics

    def append_metric(self, metric: Metric) -> None:
        """Append a line in a single write, so that a reader sees all of it or an unfinished last line."""
        line = json.dumps(metric, ensure_ascii=False) + "\n"
        with (self.path / METRICS).open("ab", buffering=0) as file:
            file.write(line.encode())

    def metrics(self) -> list[Metric]:
        """All metrics written so far. A last line that is still being written is left out."""
        try:
            with (self.path / METRICS).open("rb") as file:
                return read_metrics(file)
        except FileNotFoundError:
            return []

    # Training

    @contextmanager
    def training_lock(self) -> Iterator[None]:
        """Held by whoever trains this run. The system frees it however that process ends.

        Raises:
            RunError: if another process trains this run.
        """
        (self.path / RESUME).mkdir(exist_ok=True)
        # Not of one thread: a generator that holds it may be closed by another than the one that began it.
        lock = FileLock(self.path / LOCK, thread_local=False)
        try:
            # Not at once: `is_training` holds the lock for a moment when it looks.
            lock.acquire(timeout=1, poll_interval=0.02)
        except Timeout:
            raise RunError(f"{self.name} is being trained already, by another process.") from None
        try:
            yield
        finally:
            lock.release()

    @property
    def is_training(self) -> bool:
        """Whether some process, ours or not, trains this run now."""
        if not (self.path / LOCK).exists():
            return False
        with _looking:
            lock = FileLock(self.path / LOCK)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                return True
            lock.release()
            return False

    @property
    def is_job(self) -> bool:
        """Whether it trains, or trained, on another machine, by a job of the Hub."""
        return (self.path / JOB).exists()

    @property
    def is_queued(self) -> bool:
        return (self.path / QUEUED).exists()

    def request_stop(self) -> None:
        """Ask the trainer to stop at its next step. A file, because that reaches any process on any machine."""
        (self.path / STOP).touch()

    def stop_requested(self) -> bool:
        return (self.path / STOP).exists()

    def withdraw_stop(self) -> None:
        (self.path / STOP).unlink(missing_ok=True)


def _written(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def require_name(name: object) -> None:
    if not isinstance(name, str) or not NAME_PATTERN.fullmatch(name):
        raise RunError(f"{name!r} cannot name a run: use letters, digits, '.', '_' and '-', at most 96.")


def without_head(weights: dict[str, W]) -> dict[str, W]:
    """All but the last, linear layer, which other classes need anew."""
    return {name: value for name, value in weights.items() if not name.startswith("fc.")}
