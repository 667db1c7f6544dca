"""`train(run)`: a plain generator of metrics that can stop and continue at any step; whoever iterates it hosts it."""

import math
import os
import time
from collections.abc import Generator, Iterator

from resnet_space.common.errors import UserError
from resnet_space.common.hardware import keep_freed_memory
from resnet_space.common.steps import Steps

# Read once, when torch first allocates: huge pages for large CPU tensors save the page faults of every step.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

import torch

from resnet_space.data.splits import ImageSet, Splits
from resnet_space.data.target import check_target
from resnet_space.explain.sanity import sanity_checks
from resnet_space.residuals.history import growth_entry, probe_images
from resnet_space.runs import (
    EVALUATION,
    Metric,
    Run,
    count_test_evaluations,
    is_tested,
    last_metric,
)
from resnet_space.training import distributed
from resnet_space.training.batches import first_stream, second_stream
from resnet_space.training.calibration import (
    calibrate_confidence,
    fit_images,
    fit_statistics,
    passed,
    sanity_metrics,
)
from resnet_space.training.device import autocast_dtype, choose_device, memory_in_use
from resnet_space.training.evaluation import evaluate_test
from resnet_space.training.evaluation import save as save_evaluation
from resnet_space.training.feature_store import FeatureStore
from resnet_space.training.features import unaugmented_batches
from resnet_space.training.objectives import Batch
from resnet_space.training.objectives.domain import require_pairs
from resnet_space.training.optim import set_training_mode
from resnet_space.training.probe import Probe
from resnet_space.training.progress import Teller
from resnet_space.training.run_images import check_untrained, splits_of
from resnet_space.training.state import Training, evaluate, require_enough

MAX_WARNING = 1_500  # characters of warnings about the data
MAX_LOSS_POINTS = 1_000  # of a run's loss curve; each is the mean over the steps since the last


class TrainingError(UserError):
    """Why a training cannot continue, in one sentence; the page proposes settings for a retry from its `cause`."""

    def __init__(self, message: str, cause: str) -> None:
        super().__init__(message)
        self.cause = cause


