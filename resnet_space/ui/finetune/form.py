"""What the fine-tune form asks for, and the run that it describes."""

import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from resnet_space.common.errors import UserError
from resnet_space.config import OBJECTIVES, ModelConfig, RunConfig, TrainConfig
from resnet_space.data.reference import DatasetRef
from resnet_space.data.sources import open_dataset
from resnet_space.data.summary import sized, suited
from resnet_space.data.target import check_target
from resnet_space.models.registry import entry_of
from resnet_space.runs import OWNER, STATE, Run, discard, in_a_sentence
from resnet_space.runs.queue import Status
from resnet_space.serve.context import AppContext
from resnet_space.training.strategies import STRATEGIES, Phase, from_random_weights, from_scratch, plan
from resnet_space.ui.finetune.status import RANDOM, is_underway

if TYPE_CHECKING:
    from resnet_space.training.range_test import Point, Suggestion

AS_IT_IS = "as in the backbone"
CBAM_CHOICES = [
    (AS_IT_IS, ""),
    ("none", "none"),
    ("after every stage", "stage"),
    ("after the last stage", "last"),
    ("inside every block", "block"),
]
PLAIN = "none"
SHORTCUT_CHOICES = [("around every block", ""), ("none: a plain network", PLAIN)]
TEST_SECONDS, TEST_SECONDS_PUBLIC = 3_600.0, 300.0  # for which a range test may run
MODEL_SETTINGS = ("image_size", "shortcut")  # the form's fields that belong to ModelConfig
COLUMN_SETTINGS = ("dataset_label", "dataset_image")  # of a dataset of the Hub they are in its reference


@dataclass(frozen=True)
class Request:
    """What the form asks for. `architecture` and `shortcut` count only where `start` is random initialisation.

    `settings` has TrainConfig's fields, `image_size` and `shortcut`, by their names; what is missing has its default.
    `key` is of the visitor who asks: of the datasets only those count that they may see. `name` is of the new run;
    without one it gets the next of its kind.
    """

    start: str
    dataset: str
    architecture: str
    cbam: str
    settings: Mapping[str, Any]
    key: str | None = None
    name: str = ""


def model_of(context: AppContext, start: str, architecture: str, cbam: str, classes: tuple[str, ...]) -> ModelConfig:
    """The model to train for these classes. Raises UserError for a start that is not there."""
    place: Any = None if cbam in ("none", "") else cbam
    if start == RANDOM:
        entry = entry_of(architecture)
        if place is not None and entry.why_no_cbam:
            raise UserError(entry.why_no_cbam)
        own = {"cbam": place} if "cbam" in entry.options else {}
        return ModelConfig(architecture, classes, {**entry.small_images, **own})
    model = replace(context.start_model(start), classes=classes)
    if cbam and place != model.options.get("cbam"):
        if model.options.get("cbam") is not None:
            raise UserError(f"{start} already has CBAM and was trained with it: choose {AS_IT_IS!r}.")
        model = model.with_options(cbam=place)
    return model


def cbam_choices(context: AppContext, start: str, architecture: str) -> list[tuple[str, str]]:
    """Those of `CBAM_CHOICES` that the start's architecture takes, or the chosen one with random initialisation."""
    entry = entry_of(architecture) if start == RANDOM else context.start_model(start).entry
    places = entry.options["cbam"].choices if "cbam" in entry.options else ()
    return [(label, value) for label, value in CBAM_CHOICES if value in ("", "none", *places)]


