"""Train a run: `python -m resnet_space.train RUN_DIR [--resume]`.

`train(run)` is a plain generator of metrics that can stop and continue at any step. Whoever iterates it is its host:
the child process of the app, a shell, a remote job, a slice of GPU time.
"""

import argparse
import math
import os
import signal
import sys
import time
import traceback
from collections.abc import Generator
from contextlib import closing
from dataclasses import asdict, dataclass
from types import FrameType

# Read once, when torch first allocates: huge pages for large CPU tensors save the page faults of every step.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from resnet_space.card import write_card
from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.data.batches import evaluation_batches, mixed, steps_per_epoch, training_batches
from resnet_space.data.sources import DataError
from resnet_space.data.splits import ImageSet, load_splits
from resnet_space.models import ResNet, model_from_config
from resnet_space.optim import (
    create_optimizer,
    create_schedule,
    current_rates,
    freeze_all_but,
    moving_average,
    set_training_mode,
)
from resnet_space.runs import METRICS, START_WEIGHTS, STATE, Metric, Run, RunError, replaced_atomically
from resnet_space.strategies import phase_at, plan

MAX_LOSS_POINTS = 1_000  # of a run's loss curve; each is the mean over the steps since the last


class TrainingError(Exception):
    """Why a training cannot go on, in one sentence."""


@dataclass
class Progress:
    """Where a training stands; saved and restored with the weights."""

    epoch: int = 0  # complete epochs
    step: int = 0  # complete steps of the current epoch
    best_accuracy: float = -1.0  # on the validation images
    epochs_since_best: int = 0  # in the last phase
    loss_sum: float = 0.0  # over this epoch's training images so far
    correct: int = 0
    images: int = 0
    seconds: float = 0.0  # of training in all sessions


class Window:
    """Sums over the steps since the last report, kept on the device so that not every step waits for it."""

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(3, dtype=torch.float64, device="cpu" if device.type == "mps" else device)
        self.started = time.monotonic()

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        correct = (logits.argmax(1) == labels).sum()
        step = torch.stack([loss.detach() * len(labels), correct, correct.new_tensor(len(labels))])
        self.sums += step.to(self.sums)

    def flush_into(self, progress: Progress) -> tuple[float, float]:
        """Add the sums to the epoch's and start anew: (mean loss, images/s) of the window."""
        loss_sum, correct, images = self.sums.tolist()
        progress.loss_sum += loss_sum
        progress.correct += round(correct)
        progress.images += round(images)
        now = time.monotonic()
        rate = images / max(now - self.started, 1e-9)
        self.sums.zero_()
        self.started = now
        return loss_sum / max(images, 1), rate