def train(
    run: Run, *, resume: bool = False, device: torch.device | None = None, splits: Splits | None = None
) -> Generator[Metric, None, None]:
    """Train a run as configured; yield each metric after it was written to `metrics.jsonl`.

    Between them come unwritten `{"event": "tick"}`s, one a step. Closing the generator at any of them keeps what is
    needed to continue from exactly that step with `resume=True`. After the last epoch, the best epoch's weights are
    evaluated on the test images, once; a training that was extended afterwards records the number of test evaluations.

    If a phase solves the head, the features of all images are computed once, in the loop; if only the head is trained,
    they also serve to test and to calibrate.

    Several processes (see `distributed`) iterate it together and stop at the same metric; only the first writes, and
    tests.

    Args:
        run: what to train.
        resume: continue an interrupted training.
        device: to train on; by default the best of this machine.
        splits: the run's images from `splits_of`, if already decoded.

    Raises:
        UserError: the run or its data cannot be used.
        TrainingError: the training cannot continue, for instance because the loss is no longer finite.
    """
    config, model_config = run.config.training, run.config.model
    device = distributed.device_for_all(device or choose_device())
    # What is faster is measured, and two processes might differ.
    dtype = torch.bfloat16 if distributed.agreed(autocast_dtype(config, device) is not None) else None
    check_untrained(run, resume)
    check_target(config)
    doing = Teller(run)
    splits = splits or distributed.decoded_once(
        run, lambda: splits_of(run, record=True, progress=doing.tell("decoding"))
    )
    require_enough(run.config, len(splits.train))
    keep_freed_memory()  # only now: what decoding took goes back
    train_set = splits.train.to(device)
    validation_set = distributed.own_images(splits.validation).to(device)
    if min(config.batch_size, len(train_set)) < distributed.count():
        raise UserError(f"The batch size is smaller than the number of processes, {distributed.count()}: increase it.")

    training = Training(run, device, len(train_set))
    second_set = training.objective.second_set()
    if second_set is not None:
        require_pairs(splits.train.labels, distributed.own_images(second_set).labels)
        second_set = second_set.to(device)
    tested_on = training.objective.target.test(model_config.classes) if config.target else None
    own_test = None if tested_on is None else distributed.own_images(tested_on[0]).to(device)
    evaluated = count_test_evaluations(run.metrics())  # before what was written after the last epoch is forgotten
    if resume:
        training.restore()
    watched = probe_images(splits.validation, model_config, len(train_set), device)
    grown: Metric = {}
    grown_in = 0  # the phase

    started = last_metric(run.metrics(), "start")
    if training.progress.epoch == training.progress.step == 0:
        training.save()  # whenever it is killed from now on, there is a state to go on from
    # New, or to go on for longer, or with something to tell.
    warning = " ".join((*splits.notes, *splits.warnings))[:MAX_WARNING]
    other = started is None or started["epochs"] != training.epochs or started.get("warning", "") != warning
    if distributed.agreed(other):
        metric = _start_metric(training, len(train_set), len(splits.validation), dtype)
        if config.start is not None and not training.progress.epoch:
            grown = growth_entry(training.model, watched)
            metric |= grown
        metric |= ({"test_evaluations": evaluated} if evaluated else {}) | ({"warning": warning} if warning else {})
        yield training.write(metric)
        if distributed.agreed(bool(evaluated)):
            training.save()  # or a training that is killed in its next epoch would forget them

    probe: Probe | None = None
    while not training.is_over:
        epoch, solved = training.progress.epoch, training.plan[training.phase].solved
        try:
            if solved:
                probe = Probe(training.model, model_config, splits, FeatureStore.beside(run.path.parent))
                extra = yield from _solve(training, probe, doing)
                validation_loss, accuracy = probe.judge(splits.validation)
                grown_in = 1 if grown else 0  # no block has changed since the start
            else:
                doing.tell("training")
                extra = Metric()
                yield from _steps(training, train_set, second_set, dtype)
                validation_loss, accuracy = training.validate(validation_set, dtype)
            _require_finite(validation_loss, epoch)
            only_head = solved or training.only_the_head_trains
            metric = training.end_epoch(validation_loss, accuracy) | extra
            if distributed.is_first():
                if not only_head or metric["phase"] != grown_in:  # else every block gives what it gave before
                    grown, grown_in = growth_entry(training.evaluated_model, watched), metric["phase"]
                metric |= grown
            if own_test is not None:  # for the reader alone: nothing is chosen by it
                on_target = evaluate(training.evaluated_model, own_test, model_config, dtype)[1]
                metric["target_accuracy"] = round(on_target, 5)
            training.write(metric)
            training.save()
            yield metric
        except GeneratorExit:
            if not solved:  # which starts from the beginning
                training.save()
            if distributed.is_first() and not run.has_weights:  # stopped in the first epoch: better than nothing
                run.save_weights(training.evaluated_model.state_dict())
            training.leave()
            raise

    first = distributed.is_first()
    training.leave()
    if not first:
        return
    only_solved = all(phase.solved for phase in training.plan)
    yield from _judge(training, splits, tested_on, probe if only_solved else None, doing, evaluated)


def _judge(
    training: Training,
    splits: Splits,
    target: tuple[ImageSet, str] | None,
    known: Probe | None,
    doing: Teller,
    evaluated: int,
) -> Generator[Metric, None, None]:
    """Test the best epoch's weights; then what nobody has to wait for: the feature statistics, and whether the maps
    depend on what was learned. What was done before an interruption is not done again.
    """
    run, config = training.run, training.run.config.model
    before = run.metrics()
    if not is_tested(before) and training.objective.finish(run, training.device):
        known = None  # of other weights
    if known is not None:
        model = training.model.eval()
    else:
        model = run.load_model().to(training.device, memory_format=torch.channels_last)  # pyrefly: ignore[no-matching-overload]
    doing.tell("testing")
    validation = known.passed(splits.validation) if known else passed(model, splits.validation, config)
    if not is_tested(before):
        run, metric = calibrate_confidence(run, validation)
        yield training.write(metric)
        logits = known.passed(splits.test).logits if known else None
        evaluation, summary = evaluate_test(model, splits.test, run.config.model, logits=logits)
        save_evaluation(evaluation, run.path / EVALUATION)
        rounded: Metric = {name: round(value, 5) for name, value in summary.items()}
        if evaluated:
            rounded["test_evaluations"] = evaluated + 1
        if target is not None:
            accuracy = round(evaluate(model, target[0], config)[1], 5)
            rounded |= {"target": target[1], "target_images": len(target[0]), "target_accuracy": accuracy}
        yield training.write({"event": "test", "split": splits.test_name, "images": len(splits.test), **rounded})
    doing.tell("calibrating")
    fit_statistics(
        run, known.passed(splits.train) if known else passed(model, fit_images(splits.train), config), validation
    )
    doing.tell("checking")
    checked = {check.method for check in sanity_checks(before)} if is_tested(before) else set()
    for metric in sanity_metrics(model, splits.validation, config, checked):
        yield training.write(metric)


