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
from typing import Any

# Read once, when torch first allocates: huge pages for large CPU tensors save the page faults of every step.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_space.card import write_card
from resnet_space.config import ModelConfig, TrainConfig
from resnet_space.data.batches import evaluation_batches, steps_per_epoch, training_batches
from resnet_space.data.sources import DataError
from resnet_space.data.splits import ImageSet, load_splits
from resnet_space.models import ResNet, model_from_config
from resnet_space.runs import METRICS, START_WEIGHTS, STATE, Metric, Run, RunError, replaced_atomically

MAX_LOSS_POINTS = 1_000  # of a run's loss curve; each is the mean over the steps since the last

# CBAM's learning rates as shares of the backbone's. A spatial gate sums 2 x 7 x 7 inputs that are never negative, so
# its weights all pull one way: at the backbone's rate the gates of a network with random weights close for good within
# 30 steps (the loss stays at ln 10); at 1/98 of it they learn.
CHANNEL_ATTENTION_RATE = 0.1
SPATIAL_ATTENTION_RATE = 0.01


class TrainingError(Exception):
    """Why a training cannot go on, in one sentence."""


@dataclass
class Progress:
    """Where a training stands; saved and restored with the weights."""

    epoch: int = 0  # complete epochs
    step: int = 0  # complete steps of the current epoch
    best_accuracy: float = -1.0  # on the validation images
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


def rate_at(step: int, total_steps: int, warmup: float) -> float:
    """The share of the peak learning rate at a step: linear rise, half a cosine to zero (Loshchilov 2017)."""
    rise = warmup * total_steps
    if step < rise:
        return (step + 1) / (math.ceil(rise) + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(total_steps - rise, 1)))


def parameter_groups(model: ResNet, training: TrainConfig) -> list[dict[str, Any]]:
    """Each part of the model with its own rate; no weight decay on norm layers and biases (fewer than 2 axes)."""
    rates = {
        "backbone": training.backbone_lr,
        "head": training.head_lr,
        "channel attention": training.backbone_lr * CHANNEL_ATTENTION_RATE,
        "spatial attention": training.backbone_lr * SPATIAL_ATTENTION_RATE,
    }
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {
        (part, decay): [] for part in rates for decay in (True, False)
    }
    for name, parameter in model.named_parameters():
        part = "head" if name.startswith("fc.") else "backbone"
        if "cbam" in name:
            part = "spatial attention" if ".spatial." in name else "channel attention"
        groups[part, parameter.ndim > 1].append(parameter)
    return [
        {"name": part, "params": parameters, "lr": rates[part], "weight_decay": training.weight_decay if decay else 0.0}
        for (part, decay), parameters in groups.items()
        if parameters
    ]


def initial_model(run: Run) -> ResNet:
    """The model to start from: random, or the start's weights, with a random head where `Run.create` left its out.

    Raises:
        RunError: if the start's weights do not fit the configured architecture.
    """
    torch.manual_seed(run.config.training.seed)
    model = model_from_config(run.config.model)
    if run.config.training.start is None:
        return model
    head = {name: value for name, value in model.state_dict().items() if name.startswith("fc.")}
    try:
        model.load_state_dict(head | run.load_weights(START_WEIGHTS))
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise RunError(f"The weights of {run.config.training.start} do not fit the configuration: {reason}") from None
    return model


@torch.inference_mode()
def evaluate(
    model: nn.Module, data: ImageSet, config: ModelConfig, dtype: torch.dtype | None = None
) -> tuple[float, float]:
    """(mean cross-entropy in nats, share of correct top-1 predictions) of a model in its eval mode."""
    was_training = model.training
    model.eval()
    loss = torch.zeros((), device=data.images.device)
    correct = torch.zeros((), dtype=torch.int64, device=data.images.device)
    for images, labels in evaluation_batches(data, config):
        with torch.autocast(images.device.type, dtype, enabled=dtype is not None):
            logits = model(images)
        loss += F.cross_entropy(logits.float(), labels, reduction="sum")
        correct += (logits.argmax(1) == labels).sum()
    model.train(was_training)
    return loss.item() / len(data), int(correct) / len(data)


