"""The mutable state of a training, and one step of it."""

import pickle
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig, RunConfig
from resnet_space.data.batches import evaluation_batches, is_unaugmented, steps_per_epoch
from resnet_space.data.splits import ImageSet
from resnet_space.models import Backbone
from resnet_space.models.registry import HEAD
from resnet_space.runs import (
    METRICS,
    ORIGINS,
    RESUME,
    START_WEIGHTS,
    STATE,
    Metric,
    Run,
    in_a_sentence,
    is_tested,
    replaced_atomically,
    without_head,
)
from resnet_space.training import distributed
from resnet_space.training.features import CutModel, KnownFeatures, evaluation_features, frozen_segments, same_before
from resnet_space.training.objectives import Batch, Losses, Objective, objective_of
from resnet_space.training.optim import create_optimizer, create_schedule, current_rates, freeze_all_but, moving_average
from resnet_space.training.progress import Progress, Window, means
from resnet_space.training.solver import SolvedHead
from resnet_space.training.strategies import phase_at, plan, planned_epochs


class Learner(nn.Module):
    """The forward pass up to the loss, as one module: what several processes have in parallel."""

    def __init__(self, objective: Objective, cut: CutModel) -> None:
        super().__init__()
        self.objective, self.cut = objective, cut
        self.beside = objective.module  # so that several processes share its gradient too

    def forward(self, batch: Batch) -> Losses:
        return self.objective(self.cut, batch)


def require_enough(config: RunConfig, images: int) -> None:
    """Refuse a training in which a BatchNorm would see one value per channel: one image reduced to one position.

    Raises:
        UserError: saying what to change.
    """
    model = config.model
    reduction = model.shape.reduction
    alone = {HEAD, *model.added_parts}
    trains = any(set(phase.rates) - alone for phase in plan(config.training, model))
    if min(images, config.training.batch_size) < 2 and model.image_size <= reduction and trains:
        raise UserError(
            f"There is only one training image, which {model.architecture} reduces to a single position at "
            f"{model.image_size} px, too little for batch normalisation: add more images, or choose an image size "
            f"above {reduction} px."
        )


def initial_model(run: Run) -> tuple[Backbone, bool]:
    """The model to start from, and whether its CBAM is new to weights that have none.

    It is random, or has the start's weights, with a random head where `Run.create` left its out.

    Raises:
        UserError: if the start's weights do not fit the configured architecture.
    """
    return model_with(run.config, None if run.config.training.start is None else run.load_weights(START_WEIGHTS))


def model_before(run: Run) -> Backbone:
    """A fine-tuned run's network with the weights that it started from, in eval mode. Raises UserError."""
    start = ORIGINS.get(run.name, run.config.training.start)
    if start is None:
        raise UserError(f"{run.name} started from random weights: choose a run that was fine-tuned.")
    if (run.path / START_WEIGHTS).is_file():
        weights = run.load_weights(START_WEIGHTS)
    elif (run.path.parent / start).is_dir():
        weights = Run.open(run.path.parent / start).load_weights()
    else:
        raise UserError(f"{run.name} started from {start}, whose weights are not on this machine.")
    with torch.random.fork_rng(devices=[]):
        model, _ = model_with(run.config, without_head(weights, run.config.model.entry.head))
    return model.eval()


def model_with(config: RunConfig, weights: dict[str, Tensor] | None) -> tuple[Backbone, bool]:
    """The configured model with these weights, or random ones; where they lack a head or CBAM it is random.

    Returns:
        The model, and whether its CBAM is new to weights that have none. Raises as `initial_model`.
    """
    torch.manual_seed(config.training.seed)
    model = config.model.build()
    if weights is None:
        return model, False
    added = [name for part in model.parts() if part.added for name in part.parameters]
    new = [name for name in added if name not in weights]
    is_new = bool(added) and len(new) == len(added)
    head = f"{config.model.entry.head}."
    random = {
        name: value for name, value in model.state_dict().items() if name.startswith(head) or (is_new and name in new)
    }
    try:
        model.load_state_dict(random | model.fit_weights(weights))
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(f"The weights of {config.training.start} do not fit the configuration: {reason}") from None
    return model, is_new


@torch.inference_mode()
def evaluate(
    model: nn.Module, data: ImageSet, config: ModelConfig, dtype: torch.dtype | None = None
) -> tuple[float, float]:
    """(mean cross-entropy in nats, share of correct top-1 predictions) of a model, which is left in eval mode."""
    model.eval()
    device = next(model.parameters()).device
    return _means(model, evaluation_batches(data, config, device=device), device, dtype)