def _solve(training: Training, probe: Probe, doing: Teller) -> Generator[Metric, None, Metric]:
    """Solve the head, an epoch of its own: a tick or a written metric now and then; what its "epoch" says besides."""
    steps, images = training.epoch_steps, len(probe.splits.train)
    tell = doing.tell("features")
    for done in probe.compute():
        tell(done, probe.images)
        yield {"event": "tick", "step": 0}
    doing.tell("solving")
    heads = Steps(probe.solve(training.config.label_smoothing))
    begun, reported = time.monotonic(), 0
    for share, head in heads:
        done = math.ceil(share * steps)
        rate = images * max(head.iterations, 1) / max(time.monotonic() - begun, 1e-3)
        begun = time.monotonic()
        if done > reported:
            reported = done
            metric: Metric = {"event": "step", "step": training.progress.epoch * steps + done, "rates": {}}
            metric |= {"loss": round(head.loss, 5), "images_per_second": round(rate, 1)}
            yield training.write(metric | {"memory": memory_in_use(training.device)})
    best = heads.result
    training.take_head(best, images)
    extra: Metric = {"penalty": best.penalty}
    if len(training.plan) > 1:  # the first number to go by, while the rest trains
        doing.tell("testing")
        extra |= {"test_accuracy": round(probe.judge(probe.splits.test)[1], 5), "test_images": len(probe.splits.test)}
    return extra


def _start_metric(training: Training, train_images: int, validation_images: int, dtype: torch.dtype | None) -> Metric:
    return {
        "event": "start",
        "time": round(time.time(), 1),
        "device": training.device.type,
        "precision": "float32" if dtype is None else "bfloat16",
        "parameters": sum(p.numel() for p in training.model.parameters()),
        "train_images": train_images,
        "validation_images": validation_images,
        "epochs": training.epochs,
        "steps_per_epoch": training.epoch_steps,
        "phases": [phase.to_json() for phase in training.plan],
    }


def _steps(training: Training, data: ImageSet, second: ImageSet | None, dtype: torch.dtype | None) -> Iterator[Metric]:
    """Train what is left of the epoch: a tick or a written metric of each step."""
    report_every = math.ceil(training.epoch_steps * training.epochs / MAX_LOSS_POINTS)
    set_training_mode(training.model)
    training.window.started = time.monotonic()
    epoch = training.progress.epoch
    for batch in _batches(training, data, second, dtype):
        rates = training.step(batch, dtype)
        done = epoch * training.epoch_steps + training.progress.step
        if done % report_every and training.progress.step < training.epoch_steps:
            yield {"event": "tick", "step": done}
            continue
        means = training.window.flush_into(training.progress)
        _require_finite(means.loss, epoch)
        yield training.write(
            {
                "event": "step",
                "step": done,
                "loss": round(means.loss, 5),
                **({"losses": means.parts} if means.parts else {}),
                **({"measures": means.measures} if means.measures else {}),
                "rates": {part: float(f"{rate:.4g}") for part, rate in rates.items()},
                "images_per_second": round(means.images_per_second, 1),
                "memory": memory_in_use(training.device),
            }
        )


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
        done = epoch * training.epoch_steps + step
        yield Batch(features, targets, other, done / (training.epochs * training.epoch_steps))
        step += 1


def _require_finite(loss: float, epoch: int) -> None:
    """Raises TrainingError for a loss that is NaN or infinite."""
    if not math.isfinite(loss):
        raise TrainingError(
            f"The loss became NaN or infinite in epoch {epoch + 1}: the learning rates are too high, try a tenth.",
            cause="loss",
        )