def train(run: Run, *, resume: bool = False) -> Generator[Metric, None, None]:
    """Train what the run's configuration says; yield each metric after it was written to `metrics.jsonl`.

    Between them come unwritten `{"event": "tick"}`s, one a step. Closing the generator at any of them keeps what is
    needed to go on from that very step with `resume=True`. After the last epoch the best epoch's weights are judged on
    the test images, once.

    Raises:
        RunError, DataError: the run or its data cannot be used.
        TrainingError: the training cannot go on, for instance because the loss is no longer finite.
    """
    config = run.config.training
    device = choose_device()
    dtype = autocast_dtype(config, device)
    _check_untrained(run, resume)
    splits = load_splits(config, run.config.model.image_size)
    if splits.train.classes != run.config.model.classes:
        raise RunError(f"The classes of {run.name} are not those of the data set {config.dataset}.")
    train_set, validation_set = splits.train.to(device), splits.validation.to(device)

    model = initial_model(run).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(
        parameter_groups(model, config), lr=config.backbone_lr, momentum=config.momentum, nesterov=config.momentum > 0
    )
    epoch_steps = steps_per_epoch(len(train_set), config.batch_size)
    total_steps = epoch_steps * config.epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_at(step, total_steps, config.warmup))
    progress = (_restore(run, model, optimizer, schedule, device) if resume else None) or Progress()
    started = time.monotonic() - progress.seconds
    report_every = math.ceil(total_steps / MAX_LOSS_POINTS)
    window = Window(device)

    def write(metric: Metric) -> Metric:
        metric["seconds"] = round(time.monotonic() - started, 2)
        run.append_metric(metric)
        return metric

    def save() -> None:
        window.flush_into(progress)
        progress.seconds = time.monotonic() - started
        _save(run, model, optimizer, schedule, progress)

    if progress.epoch == progress.step == 0:
        save()  # whenever it is killed from now on, there is a state to go on from
        yield write(
            {
                "event": "start",
                "time": round(time.time(), 1),
                "device": device.type,
                "precision": "float32" if dtype is None else "bfloat16",
                "parameters": sum(p.numel() for p in model.parameters()),
                "train_images": len(train_set),
                "validation_images": len(validation_set),
                "epochs": config.epochs,
                "steps_per_epoch": epoch_steps,
            }
        )

    while progress.epoch < config.epochs:
        try:
            model.train()
            window.started = time.monotonic()
            for images, labels in training_batches(train_set, run.config.model, config, progress.epoch, progress.step):
                with torch.autocast(device.type, dtype, enabled=dtype is not None):
                    logits = model(images)
                    loss = F.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
                optimizer.step()
                schedule.step()
                window.add(loss, logits, labels)
                progress.step += 1

                done = progress.epoch * epoch_steps + progress.step
                if done % report_every and progress.step < epoch_steps:
                    yield {"event": "tick", "step": done}
                    continue
                mean_loss, rate = window.flush_into(progress)
                if not math.isfinite(mean_loss):
                    raise TrainingError(
                        f"The loss is no longer a number in epoch {progress.epoch + 1}: "
                        "the learning rates are too high, try a tenth of them."
                    )
                yield write(
                    {
                        "event": "step",
                        "step": done,
                        "loss": round(mean_loss, 5),
                        "backbone_lr": round(rates["backbone"], 7),
                        "head_lr": round(rates["head"], 7),
                        "images_per_second": round(rate, 1),
                    }
                )

            validation_loss, validation_accuracy = evaluate(model, validation_set, run.config.model, dtype)
            best = validation_accuracy > progress.best_accuracy
            if best:
                run.save_weights(model.state_dict())
            metric = {
                "event": "epoch",
                "epoch": progress.epoch + 1,
                "step": (progress.epoch + 1) * epoch_steps,
                "train_loss": round(progress.loss_sum / progress.images, 5),
                "train_accuracy": round(progress.correct / progress.images, 5),
                "validation_loss": round(validation_loss, 5),
                "validation_accuracy": round(validation_accuracy, 5),
                "best": best,
            }
            progress = Progress(
                epoch=progress.epoch + 1, best_accuracy=max(validation_accuracy, progress.best_accuracy)
            )
            write(metric)
            save()
            yield metric
        except GeneratorExit:
            save()
            if not run.has_weights:  # stopped in the first epoch: better than nothing
                run.save_weights(model.state_dict())
            raise

    best_model = run.load_model().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    test_loss, test_accuracy = evaluate(best_model, splits.test.to(device), run.config.model)
    yield write(
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


def _save(
    run: Run,
    model: ResNet,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    progress: Progress,
) -> None:
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "progress": asdict(progress),
        "metrics_bytes": (run.path / METRICS).stat().st_size if (run.path / METRICS).exists() else 0,
    }
    with replaced_atomically(run.path / STATE) as file:
        torch.save(state, file)


def _restore(
    run: Run,
    model: ResNet,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    device: torch.device,
) -> Progress | None:
    """Take up the saved state and forget the metrics written after it; None if none was saved yet."""
    if not (run.path / STATE).exists():
        (run.path / METRICS).unlink(missing_ok=True)
        return None
    state = torch.load(run.path / STATE, map_location=device, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    if (run.path / METRICS).exists():
        os.truncate(run.path / METRICS, state["metrics_bytes"])
    return Progress(**state["progress"])


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
