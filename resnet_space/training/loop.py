"""Train a run: `train(run)`, and `host(run)` in a process of its own.

`train(run)` is a plain generator of metrics that can stop and continue at any step. Whoever iterates it is its host:
a process of its own, here (of the app, a shell, a remote job), or slices of GPU time, in `zero/`. What all hosts do
around it is `hosting`, and when they leave off is `how_to_stop`.
"""

import math
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from types import FrameType

from resnet_space.common.errors import UserError
from resnet_space.common.faults import words_of
from resnet_space.common.hardware import keep_freed_memory

# Read once, when torch first allocates: huge pages for large CPU tensors save the page faults of every step.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

import torch

from resnet_space.data.splits import ImageSet, Members, Splits, load_splits
from resnet_space.hub.card import write_card
from resnet_space.residuals.history import growth_entry, probe_images
from resnet_space.runs import (
    EVALUATION,
    MEMBERS,
    RESUME,
    STATE,
    Metric,
    Run,
    count_test_evaluations,
    last_metric,
    replaced_atomically,
)
from resnet_space.training import distributed
from resnet_space.training.batches import first_stream, second_stream
from resnet_space.training.calibration import calibrate
from resnet_space.training.evaluation import evaluate_test
from resnet_space.training.evaluation import save as save_evaluation
from resnet_space.training.features import unaugmented_batches
from resnet_space.training.objectives import Batch
from resnet_space.training.optim import set_training_mode
from resnet_space.training.state import (
    Training,
    autocast_dtype,
    choose_device,
    memory_in_use,
    require_enough,
)

MOST_OF_A_REASON = 1_000  # characters; some libraries tell a page
MAX_WARNING = 1_500  # characters of what is to be told of the data
MAX_LOSS_POINTS = 1_000  # of a run's loss curve; each is the mean over the steps since the last


class TrainingError(UserError):
    """Why a training cannot go on, in one sentence; `cause` is what a new try should change, as in `process.Status`."""

    def __init__(self, message: str, cause: str = "") -> None:
        super().__init__(message)
        self.cause = cause


def train(
    run: Run, *, resume: bool = False, device: torch.device | None = None, splits: Splits | None = None
) -> Generator[Metric, None, None]:
    """Train what the run's configuration says; yield each metric after it was written to `metrics.jsonl`.

    Between them come unwritten `{"event": "tick"}`s, one a step. Closing the generator at any of them keeps what is
    needed to go on from that very step with `resume=True`. After the last epoch the best epoch's weights are judged on
    the test images, once; a training that was made longer after that says how often they were looked at.

    Several processes (see `distributed`) iterate it together and stop at the same metric; only the first writes, and
    tests.

    Args:
        run: what to train.
        resume: go on where an earlier training of it ended.
        device: to train on; the best of this machine where it is left out.
        splits: the run's images, as `splits_of` gives them, where they are decoded already.

    Raises:
        UserError: the run or its data cannot be used.
        TrainingError: the training cannot go on, for instance because the loss is no longer finite.
    """
    config, model_config = run.config.training, run.config.model
    device = distributed.device_for_all(device or choose_device())
    # What is faster is measured, and two processes might differ.
    dtype = torch.bfloat16 if distributed.agreed(autocast_dtype(config, device) is not None) else None
    check_untrained(run, resume)
    splits = splits or distributed.decoded_once(run, lambda: splits_of(run, keep=True))
    require_enough(run.config, len(splits.train))
    keep_freed_memory()  # only now: what decoding took goes back
    train_set = splits.train.to(device)
    validation_set = distributed.own_images(splits.validation).to(device)
    if min(config.batch_size, len(train_set)) < distributed.count():
        raise TrainingError(
            f"A batch has fewer images than there are processes, {distributed.count()}: make the batch size larger."
        )

    training = Training(run, device, len(train_set))
    second_set = training.objective.second_set()
    second_set = None if second_set is None else second_set.to(device)
    evaluated = count_test_evaluations(run.metrics())  # before what was written after the last epoch is forgotten
    if resume:
        training.restore()
    epoch_steps = training.epoch_steps
    watched = probe_images(splits.validation, model_config, len(train_set), device)
    grown: Metric = {}
    grown_in = 0  # the phase
    report_every = math.ceil(epoch_steps * config.total_epochs / MAX_LOSS_POINTS)

    started = last_metric(run.metrics(), "start")
    if training.progress.epoch == training.progress.step == 0:
        training.save()  # whenever it is killed from now on, there is a state to go on from
    # New, or to go on for longer, or with something to tell.
    warning = " ".join(splits.warnings)[:MAX_WARNING]
    other = started is None or started["epochs"] != config.total_epochs or started.get("warning", "") != warning
    if distributed.agreed(other):
        yield training.write(
            {
                "event": "start",
                "time": round(time.time(), 1),
                "device": device.type,
                "precision": "float32" if dtype is None else "bfloat16",
                "parameters": sum(p.numel() for p in training.model.parameters()),
                "train_images": len(train_set),
                "validation_images": len(splits.validation),
                "epochs": config.total_epochs,
                "steps_per_epoch": epoch_steps,
                "phases": [asdict(phase) for phase in training.plan],
                **({} if config.start is None or training.progress.epoch else growth_entry(training.model, watched)),
            }
            | ({"test_evaluations": evaluated} if evaluated else {})
            | ({"warning": warning} if warning else {})
        )
        if distributed.agreed(bool(evaluated)):
            training.save()  # or a training that is killed in its next epoch would forget them

    while not training.is_over:
        try:
            set_training_mode(training.model)
            training.window.started = time.monotonic()
            epoch = training.progress.epoch
            for batch in _batches(training, train_set, second_set, dtype):
                rates = training.step(batch, dtype)
                done = epoch * epoch_steps + training.progress.step
                if done % report_every and training.progress.step < epoch_steps:
                    yield {"event": "tick", "step": done}
                    continue
                means = training.window.flush_into(training.progress)
                _require_finite(means.loss, epoch)
                parts = {name: round(value, 5) for name, value in means.parts.items()}
                yield training.write(
                    {
                        "event": "step",
                        "step": done,
                        "loss": round(means.loss, 5),
                        **({"losses": parts} if parts else {}),
                        "rates": {part: float(f"{rate:.4g}") for part, rate in rates.items()},
                        "images_per_second": round(means.images_per_second, 1),
                        "memory": memory_in_use(device),
                    }
                )
            validation_loss, accuracy = training.validate(validation_set, dtype)
            _require_finite(validation_loss, epoch)
            only_head = training.only_the_head_trains
            metric = training.end_epoch(validation_loss, accuracy)
            if distributed.is_first():
                if not only_head or metric["phase"] != grown_in:  # else every block gives what it gave before
                    grown, grown_in = growth_entry(training.kept_model, watched), metric["phase"]
                metric |= grown
            training.write(metric)
            training.save()
            yield metric
        except GeneratorExit:
            training.save()
            if distributed.is_first() and not run.has_weights:  # stopped in the first epoch: better than nothing
                run.save_weights(training.kept_model.state_dict())
            training.leave()
            raise

    first = distributed.is_first()
    training.leave()
    if not first:
        return
    best_model = run.load_model().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    run, fitted = calibrate(run, best_model, splits)
    for metric in fitted:
        yield training.write(metric)
    evaluation, summary = evaluate_test(best_model, splits.test, run.config.model)
    save_evaluation(evaluation, run.path / EVALUATION)
    rounded = {name: round(value, 5) for name, value in summary.items()}
    if evaluated:
        rounded["test_evaluations"] = evaluated + 1
    yield training.write({"event": "test", "split": splits.test_name, "images": len(splits.test), **rounded})


