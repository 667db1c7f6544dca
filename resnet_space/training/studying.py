"""Train what a study asks for, one training after the other, each through the ordinary loop on its own run.

A training of a visitor goes first: while one runs in the folder of the runs, the study waits, and later goes on from
the step where it was. So it does after it was stopped or killed.
"""

import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from resnet_space.common.errors import UserError
from resnet_space.common.files import discard
from resnet_space.config import RunConfig
from resnet_space.data.reference import DatasetRef
from resnet_space.data.summary import summarise
from resnet_space.runs import CONFIG, METRICS, STATE, Library, Metric, Run, last_metric
from resnet_space.runs.queue import Trainer
from resnet_space.training.host import failure
from resnet_space.training.loop import train
from resnet_space.training.speeds import Speeds
from resnet_space.training.study import Arm, Point, Study, config_of, planned, run_name
from resnet_space.training.work import Doing, Underway

LOOK_SECONDS = 1.0  # between two looks at whether somebody trains
WAIT_SECONDS = 0.5
TURN = ".turn"  # the lock of the one study that trains, beside all of them
KEPT = (CONFIG, METRICS)  # of a run that is done

Fetch = Callable[[str], Run]


class Studying(Underway[Study]):
    """Does a study, or what is left of it.

    It raises UserError for a dataset or a start that cannot be used.

    Args:
        study: what was asked, and found so far.
        fetch: gives the run whose weights are transferred, by name; it may download it.
        folder: of the study; the trainings' runs are in its `runs`.
        root: the folder of the runs, in which other trainings go first.
        speeds: of this machine with the run's network; asked if nobody has told yet how long all takes.
    """

    def __init__(self, study: Study, fetch: Fetch, folder: Path, root: Path, speeds: Callable[[Run], Speeds]) -> None:
        super().__init__(study)
        self.fetch, self.folder, self.speeds = fetch, folder, speeds
        self.trainer = Trainer(Library(root), spawns=False)
        self.looked = 0.0

    def work(self) -> None:
        turn = FileLock(self.folder.parent / TURN, thread_local=False)
        self._wait_for(turn)
        try:
            self._all()
        finally:
            turn.release()

    def _wait_for(self, turn: FileLock) -> None:
        waiting = False
        while True:
            try:
                turn.acquire(timeout=0 if not waiting else WAIT_SECONDS)
                return
            except Timeout:
                waiting = True
                self.told(Doing("", "waiting for another study", share=self.now.doing.share))

    def _all(self) -> None:
        self.told(replace(self.now.doing, name="", phase=""))
        data = summarise(DatasetRef.parse(self.now.dataset))
        start = self.fetch(self.now.start)
        if self.now.expected is None and not self.now.points:
            self.now = planned(self.now, data, start.config.model, self.speeds(start))
        trained = {(p.arm, p.per_class, p.seed) for p in self.now.points}
        for arm, size, seed in self.now.trainings:
            if (arm, size, seed) in trained:
                continue
            config = config_of(self.now, data, start.config.model, arm, size, seed)
            point = self._point(config, start, arm, size, seed)
            self.now = replace(self.now, points=(*self.now.points, point))
            self.told(Doing(run_name(arm, size, seed), share=self._share(0.0)))

    def _point(self, config: RunConfig, start: Run, arm: Arm, size: int, seed: int) -> Point:
        path = self.folder / "runs" / run_name(arm, size, seed)
        try:
            run = Run.open(path) if (path / CONFIG).exists() else None
            if run is not None and last_metric(run.metrics(), "test") is None and not (path / STATE).exists():
                discard(path)  # killed before its first state
                run = None
            if run is None:
                run = Run.create(path, config, start=None if arm == "scratch" else start)
            test = last_metric(run.metrics(), "test") or self._trained(run)
        except (UserError, RuntimeError, MemoryError, OSError, ValueError) as error:
            return Point(arm, size, seed, problem=str(failure(error)["reason"]))
        metrics = run.metrics()
        began = last_metric(metrics, "start") or {}
        per_epoch = int(began.get("steps_per_epoch", 0))
        epochs = sum(phase["epochs"] for phase in began.get("phases", ()) if not phase.get("solved"))
        images = int(test["images"])
        _tidy(path)
        return Point(
            arm,
            size,
            seed,
            round(test["accuracy"] * images),
            images,
            float(test["seconds"]),
            per_epoch * epochs,
            epochs,
        )

    def _trained(self, run: Run) -> Metric:
        """Train a run to its test, or as far as nobody else wants to train; its "test" metric."""
        while True:
            self._give_way(run)
            tell = self.teller("training", self._share(0.0), self._share(1.0), run.name)
            with closing(train(run, resume=(run.path / STATE).exists())) as metrics:
                total = done = 0
                for metric in metrics:
                    if metric["event"] == "test":
                        return metric
                    began: Metric = {} if total else last_metric(run.metrics(), "start") or {}  # not told on resuming
                    total = total or began.get("epochs", 0) * began.get("steps_per_epoch", 0)
                    done = max(done, int(metric.get("step", 0)))
                    tell(done, total)
                    if self._others_train():
                        break
                else:
                    raise UserError(f"{run.name} ended without a test.")

    def _give_way(self, run: Run) -> None:
        """Wait while another training runs on this machine."""
        self.looked = 0.0
        while self._others_train():
            self.told(Doing(run.name, "waiting for a training", share=self.now.doing.share))
            time.sleep(WAIT_SECONDS)
            self.looked = 0.0

    def _others_train(self) -> bool:
        if time.monotonic() - self.looked < LOOK_SECONDS:
            return False
        self.looked = time.monotonic()
        with suppress(UserError):  # nobody knows at the moment
            return self.trainer.active() is not None
        return False

    def _share(self, own: float) -> float:
        """Trainings by steps count; a solved head takes next to nothing."""
        costs = [(0.05 if arm == "frozen" else 1.0) for arm, *_ in self.now.trainings]
        place = min(len(self.now.points), len(costs) - 1)
        if len(self.now.points) == len(costs):
            return 1.0
        return round((sum(costs[:place]) + own * costs[place]) / sum(costs), 4)


def _tidy(path: Path) -> None:
    """Keep what says how a training was done and what came of it; its weights can be had again by training it."""
    for entry in path.iterdir():
        if entry.name not in KEPT:
            discard(entry) if entry.is_dir() else entry.unlink(missing_ok=True)