def requested_config(context: AppContext, request: Request) -> RunConfig:
    """The configuration that the form describes.

    Raises:
        UserError: one sentence on what is not allowed.
    """
    ref = context.datasets.named(request.dataset, request.key)
    label, image = (request.settings.get(name) for name in COLUMN_SETTINGS)
    ref = replace(ref, label=label or ref.label, image=image or ref.image)
    classes = open_dataset(ref).columns.classes
    model = model_of(context, request.start, request.architecture, request.cbam, classes)
    # A page sends 10 or 10.0 as it likes; what is no whole number stays, so that the configuration can refuse it.
    unknown = sorted(set(request.settings) - {*training_fields(), *MODEL_SETTINGS, *COLUMN_SETTINGS})
    if unknown:
        raise UserError(f"There is no setting named {', '.join(unknown)}.")
    settings: dict[str, Any] = {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in request.settings.items()
        if name not in COLUMN_SETTINGS
    }
    size = settings.pop("image_size", model.image_size)
    if size != model.image_size:
        checked = replace(model, image_size=size, resize=None)  # refuses what is not allowed
        model = replace(suited(size, model), image_size=checked.image_size, resize=None)
        model = sized(model, size)
    scratch = request.start == RANDOM
    shortcut = settings.pop("shortcut", "")
    if scratch and shortcut:
        model = model.with_options(shortcut=shortcut)  # refuses what is not allowed
    strategy = STRATEGIES.get(settings.get("strategy", ""))
    if scratch and strategy and strategy.start == "optional":
        settings["strategy"] = from_random_weights().id
    if target := settings.get("target"):
        settings["target"] = str(context.datasets.named(target, request.key))
    config = RunConfig(
        model,
        TrainConfig(
            dataset=ref.name,
            dataset_config=ref.config,
            dataset_revision=ref.revision,
            dataset_label=ref.label,
            dataset_image=ref.image,
            start=None if scratch else request.start,
            **settings,
        ),
    )
    OBJECTIVES[config.training.objective].check(config)
    check_target(config.training)
    return config


def create_run(
    context: AppContext,
    request: Request,
    progress: Callable[[int, int], None] | None = None,
    *,
    elsewhere: bool = False,
) -> Run:
    """A new run as the form describes it; pretrained weights are downloaded first. Raises as `requested_config`.

    This machine's limits are not for one that trains `elsewhere`.
    """
    config = requested_config(context, request)
    if not elsewhere:
        _check_limits(context, config)
    source = None if config.training.start is None else context.start_run(config.training.start, progress)
    kind = "fine-tune" if source else "scratch"
    path = context.named_path(request.name) if request.name else context.new_path(kind)
    return Run.create(path, config, start=source)


def create_comparison(context: AppContext, name: str, key: str | None = None) -> Run:
    """A new run like another one, but from random initialisation. Raises UserError."""
    config = context.library.open(name).config
    _require_own_data(context, config, key)
    _check_limits(context, config)
    path = context.new_path("scratch")
    return Run.create(path, replace(config, training=from_scratch(config.training)))


def _require_own_data(context: AppContext, config: RunConfig, key: str | None) -> None:
    """Raises UserError: whoever was given a run's address may look at it, but not learn from its pictures."""
    for dataset in filter(None, (str(DatasetRef.of(config.training)), config.training.target)):
        context.datasets.named(dataset, key)


def start_training(
    context: AppContext, create: Callable[[], Run], key: str | None, *, start: Callable[[Run], None] | None = None
) -> Run:
    """Create a visitor's run and start it: here, or by `start` elsewhere.

    Raises:
        UserError: with one sentence; then nothing was created.
    """

    def create_own() -> Run:
        if start is None:
            context.count_training()
        run = create()
        context.count_training(run)
        try:
            with in_a_sentence(f"{run.name} cannot be made"):
                if key:
                    context.claim(run.path / OWNER, key)
        except BaseException:
            discard(run.path)
            raise
        return run

    key = context.writer(key)
    if start is None:
        return context.trainer.start_new(create_own)
    run = create_own()
    try:
        start(run)
    except BaseException:
        context.library.delete(run)
        raise
    return run


@dataclass(frozen=True)
class NextTry:
    """What is offered for a run that does not train.

    Attributes:
        label: of the button.
        settings: that a new run of the same start has otherwise; None: the same run goes on.
        takes_epochs: whether it can be for longer than was planned.
    """

    label: str
    settings: Mapping[str, Any] | None = None
    takes_epochs: bool = False