def _batches(training: Training, data: ImageSet, second: ImageSet | None, dtype: torch.dtype | None) -> Iterator[Batch]:
    """What is left of the epoch, as `Training.step` takes it."""
    epoch, step, device = training.progress.epoch, training.progress.step, training.device
    known = training.known_features(data, dtype)
    if known is not None:
        first = unaugmented_batches(known, training.config, epoch, step)
    else:
        images_first = first_stream(training.objective, data, epoch, step, device)
        first = ((training.features(images, dtype), targets) for images, targets in images_first)
    beside = second_stream(training.objective, second, epoch * training.epoch_steps + step, device)
    for (features, targets), other in zip(first, beside, strict=False):  # the second is endless
        if other is not None:
            other = other._replace(inputs=training.features(other.inputs, dtype))
        yield Batch(features, targets, other)


def _require_finite(loss: float, epoch: int) -> None:
    """Raises TrainingError for a loss that is no number any more: nothing is learned from there on."""
    if not math.isfinite(loss):
        raise TrainingError(
            f"The loss is no longer a number in epoch {epoch + 1}: the learning rates are too high, "
            "try a tenth of them.",
            cause="loss",
        )


def splits_of(run: Run, *, keep: bool = False) -> Splits:
    """The decoded images that a run is trained with; of one that goes on, those that it began with.

    Args:
        run: to be trained, or trained.
        keep: note which pictures these are, where that was not done before, for when it goes on.

    Raises:
        UserError: for data that cannot be read, or lacks a picture that the training began with.
        UserError: for data with other classes.
    """
    model = run.config.model
    members = Members.load(run.path / MEMBERS) if (run.path / STATE).exists() else None
    splits = load_splits(
        run.config.training, model.stored_size, classes=model.classes, members=members, folder=run.path / RESUME
    )
    if splits.train.classes != model.classes:
        raise UserError(f"The classes of {run.name} are not those of the data set {run.config.training.dataset}.")
    if keep and members is None and (members := Members.of(splits)) is not None:
        with replaced_atomically(run.path / MEMBERS) as file:
            members.save(file)
    return splits


