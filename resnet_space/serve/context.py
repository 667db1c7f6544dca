"""State shared by all visitors: the runs, the trainer, and loaded models."""

import hashlib
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_space.common.background import in_background
from resnet_space.common.errors import UserError
from resnet_space.common.hardware import is_zero_gpu
from resnet_space.common.hub_client import HubError, Progress
from resnet_space.config import ModelConfig, TrainConfig
from resnet_space.data.reference import DatasetRef
from resnet_space.data.summary import DatasetSummary
from resnet_space.hub.account import free_gpu_seconds, who_am_i
from resnet_space.hub.follower import Follower
from resnet_space.hub.jobs import Flavour, job_of, list_flavours, start_job
from resnet_space.hub.pretrained import PRETRAINED, is_pretrained, pretrained_model, pull_pretrained
from resnet_space.hub.pull import pull_run
from resnet_space.runs import GUESTS, OWNER, PHOTO_BACKBONE, SHIPPED, SHOWPIECE, Library, Run
from resnet_space.runs.folder import require_name
from resnet_space.runs.queue import Trainer
from resnet_space.serve import visitors
from resnet_space.serve.datasets import Datasets
from resnet_space.serve.inventory import EXPIRES
from resnet_space.serve.limits import Limits
from resnet_space.serve.loaded import LoadedModels
from resnet_space.serve.slots import Slots
from resnet_space.serve.storage import Storage
from resnet_space.serve.works import W, Works
from resnet_space.training.comparison import Comparison
from resnet_space.training.data_map import DataMap
from resnet_space.training.data_report import DataReport
from resnet_space.training.review import BeforeAfter
from resnet_space.training.speeds import SpeedFile, machine_words
from resnet_space.training.study import Study

if TYPE_CHECKING:
    from resnet_space.inference import Classifier

MAX_USERS = 1_000  # whose names and quotas are cached
QUOTA_SECONDS = 30.0  # for which a quota is cached
PRICES_SECONDS = 600.0  # for which the Hub's prices are cached
LONGEST_NAME = 80  # letters of the name that a visitor of a public app gives a run
AGAIN_SECONDS = 5.0  # until a failed step of the app's start is retried

NOT_MADE_HERE = {*SHIPPED, *(pretrained.name for pretrained in PRETRAINED)}