def next_try(run: Run, status: Status) -> NextTry | None:
    """What one would do next with a run: go on, or try again with changed settings; None while it trains or waits."""
    training = run.config.training
    if is_underway(status):
        return None
    if status.state == "new":
        return NextTry("Train it")
    if status.cause == "job":
        return NextTry("Follow its job")
    if status.cause == "memory":
        smaller = max(training.batch_size // 2, 2)
        return NextTry(f"Retry with batch size {smaller}", {"batch_size": smaller})
    if status.cause == "loss":
        rates = {"backbone_lr": training.backbone_lr / 10, "head_lr": training.head_lr / 10}
        return NextTry("Retry with a tenth of the learning rates", rates)
    if not (run.path / STATE).exists():  # it failed before it began, or came from another machine
        if run.is_job and not run.has_weights:
            return NextTry("Retry on this machine", {})
        return NextTry("Retry", {}) if status.state == "failed" else None
    if status.state == "failed":
        return NextTry("Resume")
    if status.state == "finished" and plan(training, run.config.model)[-1].solved:
        return None  # there is no better head for these features
    return NextTry("Resume" if status.state == "stopped" else "Train longer", takes_epochs=True)


def go_on(context: AppContext, name: str | None, key: str | None, epochs: object, token: str | None = None) -> Run:
    """Do what `next_try` offers, for `epochs` more than planned. Raises UserError.

    `token` is for following a job of the Hub.
    """
    run = context.own_run(name or "", key)
    status = context.trainer.status(run)
    offer = next_try(run, status)
    if offer is None:
        raise UserError(
            f"{run.name} cannot continue: it is training or waiting, or its training state is not on this machine."
        )
    if status.cause == "job":
        context.follow_job(run, token)
        return run
    _require_own_data(context, run.config, key)
    if offer.settings is not None:
        config = replace(run.config, training=replace(run.config.training, **offer.settings))
        _check_limits(context, config)
        kind = "fine-tune" if config.training.start else "scratch"
        return start_training(context, lambda: run.again(context.new_path(kind), config), key)
    more = 0
    if offer.takes_epochs and isinstance(epochs, int | float) and math.isfinite(epochs):
        more = int(epochs)
    if status.state == "finished" and more < 1:
        raise UserError("It has trained all its epochs: enter how many more to train, at least 1.")
    added = (more,) if more else ()
    longer = replace(run.config.training, more_epochs=(*run.config.training.more_epochs, *added))
    _check_limits(context, replace(run.config, training=longer))
    context.count_training()
    context.trainer.start(run, resume=status.state != "new", more_epochs=more)
    context.count_training(run)
    return run


def training_images(context: AppContext, config: RunConfig) -> int:
    """How many the datasets have to train with, before validation images are held out. Raises UserError."""
    refs = [DatasetRef.of(config.training)]
    if OBJECTIVES[config.training.objective].has_second_stream:
        refs.append(DatasetRef.parse(config.training.target))
    return sum(sum(context.datasets.summary(ref).counts["train"]) for ref in refs)


def _check_limits(context: AppContext, config: RunConfig) -> None:
    images = 0 if context.limits.images is None else training_images(context, config)
    context.limits.check(config.training, images, config.model)
    context.storage.room_for_training(config)


def requested_plan(context: AppContext, request: Request) -> tuple[list[Phase], RunConfig]:
    """What would train when. Raises as `requested_config`."""
    config = requested_config(context, request)
    new_cbam = config.training.start is not None and set(config.model.added_parts) > set(
        context.start_model(config.training.start).added_parts
    )
    return plan(config.training, config.model, new_cbam=new_cbam), config


def suggest(
    context: AppContext, request: Request
) -> "Generator[tuple[list[Point], Suggestion | None] | None, None, None]":
    """A range test of what the form describes, in a process of its own; closed, it ends that process.

    Yields:
        (the points so far, None) with each point, None now and then while there is no new one, and at last (all points,
        the suggestion).

    Raises:
        UserError: with one sentence.
    """
    from resnet_space.training.range_test import points_apart, suggestion

    context.require_writable()
    config = requested_config(context, request)
    _check_limits(context, config)
    start = None if config.training.start is None else context.start_run(config.training.start)
    if start is not None and not start.has_weights:
        raise UserError(f"{start.name} has no weights to start from: it has not finished an epoch.")
    points = []
    seconds = TEST_SECONDS_PUBLIC if context.public else TEST_SECONDS
    with context.slots.taken("range tests"):
        for point in points_apart(config, None if start is None else start.path, seconds=seconds):
            points += [] if point is None else [point]
            yield None if point is None else (list(points), None)
    yield points, suggestion(config, points)


def training_fields() -> dict[str, Any]:
    """TrainConfig's fields that a form may set, with their defaults."""
    data = ("dataset", "dataset_config", "dataset_revision", *COLUMN_SETTINGS)
    own = (*data, "images_per_class", "subset_seed", "start", "precision", "more_epochs")
    defaults = TrainConfig(dataset="-")
    return {field.name: getattr(defaults, field.name) for field in fields(TrainConfig) if field.name not in own}