def check_untrained(run: Run, resume: bool) -> None:
    """Refuse to train over what is there already. Raises UserError."""
    has_state = (run.path / STATE).exists()
    if resume and run.has_weights and not has_state:
        raise UserError(f"{run.name} cannot go on: its {STATE} is not on this machine.")
    if not resume and (run.has_weights or has_state or run.metrics()):
        raise UserError(f"{run.name} has been trained already: go on with --resume, or make a new run.")


@contextmanager
def hosting(run: Run) -> Iterator[Metric]:
    """What every host does around a training: hold the run's lock; at the end write its card, and how it ended.

    Gives the "end" metric, "finished", for the host to note in it where it ends otherwise. An error within the `with`
    makes it "failed", and goes no further.

    Raises:
        UserError: if the run is being trained already.
    """
    end: Metric = {"event": "end", "status": "finished"}
    with run.training_lock():
        try:
            yield end
            if run.has_weights:
                _write_card(run)
        except Exception as error:
            end |= failure(error)
        with suppress(OSError):  # only now: one that came while this host was starting counts too
            run.withdraw_stop()
        with suppress(OSError):  # a full disk: the exit status and the log still tell
            run.append_metric(end | {"time": round(time.time(), 1)})


def _write_card(run: Run) -> None:
    """A card that cannot be written ends no training, which would then be tested once more: a push makes its own."""
    try:
        write_card(run)
    except (OSError, MemoryError) as error:
        with suppress(OSError):
            print(f"The model card could not be written: {words_of(error)}", flush=True)


@contextmanager
def _accompanying() -> Iterator[Metric]:
    """What the hosts of all processes but the first do instead: leave word of how they failed."""
    end: Metric = {"status": "finished"}
    try:
        yield end
    except Exception as error:
        if distributed.reason_of_others(error) is None:
            distributed.leave_reason(_told(error))
        end |= failure(error)


def how_to_stop(run: Run, metric: Metric, minutes: int | None) -> Metric | None:
    """What the "end" metric says if the training stops at this metric: it was asked to, or its time is over; or None.

    Args:
        run: that trains.
        metric: that `train` gave.
        minutes: of training that a run may have; None is any number.
    """
    if metric["event"] in ("calibration", "sanity", "test"):
        return None  # after the last step nothing is left to stop
    if run.stop_requested():
        return {"status": "stopped"}
    if minutes is not None and metric.get("seconds", 0) >= 60 * minutes:
        return {"status": "stopped", "reason": f"It reached the limit of {minutes} minutes here."}
    return None


def host(
    run: Run,
    *,
    resume: bool = False,
    minutes: int | None = None,
    tell: Callable[[Metric], None] | None = None,
) -> int:
    """Train a run to its end in this process, obeying stop requests and signals; write how it ended.

    Args:
        run: what to train.
        resume: go on where an earlier training of it ended.
        minutes: of training that the run may have; None is any number.
        tell: called with each metric that was written; without it all but those of single steps are printed.

    Returns:
        The process's exit status: 0 for finished or stopped, 1 for failed.
    """
    signalled = False

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        nonlocal signalled
        signalled = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)

    # The first process writes what there is to write; the others only keep step with it.
    first = distributed.is_first()
    with hosting(run) if first else _accompanying() as end, closing(train(run, resume=resume)) as metrics:
        for metric in metrics:
            if metric["event"] != "tick" and first:
                (tell or _print)(metric)
            stopped = how_to_stop(run, metric, minutes)
            if signalled and metric["event"] != "test":
                stopped = {"status": "stopped"}
            if distributed.agreed(stopped is not None):
                end |= stopped or {"status": "stopped"}
                break
    if end["status"] == "failed":
        with suppress(OSError):
            print(end["reason"], file=sys.stderr)
    return int(end["status"] == "failed")


def _print(metric: Metric) -> None:
    if metric["event"] == "step":
        return
    with suppress(OSError):  # a log on a full disk is no reason to end
        print(" ".join(f"{name}={value}" for name, value in metric.items() if name != "residuals"), flush=True)


def failure(error: Exception) -> Metric:
    """What the "end" metric says of a training that an error has ended; an unforeseen one is printed in full."""
    if distributed.reason_of_others(error) is None and not isinstance(error, UserError):
        traceback.print_exception(error)
    return {"status": "failed", **_told(error)}


def _told(error: Exception) -> dict[str, str]:
    """Why a training failed, in one sentence, and where it helps, what a new try should change."""
    others = distributed.reason_of_others(error)
    if others is not None:
        return others
    if isinstance(error, TrainingError):
        return {"reason": str(error), "cause": error.cause}
    if isinstance(error, UserError):
        return {"reason": str(error)}
    out_of_memory = isinstance(error, torch.OutOfMemoryError | MemoryError)
    if out_of_memory or "can't allocate memory" in str(error):  # which is what torch says of the CPU's
        device = "GPU" if isinstance(error, torch.OutOfMemoryError) else "machine"
        return {"reason": f"The {device} ran out of memory: halve the batch size.", "cause": "memory"}
    if isinstance(error, OSError):
        return {"reason": words_of(error)}
    return {"reason": f"Something unforeseen happened: {type(error).__name__}: {error}"[:MOST_OF_A_REASON]}