def choose_device() -> torch.device:
    """A CUDA GPU, an Apple GPU, or the CPU, in this order."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def autocast_dtype(training: TrainConfig, device: torch.device) -> torch.dtype | None:
    """bfloat16 or None for plain float32. "auto" takes bfloat16 where the hardware computes in it."""
    if training.precision != "auto":
        return torch.bfloat16 if training.precision == "bfloat16" else None
    if device.type == "cuda":
        supported = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        # Without the instructions oneDNN emulates bfloat16, which is slower than float32.
        supported = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    else:
        supported = False
    return torch.bfloat16 if supported else None


def initial_model(run: Run) -> tuple[ResNet, bool]:
    """The model to start from, and whether its CBAM is new to weights that have none.

    It is random, or has the start's weights, with a random head where `Run.create` left its out.

    Raises:
        RunError: if the start's weights do not fit the configured architecture.
    """
    return model_with(run.config, None if run.config.training.start is None else run.load_weights(START_WEIGHTS))


def model_with(config: RunConfig, weights: dict[str, Tensor] | None) -> tuple[ResNet, bool]:
    """The configured model with these weights, or random ones; where they lack a head or CBAM it is random.

    Returns:
        The model, and whether its CBAM is new to weights that have none. Raises as `initial_model`.
    """
    torch.manual_seed(config.training.seed)
    model = model_from_config(config.model)
    if weights is None:
        return model, False
    new_cbam = config.model.cbam is not None and not any("cbam" in name for name in weights)
    new = tuple(["fc."] + ["cbam"] * new_cbam)
    random = {name: value for name, value in model.state_dict().items() if any(part in name for part in new)}
    try:
        model.load_state_dict(random | weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise RunError(f"The weights of {config.training.start} do not fit the configuration: {reason}") from None
    return model, new_cbam


@torch.inference_mode()
def evaluate(
    model: nn.Module, data: ImageSet, config: ModelConfig, dtype: torch.dtype | None = None
) -> tuple[float, float]:
    """(mean cross-entropy in nats, share of correct top-1 predictions) of a model, which is left in eval mode."""
    model.eval()
    device = next(model.parameters()).device
    loss = torch.zeros((), device=device)
    correct = torch.zeros((), dtype=torch.int64, device=device)
    for images, labels in evaluation_batches(data, config, device=device):
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            logits = model(images)
        loss += F.cross_entropy(logits.float(), labels, reduction="sum")
        correct += (logits.argmax(1) == labels).sum()
    return loss.item() / len(data), int(correct) / len(data)


class Training:
    """Everything of a training that changes, so that it can be saved at any step and taken up again."""

    def __init__(self, run: Run, device: torch.device, train_images: int) -> None:
        self.run = run
        self.config = run.config.training
        self.device = device
        model, new_cbam = initial_model(run)
        self.model: ResNet = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = moving_average(self.model, self.config.ema) if self.config.ema else None
        self.plan = plan(self.config, run.config.model, new_cbam=new_cbam)
        self.epoch_steps = steps_per_epoch(train_images, self.config.batch_size)
        self.progress = Progress()
        self.window = Window(device)
        self.started = time.monotonic()
        self.enter_phase()

    def enter_phase(self) -> None:
        """Freeze what the current epoch's phase freezes; a new optimizer and schedule for the rest."""
        self.phase, self.phase_start = phase_at(self.plan, self.progress.epoch)
        phase = self.plan[self.phase]
        freeze_all_but(self.model, phase.rates)
        self.optimizer = create_optimizer(self.model, phase, self.config)
        self.schedule = create_schedule(self.optimizer, self.config, phase.epochs * self.epoch_steps)

    @property
    def kept_model(self) -> ResNet:
        """Whose weights are judged and saved."""
        if self.average is None:
            return self.model
        assert isinstance(self.average.module, ResNet)
        return self.average.module

    @property
    def in_last_phase(self) -> bool:
        return self.phase == len(self.plan) - 1

    def step(self, images: Tensor, targets: Tensor, dtype: torch.dtype | None) -> dict[str, float]:
        """Learn from one batch; targets are labels [n] or shares of all classes [n, C]. Returns the rates used."""
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            logits = self.model(images)
            loss = F.cross_entropy(logits, targets, label_smoothing=self.config.label_smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.config.clip_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        rates = current_rates(self.optimizer)
        self.optimizer.step()
        if not isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        self.window.add(loss, logits, targets if targets.ndim == 1 else targets.argmax(1))
        self.progress.step += 1
        return rates

    def end_epoch(self, validation_loss: float, validation_accuracy: float) -> Metric:
        """Keep the weights if they are the best so far; go on to the next epoch, and phase."""
        done = self.progress
        best = validation_accuracy > done.best_accuracy
        if best:
            self.run.save_weights(self.kept_model.state_dict())
        if isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step(validation_loss)
        metric = {
            "event": "epoch",
            "epoch": done.epoch + 1,
            "step": (done.epoch + 1) * self.epoch_steps,
            "phase": self.phase + 1,
            "train_loss": round(done.loss_sum / done.images, 5),
            "train_accuracy": round(done.correct / done.images, 5),
            "validation_loss": round(validation_loss, 5),
            "validation_accuracy": round(validation_accuracy, 5),
            "best": best,
        }
        patient = not self.in_last_phase or done.epoch == self.phase_start
        self.progress = Progress(
            epoch=done.epoch + 1,
            best_accuracy=max(validation_accuracy, done.best_accuracy),
            epochs_since_best=0 if best or patient else done.epochs_since_best + 1,
        )
        if self.progress.epoch < self.config.epochs and phase_at(self.plan, self.progress.epoch)[0] != self.phase:
            self.enter_phase()
        return metric

    @property
    def is_over(self) -> bool:
        gave_up = 0 < self.config.patience <= self.progress.epochs_since_best
        return gave_up or self.progress.epoch >= self.config.epochs

    def write(self, metric: Metric) -> Metric:
        metric["seconds"] = round(time.monotonic() - self.started, 2)
        self.run.append_metric(metric)
        return metric

    def save(self) -> None:
        self.window.flush_into(self.progress)
        self.progress.seconds = time.monotonic() - self.started
        metrics = self.run.path / METRICS
        state = {
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "progress": asdict(self.progress),
            "metrics_bytes": metrics.stat().st_size if metrics.exists() else 0,
        }
        with replaced_atomically(self.run.path / STATE) as file:
            torch.save(state, file)

    def restore(self) -> None:
        """Take up the saved state, if there is one, and forget the metrics written after it."""
        metrics = self.run.path / METRICS
        if not (self.run.path / STATE).exists():
            metrics.unlink(missing_ok=True)
            return
        state = torch.load(self.run.path / STATE, map_location=self.device, weights_only=True)
        self.progress = Progress(**state["progress"])
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if not self.is_over:
            self.enter_phase()
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
        if metrics.exists():
            os.truncate(metrics, state["metrics_bytes"])
        self.started = time.monotonic() - self.progress.seconds


def train(run: Run, *, resume: bool = False) -> Generator[Metric, None, None]:
    """Train what the run's configuration says; yield each metric after it was written to `metrics.jsonl`.

    Between them come unwritten `{"event": "tick"}`s, one a step. Closing the generator at any of them keeps what is
    needed to go on from that very step with `resume=True`. After the last epoch the best epoch's weights are judged on
    the test images, once.

    Raises:
        RunError, DataError: the run or its data cannot be used.
        TrainingError: the training cannot go on, for instance because the loss is no longer finite.
    """
    config, model_config = run.config.training, run.config.model
    device = choose_device()
    dtype = autocast_dtype(config, device)
    _check_untrained(run, resume)
    splits = load_splits(config, model_config.stored_size)
    if splits.train.classes != model_config.classes:
        raise RunError(f"The classes of {run.name} are not those of the data set {config.dataset}.")
    train_set, validation_set = splits.train.to(device), splits.validation.to(device)

    training = Training(run, device, len(train_set))
    if resume:
        training.restore()
    epoch_steps = training.epoch_steps
    report_every = math.ceil(epoch_steps * config.epochs / MAX_LOSS_POINTS)

    if training.progress.epoch == training.progress.step == 0:
        training.save()  # whenever it is killed from now on, there is a state to go on from
        yield training.write(
            {
                "event": "start",
                "time": round(time.time(), 1),
                "device": device.type,
                "precision": "float32" if dtype is None else "bfloat16",
                "parameters": sum(p.numel() for p in training.model.parameters()),
                "train_images": len(train_set),
                "validation_images": len(validation_set),
                "epochs": config.epochs,
                "steps_per_epoch": epoch_steps,
                "phases": [asdict(phase) for phase in training.plan],
            }
        )

    while not training.is_over:
        try:
            set_training_mode(training.model)
            training.window.started = time.monotonic()
            epoch, step = training.progress.epoch, training.progress.step
            for images, labels in training_batches(train_set, model_config, config, epoch, step, device):
                if config.mixup or config.cutmix:
                    key = (epoch, training.progress.step)
                    images, labels = mixed(images, labels, len(model_config.classes), config, *key)
                rates = training.step(images, labels, dtype)
                done = epoch * epoch_steps + training.progress.step
                if done % report_every and training.progress.step < epoch_steps:
                    yield {"event": "tick", "step": done}
                    continue
                mean_loss, speed = training.window.flush_into(training.progress)
                if not math.isfinite(mean_loss):
                    raise TrainingError(
                        f"The loss is no longer a number in epoch {epoch + 1}: "
                        "the learning rates are too high, try a tenth of them."
                    )
                yield training.write(
                    {
                        "event": "step",
                        "step": done,
                        "loss": round(mean_loss, 5),
                        "rates": {part: float(f"{rate:.4g}") for part, rate in rates.items()},
                        "images_per_second": round(speed, 1),
                    }
                )
            metric = training.end_epoch(*evaluate(training.kept_model, validation_set, model_config, dtype))
            training.write(metric)
            training.save()
            yield metric
        except GeneratorExit:
            training.save()
            if not run.has_weights:  # stopped in the first epoch: better than nothing
                run.save_weights(training.kept_model.state_dict())
            raise

    best_model = run.load_model().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    test_loss, test_accuracy = evaluate(best_model, splits.test, model_config)
    yield training.write(
        {
            "event": "test",
            "split": splits.test_name,
            "images": len(splits.test),
            "loss": round(test_loss, 5),
            "accuracy": round(test_accuracy, 5),
        }
    )


def _check_untrained(run: Run, resume: bool) -> None:
    """Refuse to train over what is there already."""
    has_state = (run.path / STATE).exists()
    if resume and run.has_weights and not has_state:
        raise RunError(f"{run.name} cannot go on: its {STATE} is not on this machine.")
    if not resume and (run.has_weights or has_state or run.metrics()):
        raise RunError(f"{run.name} has been trained already: go on with --resume, or make a new run.")


def host(run: Run, *, resume: bool = False) -> int:
    """Train a run to its end in this process, obeying stop requests and signals; write how it ended.

    Returns:
        The process's exit status: 0 for finished or stopped, 1 for failed.
    """
    signalled = False

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        nonlocal signalled
        signalled = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)

    end: Metric = {"event": "end", "status": "finished"}
    with run.training_lock():
        try:
            with closing(train(run, resume=resume)) as metrics:
                for metric in metrics:
                    if metric["event"] != "tick" and metric["event"] != "step":
                        print(" ".join(f"{name}={value}" for name, value in metric.items()), flush=True)
                    if (signalled or run.stop_requested()) and metric["event"] != "test":
                        end["status"] = "stopped"
                        break
            if run.has_weights:
                write_card(run)
        except (RunError, DataError, TrainingError) as error:
            end |= {"status": "failed", "reason": str(error)}
        except torch.OutOfMemoryError:
            end |= {
                "status": "failed",
                "reason": f"The {choose_device().type} ran out of memory: halve the batch size.",
            }
        except Exception as error:
            traceback.print_exc()
            end |= {"status": "failed", "reason": f"{type(error).__name__}: {error}"}
        run.withdraw_stop()  # only now: one that came while this process was starting counts too
        run.append_metric(end | {"time": round(time.time(), 1)})
    if end["status"] == "failed":
        print(end["reason"], file=sys.stderr)
    return int(end["status"] == "failed")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m resnet_space.train", description="Train a run.")
    parser.add_argument("run", metavar="RUN_DIR", help="the run's folder, with a config.json")
    parser.add_argument("--resume", action="store_true", help="go on where an earlier training of it ended")
    arguments = parser.parse_args()
    try:
        return host(Run.open(arguments.run), resume=arguments.resume)
    except RunError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
