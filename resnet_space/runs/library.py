"""The runs below one folder, for many readers at once."""

import itertools
import os
import secrets
import shutil
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from resnet_space.runs.folder import CONFIG, METRICS, NAME_PATTERN, Run, RunError, require_name
from resnet_space.runs.metrics import Metric, fewer_steps, read_metrics

METRICS_BYTES = 100_000_000  # of the files whose content is kept in memory; one of a training here has 1 MB


class Library:
    """The runs below one folder, for many readers at once: each file is read once, however many look at it."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).absolute()
        self._lock = threading.Lock()
        self._opened: dict[Path, tuple[float, Run]] = {}
        self._renamed: dict[str, str] = {}
        self._metrics: OrderedDict[Path, tuple[int, bytes, list[Metric]]] = OrderedDict()  # the last read is last

    def runs(self) -> list[Run]:
        """The valid runs, newest first."""
        found: dict[Path, tuple[float, Run]] = {}
        for path in self.root.iterdir() if self.root.is_dir() else ():
            if not NAME_PATTERN.fullmatch(path.name):  # for instance one that is being deleted
                continue
            try:
                written = (path / CONFIG).stat().st_mtime
                known = self._opened.get(path)
                found[path] = known if known and known[0] == written else (written, Run.open(path))
            except (OSError, RunError):
                continue
        self._opened = found
        return [run for _, run in sorted(found.values(), key=lambda entry: (-entry[0], entry[1].name))]

    def open(self, name: str) -> Run:
        """Raises RunError if there is no such run, or it is broken."""
        if not isinstance(name, str) or not NAME_PATTERN.fullmatch(name):
            raise RunError("Choose a run first.")
        if not (self.root / name).is_dir():
            raise RunError(f"There is no run named {name} any more: choose another.")
        return Run.open(self.root / name)

    def delete(self, run: Run) -> None:
        """Delete a run's folder for good. Raises RunError while it trains or waits."""
        self._require_idle(run, "deleted")
        gone = run.path.with_name(f".deleted-{run.name}")
        run.path.rename(gone)  # at once, so that nobody meets half a run
        shutil.rmtree(gone)

    def rename(self, run: Run, name: str) -> Run:
        """Give a run's folder another name. Raises RunError where that cannot be, or while it trains or waits."""
        require_name(name)
        self._require_idle(run, "renamed")
        if (self.root / name).exists():
            raise RunError(f"There is a run named {name} already: choose another name.")
        run.path.rename(self.root / name)
        self._renamed[run.name] = name
        return Run.open(self.root / name)

    def names_now(self, names: Sequence[str]) -> list[str]:
        """The same runs by the names that they have now, each once, without those that are gone."""
        found = []
        for name in names:
            for _ in self._renamed:  # at most so many times, should names have been swapped
                if (self.root / name).is_dir() or name not in self._renamed:
                    break
                name = self._renamed[name]
            found.append(name)
        here = {run.name for run in self.runs()}
        return [name for name in dict.fromkeys(found) if name in here]

    @staticmethod
    def _require_idle(run: Run, done: str) -> None:
        if run.is_training or run.is_queued:
            raise RunError(f"{run.name} is training or waiting: stop it before it is {done}.")

    def free_name(self, kind: str, *, secret: bool = False) -> str:
        """The first of kind-1, kind-2, ... that no folder has; a secret one ends in what nobody can guess."""
        if secret:
            return f"{kind}-{secrets.token_hex(5)}"
        return next(name for name in (f"{kind}-{i}" for i in itertools.count(1)) if not (self.root / name).exists())

    def metrics(self, run: Run) -> list[Metric]:
        """As `run.metrics()`, but only what is new is read, and of many steps every other. Do not change the list."""
        path = run.path / METRICS
        with self._lock:  # two readers moving one offset would tear lines
            offset, tail, metrics = self._metrics.get(path, (0, b"", []))
            try:
                with path.open("rb") as file:
                    file.seek(offset - len(tail))
                    # Not what was there: a resumed training went back to its saved state, and perhaps on from there.
                    if file.read(len(tail)) != tail:
                        offset, metrics = 0, []
                    file.seek(offset)
                    new = read_metrics(file)
                    end = file.tell()
                    begin = max(end - 256, 0)
                    file.seek(begin)
                    # A new list, so that nobody's iteration meets a growing one.
                    self._metrics[path] = (end, file.read(end - begin), fewer_steps(metrics + new) if new else metrics)
            except FileNotFoundError:
                self._metrics.pop(path, None)
                return []
            self._metrics.move_to_end(path)
            while len(self._metrics) > 1 and sum(end for end, *_ in self._metrics.values()) > METRICS_BYTES:
                self._metrics.popitem(last=False)
            return self._metrics[path][2]