class AppContext:
    """One per app. Its methods may be called from any thread.

    Args:
        root: the folder of the runs.
        public: whether anyone except the machine's owner uses the app.
        readonly: whether visitors may only view; they then see all runs.
        limits: of every training and visitor.
    """

    def __init__(
        self, root: Path, *, public: bool = False, readonly: bool = False, limits: Limits | None = None
    ) -> None:
        self.public = public
        self.readonly = readonly
        self.limits = limits or Limits()
        self.library = Library(root)
        self.trainer = Trainer(self.library, longest_queue=self.limits.queue, spawns=not is_zero_gpu())
        self.models = LoadedModels()
        self.datasets = Datasets(root, public=public, readonly=readonly)
        self.comparisons = Works(Comparison, self.library.root, public=public)
        self.studies = Works(Study, self.library.root, public=public)
        self.checks = Works(DataReport, self.library.root, public=public)
        self.maps = Works(DataMap, self.library.root, public=public)
        self.reviews = Works(BeforeAfter, self.library.root, public=public)
        self.storage = Storage(self)
        self.speeds = SpeedFile(root)
        self._user_names: OrderedDict[str, str] = OrderedDict()
        self._gpu_seconds: OrderedDict[str, tuple[float, float | None]] = OrderedDict()  # token -> (when asked, left)
        self._flavours: list[Flavour] = []
        self._flavours_asked = 0.0
        self.slots = Slots()
        self._training_addresses: dict[Path, str] = {}  # of runs: the address that started them

    def require_writable(self) -> None:
        """Raises UserError in read-only mode. Called before anything is changed or started."""
        if self.readonly:
            raise UserError(
                "This app is read-only: you can view and try its runs, but not train, upload, push, rename or delete "
                "anything."
            )

    def writer(self, key: object) -> str | None:
        """The key of a visitor who is about to change or start something. Raises UserError where they may not."""
        self.require_writable()
        return visitors.require_key(key, public=self.public)

    def dataset_to_judge(self, name: object, key: str | None, *splits: str) -> tuple[DatasetRef, DatasetSummary]:
        """A dataset that a visitor names, if the app's limits allow for its images; `splits`: that count, without any
        all. Raises UserError.
        """
        ref = self.datasets.named(name, key)
        data = self.datasets.summary(ref)
        images = sum(sum(counts) for split, counts in data.counts.items() if split in (splits or data.counts))
        self.limits.check(TrainConfig(dataset=ref.name, epochs=1), images)
        return ref, data

    def classifier(self, name: str) -> "Classifier":
        """The run's model, loaded again only if its files change. Raises UserError if it cannot be loaded."""
        return self.models.get(self.library.open(name))

    # Ownership of runs

    def runs(self, key: str | None = None) -> list[Run]:
        """The runs visible to a visitor, newest first: on a public app the shipped ones and their own."""
        return [
            run
            for run in self.library.runs()
            if self._is_for_all(run) or any(visitors.owns(run.path / file, key) for file in (OWNER, GUESTS))
        ]

    def trained_names(self, key: str | None = None) -> list[str]:
        """The names of runs with weights."""
        return [run.name for run in self.runs(key) if run.has_weights]

    def finetuned_names(self, key: str | None = None) -> list[str]:
        """The names of runs created here."""
        return [run.name for run in self.runs(key) if run.name not in NOT_MADE_HERE]

    def own_run(self, name: str, key: str | None) -> Run:
        """A run to be changed. Raises UserError if it does not exist or the visitor may not change it."""
        self.require_writable()
        run = self.library.open(name)
        if name in NOT_MADE_HERE:
            raise UserError(f"{name} comes with the app and cannot be changed.")
        if self.public and not visitors.owns(run.path / OWNER, key):
            raise UserError(f"{name} is not yours: only its owner can stop, rename, delete or continue it.")
        return run

    def claim(self, owners: Path, key: str) -> None:
        """Record the visitor as an owner in the owners file. On a public app, the item then expires."""
        visitors.claim(owners, key)
        if self.public and not visitors.is_owner_of_all(key):
            owners.with_name(EXPIRES).touch()

    def start_work(self, works: Works[W], asked: W, key: str | None, *, size: int = 0) -> str:
        """Start work for a visitor within the app's limits, in a process of its own. Returns its name.

        `size`: bytes that it will store. Raises UserError; then nothing was started.
        """
        self.storage.room_for(size, f"The {asked.NOUN}")
        now = replace(
            asked,
            minutes=self.limits.minutes,
            busy=self.trainer.active() is not None,
            machine=machine_words(),
            created=round(time.time(), 1),
        )
        return works.start(now, lambda owners: self.claim(owners, key) if key else None)

    def new_path(self, kind: str) -> Path:
        """The path of a new run. On a public app, its name is unguessable."""
        return self.library.root / self.library.free_name(kind, secret=self.public)

    def named_path(self, name: str) -> Path:
        """For a new run of this name; on a public app nobody can guess the rest of it. Raises UserError."""
        require_name(name)
        if self.public:
            return self.new_path(name[:LONGEST_NAME])
        if name in NOT_MADE_HERE or (self.library.root / name).exists():
            raise UserError(f"A run named {name} already exists: choose another name.")
        return self.library.root / name

    def delete_run(self, name: str, key: str | None) -> None:
        """Delete a visitor's run; a shared one is only removed from their view. A queued run is removed from the queue
        first. Raises UserError.
        """
        run = self.own_run(name, key)
        if self.public and key and visitors.release(run.path / OWNER, key):
            return
        if self.trainer.status(run).state == "queued":
            self.trainer.stop(run)
        self.library.delete(run)

    def rename_run(self, name: str, key: str | None, new_name: str) -> Run:
        """Rename a visitor's run. Raises UserError, also for a name of something that comes with the app."""
        run = self.own_run(name, key)
        if new_name in NOT_MADE_HERE:
            raise UserError(f"{new_name} is the name of a run or weights that come with the app: choose another name.")
        return self.library.rename(run, new_name)

    def _is_for_all(self, run: Run) -> bool:
        return not self.public or self.readonly or run.name in NOT_MADE_HERE

    # Training slots

    def count_training(self, run: Run | None = None) -> None:
        """Count a training for the requesting address, which may have a third of all slots.

        Without a run that is now training or queued, this only checks whether one more is allowed. Raises UserError.
        """
        address, longest = visitors.asking(), self.limits.queue
        if longest is None or not address:
            return
        if run is not None:
            self._training_addresses[run.path] = address
            return
        own = {path for path, whose in self._training_addresses.items() if whose == address}
        busy = [other for other in self.library.runs() if other.path in own and (other.is_queued or other.is_training)]
        self._training_addresses = {path: whose for path, whose in self._training_addresses.items() if path.exists()}
        most = max((longest + 1) // 3, 1)
        if len(busy) >= most:
            raise UserError(
                f"{len(busy)} trainings from your address are running or queued: wait until one has finished."
            )

    # The Hub

    def pull(
        self,
        repo_id: str,
        key: str | None,
        *,
        revision: str | None = None,
        token: str | None = None,
        progress: Progress | None = None,
    ) -> Run:
        """Pull a Hub model as a run of the visitor. Raises HubError, UserError."""
        key = self.writer(key)
        before = {run.path for run in self.library.runs()}
        root, hidden = self.library.root, self.public
        run = pull_run(repo_id, revision=revision, token=token, root=root, progress=progress, hidden=hidden)
        marked = (run.path / OWNER).with_name(EXPIRES).exists()
        if key and self.public and run.path in before and not marked:
            visitors.claim(run.path / GUESTS, key)  # beside the owner, who stays
        elif key:
            self.claim(run.path / OWNER, key)
        return run

    def user_name(self, token: str | None) -> str | None:
        """The Hub user of the token, cached because the Hub allows few such requests. Raises HubError."""
        known = _fingerprint(token)
        name = self._user_names.get(known) or who_am_i(token)
        if name is not None:
            _remember(self._user_names, known, name)
        return name

    def free_gpu_seconds(self, token: str | None) -> float | None:
        """The rest of the account's ZeroGPU quota, asked for again after a while; None if it is not known."""
        known = _fingerprint(token)
        asked, left = self._gpu_seconds.get(known, (-math.inf, None))
        if time.monotonic() - asked > QUOTA_SECONDS:
            left = free_gpu_seconds(token)
            _remember(self._gpu_seconds, known, (time.monotonic(), left))
        return left

    def flavours(self, token: str | None = None) -> list[Flavour]:
        """The machines for jobs and their prices, refreshed from time to time. Raises HubError."""
        if not self._flavours or time.monotonic() - self._flavours_asked > PRICES_SECONDS:
            self._flavours, self._flavours_asked = list_flavours(token), time.monotonic()
        return self._flavours

    def start_job(self, run: Run, repo_id: str, flavour: str, minutes: int, *, token: str | None) -> None:
        """Train a run as a job at the expense of the token's owner, and follow it here. Raises HubError."""
        start_job(run, repo_id, flavour, minutes, token=token)
        self.follow_job(run, token)

    def follow_job(self, run: Run, token: str | None) -> None:
        """Follow a run's job. Meanwhile the token is kept in memory only."""
        job = job_of(run)
        if job is not None:
            follower = Follower(run, job, token)
            follower.start()
            follower.has_begun.wait(5)

    # Starts

    def start_names(self, key: str | None = None) -> list[str]:
        """The trained runs and Hub weights that a training can start from."""
        trained = self.trained_names(key)
        return [*trained, *(pretrained.name for pretrained in PRETRAINED if pretrained.name not in trained)]

    def start_model(self, name: str) -> ModelConfig:
        """The model of a start, before its weights are downloaded. Raises UserError if there is no such start."""
        if not (self.library.root / str(name)).is_dir() and is_pretrained(name):
            return pretrained_model(name)
        return self.library.open(name).config.model

    def start_run(self, name: str, progress: Callable[[int, int], None] | None = None) -> Run:
        """A start with its weights, downloaded if missing. Raises UserError."""
        if is_pretrained(name):
            self.require_writable()
            try:
                return pull_pretrained(name, self.library.root, progress=progress)
            except HubError as error:
                raise UserError(str(error)) from None
        return self.library.open(name)

    def start_background_work(self) -> None:
        """Start the background threads that advance the queue and follow jobs."""
        if self.trainer.spawns:
            threading.Thread(target=self.trainer.keep_advancing, name="queue", daemon=True).start()
        else:  # the pages that would have hosted the queued runs are gone
            in_background("Advancing the queue", self._empty_queue, AGAIN_SECONDS)
        if not self.public:  # with the login that is saved on this machine
            in_background("Following Hugging Face jobs", self._follow_jobs, AGAIN_SECONDS)

    def _empty_queue(self) -> bool:
        for run in self.trainer.queue():
            self.trainer.take(run)
        return True

    def _follow_jobs(self) -> bool:
        for run in self.library.runs():
            if run.is_job and self.trainer.status(run).cause == "job":
                self.follow_job(run, None)
        return True

    def default_name(self) -> str | None:
        """The run that is looked at before a visitor chose one; None where there is none."""
        return self._shipped_name(SHOWPIECE) or next(iter(self.trained_names()), None)

    def photo_name(self) -> str | None:
        """The run that answers photographs before a visitor chose one; None where it is not here."""
        return self._shipped_name(PHOTO_BACKBONE)

    def _shipped_name(self, name: str) -> str | None:
        with suppress(UserError):
            return name if self.library.open(name).has_weights else None
        return None

    def warm_up(self) -> bool:
        """Load the default model and torch in advance, so that the first visitor does not wait."""
        for name in filter(None, (self.default_name(), self.photo_name())):
            with suppress(UserError):  # a visitor who chooses a broken run gets the message
                self.classifier(name)
        return True


def _fingerprint(token: str | None) -> str:
    """Of a token, which itself is not kept."""
    return hashlib.sha256((token or "").encode()).hexdigest()


def _remember(known: "OrderedDict[str, Any]", key: str, value: Any) -> None:
    known[key] = value
    while len(known) > MAX_USERS:
        known.popitem(last=False)
