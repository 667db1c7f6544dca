"""The runs below one folder, for many readers at once."""

import itertools
import os
import secrets
import shutil
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from resnet_space.common.background import tell_once
from resnet_space.common.errors import UserError
from resnet_space.common.faults import is_passing, words_of
from resnet_space.common.files import in_a_sentence
from resnet_space.runs.files import CONFIG, METRICS, NAME_PATTERN
from resnet_space.runs.folder import Run, require_name
from resnet_space.runs.metrics import Metric, fewer_steps, is_shown, read_lines


@dataclass(frozen=True)
class _Read:
    """What is known of a run's metrics: up to which byte and line, the bytes before it, and what they say; which of
    them can be shown beside others', and what is wrong with the rest.
    """

    offset: int = 0
    tail: bytes = b""
    lines: int = 0
    metrics: list[Metric] = field(default_factory=list)
    shown: list[Metric] = field(default_factory=list)
    wrong: tuple[str, ...] = ()


METRICS_BYTES = 100_000_000  # of metrics files kept in memory; one has about 1 MB
MOST_TOLD = 1_000  # recorded problems with the lines of one run


def free_name(root: Path, kind: str, *, secret: bool = False) -> str:
    """The first free name of kind-1, kind-2, ... below `root`; a secret one ends in an unguessable suffix."""
    if secret:
        return f"{kind}-{secrets.token_hex(5)}"
    return next(name for name in (f"{kind}-{i}" for i in itertools.count(1)) if not (root / name).exists())


class Library:
    """The runs below one folder, for many readers at once: each file is read once, however many look at it."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).absolute()
        self._lock = threading.Lock()
        self._opened: dict[Path, tuple[float, Run | None]] = {}  # None: it has a configuration, but no valid one
        self._renamed: dict[str, str] = {}
        self._metrics: OrderedDict[Path, _Read] = OrderedDict()  # the last read is last

    def runs(self) -> list[Run]:
        """The valid runs, newest first. Invalid ones are skipped, with one line in the app's log.

        Raises:
            UserError: if the folder cannot be read at the moment.
        """
        with in_a_sentence("The runs cannot be read"):
            paths = list(self.root.iterdir()) if self.root.is_dir() else []
        found: dict[Path, tuple[float, Run | None]] = {}
        for path in paths:
            if not NAME_PATTERN.fullmatch(path.name):  # for instance one that is being deleted
                continue
            known = self._opened.get(path)
            try:
                written = (path / CONFIG).stat().st_mtime
                found[path] = known if known and known[0] == written else (written, Run.open(path))
            except OSError:
                continue
            except UserError as error:
                if not error.passing:
                    found[path] = written, None  # pyrefly: ignore[unbound-name]  # only the opening raises it
                    tell_once(f"Skipped: {error}")
                elif known:
                    found[path] = known
        self._opened = found
        newest_first = sorted(found.items(), key=lambda entry: (-entry[1][0], entry[0].name))
        return [run for _, (_, run) in newest_first if run is not None]

    def open(self, name: str) -> Run:
        """The run of this name. Raises UserError if it does not exist or is broken."""
        if not isinstance(name, str) or not NAME_PATTERN.fullmatch(name):
            raise UserError("Choose a run first.")
        if not (self.root / name).is_dir():
            raise UserError(f"There is no run named {name}, or it has been deleted: choose another one.")
        return Run.open(self.root / name)

    def delete(self, run: Run) -> None:
        """Delete a run's folder permanently. Raises UserError while it is training or queued."""
        self._require_idle(run, "deleted")
        with in_a_sentence(f"{run.name} cannot be deleted"):
            # At once, so that nobody meets half a run.
            gone = run.path.rename(run.path.with_name(f".deleted-{run.name}-{secrets.token_hex(4)}"))
        shutil.rmtree(gone, ignore_errors=True)

    def rename(self, run: Run, name: str) -> Run:
        """Rename a run's folder. Raises UserError if that is not possible, or while it is training or queued."""
        require_name(name)
        self._require_idle(run, "renamed")
        if (self.root / name).exists():
            raise UserError(f"A run named {name} already exists: choose another name.")
        with in_a_sentence(f"{run.name} cannot be renamed"):
            run.path.rename(self.root / name)
        self._renamed[run.name] = name
        return Run.open(self.root / name)

    def names_now(self, names: Sequence[str], runs: Sequence[Run] | None = None) -> list[str]:
        """The current names of the given runs, each once, without deleted ones.

        `runs`: all existing runs, if already known.
        """
        here = {run.name for run in (self.runs() if runs is None else runs)}
        found: list[str] = []
        for name in names:
            for _ in self._renamed:  # at most so many times, should names have been swapped
                if name in here or name not in self._renamed:
                    break
                name = self._renamed[name]
            found.append(name)
        return [name for name in dict.fromkeys(found) if name in here]

    @staticmethod
    def _require_idle(run: Run, done: str) -> None:
        if run.is_training or run.is_queued:
            raise UserError(f"{run.name} is training or queued and cannot be {done}: stop it first.")

    def free_name(self, kind: str, *, secret: bool = False) -> str:
        """A name for a new run; see the function of the same name."""
        return free_name(self.root, kind, secret=secret)

    def metrics(self, run: Run) -> list[Metric]:
        """As `run.metrics()`, but reads only new lines and thins out many steps. Do not change the list.

        Never fails: unreadable lines are skipped and reported by `unreadable`.
        """
        return self._read(run).metrics

    def shown_metrics(self, run: Run) -> list[Metric]:
        """The entries of `metrics` that have all fields needed by pages with several runs."""
        return self._read(run).shown

    def unreadable(self, run: Run) -> str:
        """One sentence on the unreadable part of a run's metrics; empty if there is none."""
        wrong = self._read(run).wrong
        more = f" {len(wrong) - 1} more lines are skipped too." if len(wrong) > 1 else ""
        return f"{wrong[0]}{more}" if wrong else ""

    def _read(self, run: Run) -> _Read:
        path = run.path / METRICS
        with self._lock:  # two readers moving one offset would tear lines
            known = self._metrics.get(path, _Read())
            try:
                with path.open("rb") as file:
                    file.seek(known.offset - len(known.tail))
                    # The file has changed: a resumed training went back to its saved state, and perhaps on from there.
                    if file.read(len(known.tail)) != known.tail:
                        known = _Read()
                    file.seek(known.offset)
                    new = read_lines(file, known.lines + 1)
                    end = file.tell()
                    begin = max(end - 256, 0)
                    file.seek(begin)
                    metrics, shown = known.metrics, known.shown
                    if new.metrics:  # new lists, because others may be iterating the old ones
                        metrics = fewer_steps(metrics + new.metrics)
                        shown = metrics if all(map(is_shown, metrics)) else list(filter(is_shown, metrics))
                    self._metrics[path] = _Read(
                        end,
                        file.read(end - begin),
                        known.lines + new.count,
                        metrics,
                        shown,
                        (known.wrong + new.wrong)[:MOST_TOLD],
                    )
            except FileNotFoundError:
                self._metrics.pop(path, None)
                return _Read()
            except (OSError, MemoryError) as error:
                if is_passing(error):
                    return known
                words = words_of(error)
                return _Read(wrong=(f"Its metrics cannot be read: {words[0].lower()}{words[1:]}",))
            self._metrics.move_to_end(path)
            while len(self._metrics) > 1 and sum(read.offset for read in self._metrics.values()) > METRICS_BYTES:
                self._metrics.popitem(last=False)
            return self._metrics[path]