def _means(
    forward: Callable[[Tensor], Tensor],
    batches: Iterable[tuple[Tensor, Tensor]],
    device: torch.device,
    dtype: torch.dtype | None,
) -> tuple[float, float]:
    """As `evaluate`, over the batches of all processes."""
    loss = torch.zeros((), device=device)
    correct = torch.zeros((), dtype=torch.int64, device=device)
    count = 0
    for inputs, labels in batches:
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            logits = forward(inputs)
        loss += F.cross_entropy(logits.float(), labels, reduction="sum")
        correct += (logits.argmax(1) == labels).sum()
        count += len(labels)
    sums = torch.tensor([loss.item(), int(correct), count], dtype=torch.float64)
    loss_sum, right, images = distributed.summed(sums).tolist()
    return loss_sum / images, right / images


class Training:
    """The mutable state of a training, which can be saved and resumed at any step."""

    def __init__(self, run: Run, device: torch.device, train_images: int) -> None:
        self.run = run
        self.config = run.config.training
        self.objective = objective_of(run.config)
        self.device = device
        model, new_cbam = initial_model(run)
        model = distributed.with_shared_statistics(model, device)
        self.model: Backbone = model.to(device, memory_format=torch.channels_last)  # pyrefly: ignore[no-matching-overload]
        self.objective.check(run.config)
        self.objective.folder = run.path / RESUME
        self.objective.attach(self.model)
        self.average = moving_average(self.model, self.config.ema) if self.config.ema else None
        self.plan = plan(self.config, run.config.model, new_cbam=new_cbam)
        self.epochs = planned_epochs(self.plan)
        self.epoch_steps = steps_per_epoch(train_images, self.config.batch_size)
        self.batch_images = min(self.config.batch_size, train_images)  # of all processes
        self.progress = Progress()
        self.window = Window(device, self.objective.parts, self.objective.measures)
        self.started = time.monotonic()
        self.enter_phase()

    def enter_phase(self) -> None:
        """Freeze the parts that the current phase freezes; create a new optimizer and schedule for the rest."""
        self.phase, self.phase_start = phase_at(self.plan, self.progress.epoch)
        phase = self.plan[self.phase]
        freeze_all_but(self.model, phase.rates)
        self.cut = CutModel(self.model, frozen_segments(self.model))
        self.learner: nn.Module | None = None  # the last phase's hears of no gradient any more
        self.learner = distributed.in_parallel(Learner(self.objective, self.cut))
        self._train_features: KnownFeatures | None = None
        self._validation_features: KnownFeatures | None = None
        self.optimizer = create_optimizer(self.model, phase, self.config, self.objective.module)
        self.schedule = create_schedule(self.optimizer, self.config, phase.epochs * self.epoch_steps)

    @property
    def evaluated_model(self) -> Backbone:
        """The model whose weights are evaluated and saved."""
        if self.average is None:
            return self.model
        assert isinstance(self.average.module, Backbone)
        return self.average.module

    def features(self, images: Tensor, dtype: torch.dtype | None) -> Tensor:
        """The features of images from the phase's frozen beginning, for `step`."""
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            return self.cut.features(images)

    def known_features(self, data: ImageSet, dtype: torch.dtype | None) -> KnownFeatures | None:
        """The cached features of the training images, if they are constant in this phase; else None."""
        if self._train_features is None and self.cut.frozen and is_unaugmented(self.config):
            self._train_features = KnownFeatures(self.cut, data, self.run.config.model, dtype)
        return self._train_features

    def step(self, batch: Batch, dtype: torch.dtype | None) -> dict[str, float]:
        """Train on one batch, or this process's part of it, whose inputs are `features`. Returns the rates used."""
        assert self.learner is not None
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            losses: Losses = self.learner(batch)
            loss = losses.total
        self.optimizer.zero_grad(set_to_none=True)
        distributed.weighted(loss, len(batch.targets), self.batch_images).backward()
        if self.config.clip_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        rates = current_rates(self.optimizer)
        self.optimizer.step()
        if not isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        self.window.add(loss, losses, batch.targets)
        self.progress.step += 1
        return rates

    def take_head(self, head: SolvedHead, images: int) -> None:
        """Make a solved head the model's, and the epoch that of these training images."""
        classifier: Any = self.model.get_classifier()
        averaged: Any = None if self.average is None else self.evaluated_model.get_classifier()
        with torch.no_grad():
            for layer in filter(None, (classifier, averaged)):
                layer.weight.copy_(distributed.of_first(head.weight.to(self.device)))
                layer.bias.copy_(distributed.of_first(head.bias.to(self.device)))
        self.progress.step = self.epoch_steps
        self.progress.loss_sum, self.progress.images = head.loss * images, images
        self.progress.correct = round(head.accuracy * images)

    @property
    def only_the_head_trains(self) -> bool:
        """Whether the evaluated model is the same before the head throughout the phase; known after `validate`."""
        features = self._validation_features
        return features is not None and features.cut.frozen == len(self.model.segments()) - 1

    def leave(self) -> None:
        """What follows is for this process alone, or for none."""
        self.learner = None
        distributed.leave()

    @torch.inference_mode()
    def validate(self, data: ImageSet, dtype: torch.dtype | None) -> tuple[float, float]:
        """As `evaluate` of the evaluated model, of every process's part of the validation images."""
        distributed.with_first_statistics(self.model, self.evaluated_model)
        self.evaluated_model.eval()
        if self._validation_features is None:
            cut = CutModel(self.evaluated_model, self.cut.frozen)
            # A moving average may still be on its way to what this phase has frozen.
            cut = cut if same_before(self.cut, cut) else CutModel(self.evaluated_model, 0)
            self._validation_features = KnownFeatures(cut, data, self.run.config.model, dtype)
        features = self._validation_features
        return _means(features.cut, evaluation_features(features), self.device, dtype)

    def end_epoch(self, validation_loss: float, validation_accuracy: float) -> Metric:
        """Save the weights if they are the best so far; go on to the next epoch, and phase.

        Of equal accuracies, which are frequent with few validation images, the one with the lower loss is better.
        Patience looks at the accuracy alone: a loss that falls a little further is no reason to go on. Where an
        objective adapts to a target, the last epoch is the best: the validation images are of the source, and prefer
        the network that is not adapted yet.
        """
        done = self.progress
        rises = validation_accuracy > done.best_accuracy
        best = rises or (validation_accuracy == done.best_accuracy and validation_loss < done.best_loss)
        best = best or self.objective.has_second_stream
        if best and distributed.is_first():
            self.run.save_weights(self.evaluated_model.state_dict())
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
        solved = self.plan[self.phase].solved  # by another loss, which has one part
        for name, sums in (("losses", done.part_sums), ("measures", done.measure_sums)):
            metric |= {name: means(sums, done.images)} if sums and not solved else {}
        patient = self.phase < len(self.plan) - 1 or done.epoch == self.phase_start
        self.progress = Progress(
            epoch=done.epoch + 1,
            best_accuracy=max(validation_accuracy, done.best_accuracy),
            best_loss=validation_loss if best else done.best_loss,
            epochs_since_best=0 if rises or patient else done.epochs_since_best + 1,
        )
        if self.progress.epoch < self.epochs and phase_at(self.plan, self.progress.epoch)[0] != self.phase:
            self.enter_phase()
        return metric

    @property
    def is_over(self) -> bool:
        if self.progress.epoch >= self.epochs:
            return True
        in_last_phase = phase_at(self.plan, self.progress.epoch)[0] == len(self.plan) - 1
        return in_last_phase and 0 < self.config.patience <= self.progress.epochs_since_best

    def write(self, metric: Metric) -> Metric:
        metric["seconds"] = round(time.monotonic() - self.started, 2)
        if distributed.is_first():
            self.run.append_metric(metric)
        return metric

    def save(self) -> None:
        self.window.flush_into(self.progress)
        self.progress.seconds = time.monotonic() - self.started
        if not distributed.is_first():
            return
        metrics = self.run.path / METRICS
        beside = self.objective.module
        state = {
            "beside": None if beside is None else beside.state_dict(),
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "phase": self.phase,
            "progress": asdict(self.progress),
            "metrics_bytes": metrics.stat().st_size if metrics.exists() else 0,
        }
        with replaced_atomically(self.run.path / STATE) as file:
            torch.save(state, file)

    def restore(self) -> None:
        """Take up the saved state, if there is one, and forget the metrics written after it; but not the test of a
        training that is over.

        Raises:
            UserError: if it cannot be read, or the metrics cannot be truncated.
        """
        if not (self.run.path / STATE).exists():
            if distributed.is_first():
                self.run.forget_metrics_after(0)
            return
        with in_a_sentence(f"The {STATE} of {self.run.name} cannot be read"):
            try:
                state = torch.load(self.run.path / STATE, map_location=self.device, weights_only=True)
            except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
                raise UserError(f"The {STATE} of {self.run.name} is damaged: train the run again.") from error
        self.progress = Progress(**state["progress"])
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if self.objective.module is not None:
            self.objective.module.load_state_dict(state["beside"])
        if not self.is_over:
            self.enter_phase()
            if self.phase == state["phase"]:  # not where more epochs were asked for after the last phase
                self.optimizer.load_state_dict(state["optimizer"])
                self.schedule.load_state_dict(state["schedule"])
        if distributed.is_first() and not (self.is_over and is_tested(self.run.metrics())):
            self.run.forget_metrics_after(state["metrics_bytes"])
        # A test that is kept took time after the state was saved.
        kept = [metric["seconds"] for metric in self.run.metrics()[-1:]]
        self.started = time.monotonic() - max([self.progress.seconds, *kept])
