import hashlib
import io
import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from resnet_space.common.errors import UserError
from resnet_space.common.hub_client import HubError
from resnet_space.config import STRATEGIES, ModelConfig, RunConfig, TrainConfig
from resnet_space.data import hub as hub_module
from resnet_space.data.columns import columns_of_files
from resnet_space.data.reference import DatasetRef
from resnet_space.data.sources import DATA_FOLDER_VARIABLE, DATASET_OWNER, split_files
from resnet_space.data.summary import cautions
from resnet_space.hub.pretrained import PRETRAINED, pretrained_model
from resnet_space.runs import BACKBONE, OWNER, QUEUED, RESUME, START_WEIGHTS, STATE, Run
from resnet_space.runs.queue import Status
from resnet_space.serve import context as context_module
from resnet_space.serve import datasets as datasets_module
from resnet_space.serve import visitors
from resnet_space.serve.context import AppContext
from resnet_space.serve.datasets import HUB_DATASETS
from resnet_space.serve.limits import Limits
from resnet_space.training import range_test as range_module
from resnet_space.training.proposal import STRATEGY_SETTINGS
from resnet_space.training.state import initial_model
from resnet_space.training.strategies import CBAM_RATES, recipe
from resnet_space.ui.explore.images import split_counts
from resnet_space.ui.finetune.comparison import Row, result_html
from resnet_space.ui.finetune.form import (
    AS_IT_IS,
    NextTry,
    Request,
    cbam_choices,
    create_comparison,
    create_run,
    go_on,
    next_try,
    requested_config,
    requested_plan,
    start_training,
    suggest,
    training_fields,
)
from resnet_space.ui.finetune.proposals import proposal_for
from resnet_space.ui.finetune.status import RANDOM
from resnet_space.ui.subject import counterpart
from tests import own_networks
from tests.conftest import WriteSplit

PETS = ("cat", "dog", "hamster")
OWN = ModelConfig(
    "resnet20",
    ("a", "b"),
    image_size=32,
    resize=36,
    mean=(0.1, 0.2, 0.3),
    std=(0.4, 0.5, 0.6),
    options={"shortcut": "projection"},
)
RESNET18, RESNET50 = "resnet18.tv_in1k", "resnet50.tv2_in1k"
COMMIT = "0123456789" * 4


def png(label: int, side: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), (80 * label, 10, 10)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, write_split: WriteSplit) -> Path:
    """`pets`: three classes at 20 pixels; `photos`: the same at 100."""
    folder = tmp_path_factory.mktemp("written")
    for name, side in (("pets", 20), ("photos", 100)):
        for split, count in (("train", 60), ("test", 6)):
            labels = [i % 3 for i in range(count)]
            write_split(folder / name, split, [png(label, side) for label in labels], labels, PETS)
    return folder


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: Path) -> Path:
    """Each test's own copy of the datasets."""
    folder = tmp_path / "data"
    shutil.copytree(written, folder)
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(folder))
    return folder


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(context_module, "pull_pretrained", refuse)
    monkeypatch.setattr(datasets_module, "describe_dataset", refuse)
    monkeypatch.setattr(hub_module, "describe_dataset", refuse)


@pytest.fixture
def context(tmp_path: Path) -> AppContext:
    """With two trained runs: `plain`, whose settings are all its own, and `gated` with CBAM."""
    context = AppContext(tmp_path / "checkpoints")
    trained(context, "plain", OWN)
    trained(context, "gated", ModelConfig("resnet20", PETS, options={"cbam": "stage"}))
    return context


def trained(context: AppContext, name: str, model: ModelConfig) -> Run:
    run = Run.create(context.library.root / name, RunConfig(model))
    torch.manual_seed(0)
    run.save_weights(model.build().state_dict())
    return run


class Hub:
    """Where the pretrained weights come from: a few tensors under their names."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pulled: list[tuple[str, Path]] = []
        monkeypatch.setattr(context_module, "pull_pretrained", self.pull)

    def pull(self, name: str, root: Path, *, progress: Callable[[int, int], None] | None = None) -> Run:
        self.pulled.append((name, root))
        if (root / name).exists():
            return Run.open(root / name)
        if progress:
            progress(7, 7)
        run = Run.create(root / name, RunConfig(pretrained_model(name)))
        run.save_weights({"conv1.weight": torch.ones(64, 3, 7, 7), "fc.weight": torch.ones(1000, 512)})
        return run


def ask(
    start: str = "plain",
    dataset: str = "pets",
    architecture: str = "resnet20",
    cbam: str = "",
    key: Any = None,
    name: str = "",
    **settings: Any,
):
    return Request(start, dataset, architecture, cbam, settings, key, name)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


# The name


def test_a_run_has_the_name_that_was_asked_for_or_the_next_of_its_kind(context: AppContext) -> None:
    assert [create_run(context, ask(name=name)).name for name in ("", "my-cats", "")] == [
        "fine-tune-1",
        "my-cats",
        "fine-tune-2",
    ]
    for name, why in (
        ("my-cats", "^A run named my-cats already exists: choose another name"),
        (BACKBONE, "already"),
        ("../up", "is not a valid run name"),
        ("two words", "is not a valid run name: use"),
    ):
        with pytest.raises(UserError, match=why):
            create_run(context, ask(name=name))
    public = AppContext(context.library.root, public=True)
    assert re.fullmatch(r"my-cats-[0-9a-f]{10}", public.named_path("my-cats").name)  # nobody can guess it


# The model


def test_a_start_keeps_everything_of_its_model_but_the_classes(context: AppContext) -> None:
    config = requested_config(context, ask("plain", architecture="resnet50", image_size=32))
    assert config.model == replace(OWN, classes=PETS)
    assert (config.training.start, config.training.dataset) == ("plain", "pets")


@pytest.mark.parametrize(("name", "resize"), [(RESNET18, 256), (RESNET50, 232)])
def test_pretrained_weights_bring_their_own_preprocessing_before_they_are_downloaded(
    context: AppContext, name: str, resize: int
) -> None:
    config = requested_config(context, ask(name, "photos", image_size=224.0))
    assert config.model == replace(pretrained_model(name), classes=PETS)
    assert (config.model.options["stem"], config.model.image_size, config.model.resize) == ("imagenet", 224, resize)
    assert (config.model.mean, config.model.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert config.training.start == name


@pytest.mark.parametrize(
    ("start", "size", "resize"),
    [(RESNET50, 192, 219), (RESNET50, 64, None), ("plain", 64, None), ("plain", 224.0, 256), ("gated", 32, None)],
)
def test_another_image_size_has_the_crop_that_belongs_to_it(
    context: AppContext, start: str, size: float, resize: int | None
) -> None:
    before = context.start_model(start)
    model = requested_config(context, ask(start, image_size=size)).model
    small = {"stem": "cifar"} if start == RESNET50 and size == 64 else {}
    assert model == replace(before.with_options(**small), classes=PETS, image_size=int(size), resize=resize)
    assert isinstance(model.image_size, int)


def test_small_images_take_the_small_stem_or_bring_a_caution_where_the_network_has_none(context: AppContext) -> None:
    summary = context.datasets.summary(DatasetRef("pets"))
    for size, stem in ((32, "cifar"), (224, "imagenet")):
        assert requested_config(context, ask(RESNET18, image_size=size)).model.options["stem"] == stem
        config = requested_config(context, ask("efficientnet_b0.ra_in1k", image_size=size))
        sentences = cautions(summary, config.model, config.training)
        told = any("efficientnet_b0 is designed for 224 px and reduces" in each for each in sentences)
        assert told == (size == 32)


@pytest.mark.parametrize("place", ["stage", "block"])
def test_cbam_is_added_to_a_start_without_it_and_trains_as_what_is_new(context: AppContext, place: Any) -> None:
    phases, config = requested_plan(context, ask("plain", cbam=place, strategy="linear-probe", image_size=32))
    assert config.model == replace(OWN.with_options(cbam=place), classes=PETS)
    assert set(phases[0].rates) == {"head", *CBAM_RATES}
    run = create_run(context, ask("plain", cbam=place, strategy="linear-probe"))
    assert initial_model(run)[1]  # the trainer takes it for new as well


@pytest.mark.parametrize(
    ("start", "architecture", "places"),
    [
        (RANDOM, "resnet20", ["stage", "block"]),
        (RANDOM, "tf_efficientnet_lite0", ["stage", "last"]),
        (RANDOM, "own-mixer", []),
        ("plain", "tf_efficientnet_lite0", ["stage", "block"]),
    ],
)
def test_cbam_is_offered_where_the_network_takes_it(
    context: AppContext, start: str, architecture: str, places: list[str]
) -> None:
    with own_networks.registered():
        assert [value for _, value in cbam_choices(context, start, architecture)] == ["", "none", *places]


def test_a_network_of_timm_takes_cbam_and_one_of_tokens_says_why_not(context: AppContext) -> None:
    config = requested_config(context, ask(RANDOM, "photos", "tf_efficientnet_lite0", "last", image_size=64))
    assert config.model.options == {"cbam": "last"}
    with (
        own_networks.registered(),
        pytest.raises(UserError, match=r"^own-mixer does not support CBAM because its stages output"),
    ):
        requested_config(context, ask(RANDOM, "pets", "own-mixer", "stage"))


def test_a_starts_own_cbam_stays_and_is_not_new(context: AppContext) -> None:
    for cbam in ("", "stage"):
        phases, config = requested_plan(context, ask("gated", cbam=cbam, strategy="linear-probe"))
        assert config.model == context.start_model("gated")
        assert set(phases[0].rates) == {"head"}
    assert not initial_model(create_run(context, ask("gated")))[1]


@pytest.mark.parametrize("cbam", ["none", "block"])
def test_the_cbam_that_a_start_was_trained_with_cannot_be_changed(context: AppContext, cbam: str) -> None:
    with pytest.raises(UserError, match=f"^gated already has CBAM .*'{AS_IT_IS}'\\.$"):
        requested_config(context, ask("gated", cbam=cbam))


@pytest.mark.parametrize("cbam", ["", "none"])
def test_without_cbam_a_start_without_it_stays_as_it_is(context: AppContext, cbam: str) -> None:
    assert requested_config(context, ask("plain", cbam=cbam)).model.options["cbam"] is None


@pytest.mark.parametrize(
    ("architecture", "cbam", "place", "shortcut"),
    [
        ("resnet20", "", None, "pad"),
        ("resnet56", "none", None, "pad"),
        ("resnet18", "stage", "stage", "projection"),
        ("resnet50", "block", "block", "projection"),
    ],
)
def test_from_random_initialisation_everything_of_the_architecture_trains(
    context: AppContext, architecture: str, cbam: str, place: Any, shortcut: Any
) -> None:
    config = requested_config(context, ask(RANDOM, "pets", architecture, cbam, strategy="full"))
    assert config.model == ModelConfig(architecture, PETS, {"stem": "cifar", "cbam": place, "shortcut": shortcut})
    assert (config.training.start, config.training.strategy) == (None, "scratch")
    plain = requested_config(context, ask(RANDOM, "pets", architecture, cbam, shortcut="none"))
    assert plain.model == config.model.with_options(shortcut="none")
    kept = requested_config(context, ask("plain", shortcut="none"))  # a start has the shortcuts that it has
    assert kept.model == requested_config(context, ask("plain")).model
    other = requested_config(context, ask(RANDOM, strategy="three-stage"))  # no more than a caution
    assert (other.training.start, other.training.strategy) == (None, "three-stage")


# The settings


def test_what_is_not_set_has_its_default(context: AppContext) -> None:
    config = requested_config(context, ask("plain"))
    assert config.training == TrainConfig(dataset="pets", start="plain")


def test_every_setting_of_a_training_reaches_the_configuration(context: AppContext) -> None:
    settings = {
        "strategy": "discriminative", "epochs": 3, "batch_size": 8, "backbone_lr": 0.2, "head_lr": 0.3,
        "layer_decay": 0.7, "optimizer": "adamw", "schedule": "plateau", "warmup": 0.3, "momentum": 0.8,
        "weight_decay": 0.01, "label_smoothing": 0.1, "mixup": 0.2, "cutmix": 0.4, "clip_norm": 2.5, "ema": 0.99,
        "patience": 4, "crop": "resized", "crop_padding": 2, "min_crop_area": 0.5, "flip": False,
        "validation_fraction": 0.25, "grouped_split": False, "seed": 7, "objective": "coral", "target": "cifar10-mini",
        "domain_weight": 3.0, "domain_schedule": "constant",
    }  # fmt: skip
    assert set(settings) == set(training_fields())
    defaults = training_fields()
    assert all(settings[name] != defaults[name] for name in settings)
    config = requested_config(context, ask("plain", **settings))
    assert config.training == TrainConfig(dataset="pets", start="plain", **settings)


def test_the_form_sets_all_but_what_is_asked_for_elsewhere() -> None:
    elsewhere = {"dataset", "dataset_config", "dataset_revision", "start", "precision", "more_epochs"}
    elsewhere |= {"dataset_label", "dataset_image", "images_per_class", "subset_seed"}
    assert set(training_fields()) == {field.name for field in fields(TrainConfig)} - elsewhere
    assert TrainConfig(dataset="-", **training_fields()) == TrainConfig(dataset="-")


def test_another_label_column_can_be_asked_for(context: AppContext) -> None:
    table = pq.read_table(split_files("pets")["train"][0])
    coats = pa.array(["long" if i % 2 else "short" for i in range(len(table))])
    (context.datasets.folder / "coats").mkdir()
    pq.write_table(table.append_column("coat", coats), context.datasets.folder / "coats" / "train.parquet")
    config = requested_config(context, ask("plain", dataset="coats", dataset_label="coat"))
    assert (config.model.classes, config.training.dataset_label) == (("long", "short"), "coat")
    with pytest.raises(UserError, match="has no label column 'fur': choose one of label, coat"):
        requested_config(context, ask("plain", dataset="coats", dataset_label="fur"))


def test_whole_numbers_may_come_as_floats(context: AppContext) -> None:
    settings = {"epochs": 3.0, "batch_size": 16.0, "seed": 0.0, "backbone_lr": 1.0, "mixup": 0.0, "image_size": 32.0}
    config = requested_config(context, ask("plain", **settings))
    assert RunConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    assert (config.training.epochs, config.training.batch_size, config.model.resize) == (3, 16, 36)
    assert all(isinstance(value, int) for value in (config.training.epochs, config.model.image_size))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epochs": 2.5}, "The number of epochs must be … not 2.5."),
        ({"epochs": math.nan}, "The number of epochs must be … not nan."),
        ({"epochs": None}, "The number of epochs must be … not None."),
        ({"batch_size": math.inf}, "The batch size must be … not inf."),
        ({"head_lr": "high"}, "The head's learning rate must be … not 'high'."),
        ({"image_size": 4}, "The image size must be … not 4."),
        ({"image_size": 32.5}, "The image size must be … not 32.5."),
        ({"image_size": None}, "The image size must be … not None."),
        ({"image_size": "large"}, "The image size must be … not 'large'."),
        ({"strategy": "magic"}, "The strategy must be one of "),
        ({"strategy": "scratch"}, "The strategy 'scratch' trains from random weights, not from plain: "),
        ({"flip": 1.0}, "Flip must be … not 1."),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_with_what_is(
    context: AppContext, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError) as caught:
        requested_config(context, ask("plain", **settings))
    start, _, end = words.partition("…")
    assert str(caught.value).startswith(start)
    assert str(caught.value).endswith(end)


@pytest.mark.parametrize("name", ["magic", "dataset", "dataset_revision", "start", "precision", "stem", "classes"])
def test_a_setting_that_the_form_does_not_have_is_refused_by_its_name(context: AppContext, name: str) -> None:
    with pytest.raises(UserError, match=f"^There is no setting named {name}\\.$"):
        requested_config(context, Request("plain", "pets", "resnet20", "", {"epochs": 1, name: "x"}))


@pytest.mark.parametrize(
    ("request_", "error", "words"),
    [
        (ask("gone"), UserError, "There is no run named gone, or it has been deleted: "),
        (ask(""), UserError, "Choose a run first."),
        (ask(None), UserError, "There is no run named None, or it has been deleted: "),
        (ask("../plain"), UserError, "Choose a run first."),
        (ask(dataset="gone"), UserError, "There is no dataset named 'gone': "),
        (ask(dataset=""), UserError, "There is no dataset named '': "),
        (ask(dataset=None), UserError, "There is no dataset named '': "),
        (ask(RANDOM, architecture="vgg"), UserError, "The architecture must be one of "),
        (ask(RANDOM, cbam="everywhere"), UserError, "The CBAM option must be one of "),
    ],
)
def test_what_is_not_there_is_refused_in_one_sentence(
    context: AppContext, request_: Request, error: type[Exception], words: str
) -> None:
    for asked in (requested_config, requested_plan, create_run):
        with pytest.raises(error) as caught:
            asked(context, request_)
        if request_.start is not None:
            assert str(caught.value).startswith(words)
        assert "\n" not in str(caught.value)


# The run


def test_a_new_run_stands_on_its_own_without_the_head_where_the_classes_differ(context: AppContext) -> None:
    run = create_run(context, ask("plain", epochs=2))
    assert (run.name, run.config) == ("fine-tune-1", requested_config(context, ask("plain", epochs=2)))
    assert Run.open(run.path).config == run.config
    weights, before = run.load_weights(START_WEIGHTS), context.library.open("plain").load_weights()
    assert set(before) - set(weights) == {"fc.weight", "fc.bias"}
    assert all(torch.equal(weights[name], before[name]) for name in weights)
    same = create_run(context, ask("gated"))  # the classes are the same
    assert same.name == "fine-tune-2"
    assert set(same.load_weights(START_WEIGHTS)) == set(context.library.open("gated").load_weights())


def test_a_new_run_from_random_initialisation_has_no_weights(context: AppContext) -> None:
    run = create_run(context, ask(RANDOM, strategy="full"))
    assert run.name == "scratch-1"
    assert list((run.path / RESUME).iterdir()) == []


def test_pretrained_weights_are_downloaded_when_a_run_is_made(
    context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, told = Hub(monkeypatch), []
    run = create_run(context, ask(RESNET18), lambda done, total: told.append((done, total)))
    assert hub.pulled == [(RESNET18, context.library.root)]
    assert told == [(7, 7)]
    assert run.config.model == replace(pretrained_model(RESNET18), classes=PETS)
    assert set(run.load_weights(START_WEIGHTS)) == {"conv1.weight"}
    again = create_run(context, ask(RESNET18))
    assert again.config == run.config


def test_where_the_download_fails_no_run_is_made(context: AppContext, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Run:
        raise HubError("The Hub does not answer: try again.")

    monkeypatch.setattr(context_module, "pull_pretrained", fail)
    before = digests(context.library.root)
    with pytest.raises(UserError, match=r"^The Hub does not answer: try again\.$"):
        create_run(context, ask(RESNET18))
    assert digests(context.library.root) == before


def test_a_start_that_was_never_trained_gives_no_run(context: AppContext) -> None:
    Run.create(context.library.root / "untrained", RunConfig(OWN))
    with pytest.raises(UserError, match=r"^untrained has no weights to start from"):
        create_run(context, ask("untrained"))
    assert not (context.library.root / "fine-tune-1").exists()


SETTINGS = {"epochs": 7, "seed": 3, "mixup": 0.2, "image_size": 64, "head_lr": 0.02, "optimizer": "adamw"}


def test_a_comparison_with_a_full_training_differs_in_its_start_and_strategy_only(context: AppContext) -> None:
    run = create_run(context, ask("plain", cbam="stage", strategy="full", **SETTINGS))
    other = create_comparison(context, run.name)
    assert other.name == "scratch-1"
    assert other.config.model == run.config.model
    assert other.config.training == replace(run.config.training, start=None, strategy="scratch")
    assert run.config.training.start == "plain"
    assert list((other.path / RESUME).iterdir()) == []


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name not in ("full", "scratch")])
def test_a_comparison_with_a_spared_backbone_has_the_rates_for_random_weights_too(
    context: AppContext, strategy: str
) -> None:
    run = create_run(context, ask("gated" if strategy == "attention" else "plain", strategy=strategy, **SETTINGS))
    other = create_comparison(context, run.name)
    own = {name: getattr(recipe("scratch", "-"), name) for name in STRATEGY_SETTINGS if name not in ("epochs", "crop")}
    assert other.config.model == run.config.model
    assert other.config.training == replace(run.config.training, start=None, strategy="scratch", **own)
    assert (other.config.training.epochs, other.config.training.mixup) == (7, 0.2)
    assert (counterpart(run, [run, other]), counterpart(other, [other, run])) == (other, run)


def test_a_run_that_is_not_there_cannot_be_compared(context: AppContext) -> None:
    for name in ("gone", "", None):
        with pytest.raises(UserError):
            create_comparison(context, name)
    assert not (context.library.root / "scratch-1").exists()


def test_a_comparison_with_a_head_that_was_solved_at_once_trains_as_long_as_its_strategy_does(
    context: AppContext,
) -> None:
    run = create_run(context, ask("plain", strategy="linear-probe", epochs=1, optimizer="l-bfgs"))
    other = create_comparison(context, run.name)
    assert (other.config.training.epochs, other.config.training.optimizer) == (recipe("scratch", "-").epochs, "sgd")
    tested = {"event": "test", "split": "test", "images": 1_000, "seconds": 1.0}
    rows: list[Row] = [
        (run, Status("finished"), [{**tested, "accuracy": 0.703}]),
        (other, Status("finished"), [{**tested, "accuracy": 0.472}]),
    ]
    worth = r"pretraining is worth <b>\+23.1 points</b> .*same model and data; a head fitted once against 10 epochs"
    for beside in (rows, rows[::-1]):
        assert re.search(worth, result_html(beside))


def test_a_refused_start_is_one_sentence_on_the_page_and_leaves_nothing(context: AppContext) -> None:
    before = digests(context.library.root)
    for request in (ask(epochs=0), ask("gone"), ask(dataset="gone"), ask("gated", cbam="none")):
        with pytest.raises(UserError) as caught:
            start_training(context, partial(create_run, context, request), None)
        assert re.fullmatch(r"[^\n]+\.", str(caught.value))
    full = AppContext(context.library.root, limits=Limits(queue=1))
    (context.library.open("plain").path / QUEUED).write_text('{"time": 1, "resume": false}', encoding="utf-8")
    with (
        context.library.open("gated").training_lock(),
        pytest.raises(UserError, match=r"The queue is full \(1 trainings\)"),
    ):
        start_training(full, lambda: create_run(full, ask()), None)
    (context.library.open("plain").path / QUEUED).unlink()
    after = digests(context.library.root)
    assert {name: digest for name, digest in after.items() if not name.startswith(f"gated/{RESUME}")} == {
        name: digest for name, digest in before.items() if not name.startswith(f"gated/{RESUME}")
    }


# The suggestion


@pytest.fixture
def _four_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(range_module, "STEPS", 4)

    def apart(config: RunConfig, start: Path | None, *, seconds: float) -> Iterator[range_module.Point]:
        return range_module.points_here(config, start, 4)  # a process of its own takes seconds to start

    monkeypatch.setattr(range_module, "points_apart", apart)
    monkeypatch.setattr(range_module, "choose_device", lambda: torch.device("cpu"))


@pytest.mark.usefixtures("_four_steps")
@pytest.mark.parametrize(("start", "cbam"), [("plain", ""), ("plain", "stage"), ("gated", ""), (RANDOM, "")])
def test_a_range_test_starts_from_what_a_training_would_and_leaves_nothing(
    context: AppContext, tmp_path: Path, start: str, cbam: str
) -> None:
    before = digests(tmp_path)
    request = ask(start, cbam=cbam, strategy="full", batch_size=8, image_size=16, crop_padding=0)
    *told, (points, found) = filter(None, suggest(context, request))
    assert len(points) == 4
    assert [(len(so_far) / 4, nothing) for so_far, nothing in told] == [(share, None) for share in (0.25, 0.5, 0.75, 1)]
    assert found is None or found.backbone_lr == found.head_lr
    assert digests(tmp_path) == before


@pytest.mark.usefixtures("_four_steps")
def test_a_range_test_that_cannot_be_done_is_one_sentence_on_the_page(context: AppContext) -> None:
    Run.create(context.library.root / "untrained", RunConfig(OWN))
    for request in (ask(epochs=0), ask("gone"), ask(dataset="gone"), ask("untrained")):
        with pytest.raises(UserError) as caught:
            list(suggest(context, request))
        assert "\n" not in str(caught.value)


# The context: starts


def test_trained_runs_and_what_can_be_downloaded_are_starts(
    context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    Run.create(context.library.root / "untrained", RunConfig(OWN))
    names = [pretrained.name for pretrained in PRETRAINED]
    assert set(context.start_names()[:2]) == {"plain", "gated"}
    assert context.start_names()[2:] == names
    Hub(monkeypatch)
    context.start_run(RESNET18)
    assert sorted(context.start_names()) == sorted(["plain", "gated", *names])
    assert set(context.finetuned_names()) == {"plain", "gated", "untrained"}


def test_what_was_shipped_or_downloaded_was_not_made_here(context: AppContext) -> None:
    Run.create(context.library.root / BACKBONE, RunConfig(OWN))
    assert BACKBONE not in context.finetuned_names()


def test_a_start_has_its_model_before_and_after_its_weights_are_here(
    context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert context.start_model(RESNET18) == pretrained_model(RESNET18)
    hub = Hub(monkeypatch)
    run = context.start_run(RESNET18)
    assert hub.pulled == [(RESNET18, context.library.root)]
    assert context.start_model(RESNET18) == run.config.model == pretrained_model(RESNET18)
    assert context.start_model("plain") == OWN
    assert context.start_run("plain").path == context.library.root / "plain"


# The context: datasets


HUB_REF = DatasetRef("owner/pets", "small", COMMIT)


class HubOfData:
    """Describes any dataset as one with the configurations small and large, at COMMIT; its files are those of pets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.described: list[tuple[str, str | None]] = []
        self.read: list[tuple[str, str | None, str | None]] = []
        monkeypatch.setattr(datasets_module, "describe_dataset", self.describe)
        monkeypatch.setattr(hub_module, "known_dataset", self.known)
        monkeypatch.setattr(hub_module, "fetch_dataset", lambda known: split_files("pets"))

    def describe(self, repo_id: str, *, config: str | None = None) -> Any:
        self.described.append((repo_id, config))
        return SimpleNamespace(repo_id=repo_id, config=config or "small", revision=COMMIT)

    def known(self, ref: DatasetRef) -> Any:
        self.read.append((ref.name, ref.config, ref.revision))
        return SimpleNamespace(columns=columns_of_files(split_files("pets")["train"]))


def test_a_data_set_of_the_hub_is_pinned_to_its_commit_in_the_run(
    context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = HubOfData(monkeypatch)
    training = requested_config(context, ask(dataset="owner/pets")).training
    assert (training.dataset, training.dataset_config, training.dataset_revision) == ("owner/pets", "small", COMMIT)
    training = requested_config(context, ask(dataset="owner/pets#large")).training
    assert (training.dataset_config, training.dataset_revision) == ("large", COMMIT)
    assert hub.described == [("owner/pets", None), ("owner/pets", "large")]
    assert hub.read == [("owner/pets", "small", COMMIT), ("owner/pets", "large", COMMIT)]


def test_nobody_is_asked_about_a_data_set_that_is_here_or_pinned(context: AppContext) -> None:
    for ref in (DatasetRef("pets"), DatasetRef("gone"), HUB_REF):
        assert context.datasets.pinned(ref) == ref
    context.datasets.remember(HUB_REF)
    assert context.datasets.pinned(DatasetRef("owner/pets")) == HUB_REF
    assert context.datasets.pinned(DatasetRef("owner/pets", "small")) == HUB_REF


def test_another_configuration_than_the_remembered_is_asked_for(
    context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    context.datasets.remember(HUB_REF)
    hub = HubOfData(monkeypatch)
    assert context.datasets.pinned(DatasetRef("owner/pets", "large")) == replace(HUB_REF, config="large")
    assert context.datasets.pinned(DatasetRef("owner/dogs")) == replace(HUB_REF, name="owner/dogs")
    assert hub.described == [("owner/pets", "large"), ("owner/dogs", None)]


def test_data_sets_that_were_downloaded_are_offered_from_then_on(context: AppContext, tmp_path: Path) -> None:
    local = [("cifar10-mini", "cifar10-mini"), ("pets", "pets"), ("photos", "photos")]
    assert context.datasets.choices() == local
    newer, large = replace(HUB_REF, revision="a" * 40), replace(HUB_REF, config="large")
    for ref in (HUB_REF, large, newer):
        context.datasets.remember(ref)
    assert [ref for _, ref in context.datasets.choices()] == [*(ref for _, ref in local), str(large), str(newer)]
    again = AppContext(tmp_path / "checkpoints")  # after a restart
    assert again.datasets.choices() == context.datasets.choices()
    assert [DatasetRef.parse(ref) for _, ref in again.datasets.choices()[3:]] == [large, newer]


def test_two_configurations_of_a_data_set_can_be_told_apart(context: AppContext) -> None:
    context.datasets.remember(HUB_REF)
    context.datasets.remember(replace(HUB_REF, config="large"))
    labels = [label for label, _ in context.datasets.choices()]
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("content", ["", "{", "3", "[3]", "null", "\xff"])
def test_a_damaged_list_of_downloads_is_an_empty_one(context: AppContext, data_folder: Path, content: str) -> None:
    (data_folder / HUB_DATASETS).write_text(content, encoding="latin-1")
    assert [ref for _, ref in context.datasets.choices()] == ["cifar10-mini", "pets", "photos"]
    context.datasets.remember(HUB_REF)
    assert context.datasets.choices()[-1][1] == str(HUB_REF)


def test_a_data_set_is_read_once_however_often_it_is_looked_at(
    context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = context.datasets.summary(DatasetRef("pets"))
    assert (first.classes, first.counts, first.side) == (PETS, {"train": [20] * 3, "test": [2] * 3}, 20)
    monkeypatch.setattr(datasets_module, "summarise", None)
    assert context.datasets.summary(DatasetRef("pets")) is first
    with pytest.raises(TypeError):
        context.datasets.summary(DatasetRef("photos"))


def test_the_data_folder_is_the_environments_or_beside_the_runs(
    context: AppContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(tmp_path / "elsewhere"))
    assert context.datasets.folder == tmp_path / "elsewhere"
    monkeypatch.delenv(DATA_FOLDER_VARIABLE)
    assert context.datasets.folder == tmp_path / "data"


# What one does next with a run


def ended(run: Run, status: str, **more: str) -> Run:
    run.append_metric({"event": "start", "epochs": 1, "steps_per_epoch": 1})
    run.append_metric({"event": "end", "status": status, "time": 1.0, **more})
    (run.path / STATE).touch()
    return run


@pytest.mark.parametrize(
    ("status", "label", "settings", "takes_epochs"),
    [
        (Status("new"), "Train it", None, False),
        (Status("stopped"), "Resume", None, True),
        (Status("finished"), "Train longer", None, True),
        (Status("failed", "Killed."), "Resume", None, False),
        (Status("failed", "", "memory"), "Retry with batch size 32", {"batch_size": 32}, False),
        (
            Status("failed", "", "loss"),
            "Retry with a tenth of the learning rates",
            {"backbone_lr": pytest.approx(0.005), "head_lr": pytest.approx(0.005)},
            False,
        ),
    ],
)
def test_what_is_offered_next_follows_from_how_a_run_ended(
    context: AppContext, status: Status, label: str, settings: dict[str, Any] | None, takes_epochs: bool
) -> None:
    run = context.library.open("plain")
    (run.path / RESUME).mkdir(exist_ok=True)
    (run.path / STATE).touch()
    assert next_try(run, status) == NextTry(label, settings, takes_epochs)


@pytest.mark.parametrize("state", ["starting", "training", "stopping", "queued"])
def test_nothing_is_offered_for_a_run_that_trains_or_waits(context: AppContext, state: Any) -> None:
    assert next_try(context.library.open("plain"), Status(state)) is None


def test_without_its_state_a_failed_run_is_tried_anew_and_others_cannot_go_on(context: AppContext) -> None:
    run = context.library.open("plain")
    assert next_try(run, Status("failed", "There is no such dataset.")) == NextTry("Retry", {})
    assert next_try(run, Status("finished")) is next_try(run, Status("stopped")) is None


@pytest.fixture
def started(context: AppContext, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """(name, resume) of the trainings that would have been started."""
    found: list[tuple[str, bool]] = []
    monkeypatch.setattr(context.trainer, "_spawn", lambda run, resume: found.append((run.name, resume)))
    return found


def test_a_stopped_run_goes_on_as_it_was_or_for_longer(context: AppContext, started: list[tuple[str, bool]]) -> None:
    run = ended(create_run(context, ask(epochs=4)), "stopped")
    assert go_on(context, run.name, None, 0).name == run.name
    assert context.library.open(run.name).config == run.config
    go_on(context, run.name, None, 3.0)  # as a page sends it
    assert context.library.open(run.name).config.training.more_epochs == (3,)
    assert started == [(run.name, True), (run.name, True)]


def test_a_finished_run_goes_on_only_for_longer(context: AppContext, started: list[tuple[str, bool]]) -> None:
    run = ended(create_run(context, ask(epochs=4)), "finished")
    for epochs in (0, None, "many", -1):
        with pytest.raises(UserError, match="enter how many more to train, at least 1"):
            go_on(context, run.name, None, epochs)
    with pytest.raises(UserError, match=r"^The number of added epochs must be .*, not 5000\."):
        go_on(context, run.name, None, 5000)
    assert context.library.open(run.name).config == run.config
    assert started == []
    go_on(context, run.name, None, 2)
    assert started == [(run.name, True)]


def test_a_retry_is_a_new_run_of_the_same_start_with_what_failed_changed(
    context: AppContext, started: list[tuple[str, bool]]
) -> None:
    run = ended(create_run(context, ask(batch_size=16)), "failed", reason="Full.", cause="memory")
    again = go_on(context, run.name, None, 0)
    assert again.config == replace(run.config, training=replace(run.config.training, batch_size=8))
    assert (again.path / START_WEIGHTS).read_bytes() == (run.path / START_WEIGHTS).read_bytes()
    assert started == [(again.name, False)]
    assert context.library.open(run.name).metrics()[-1]["status"] == "failed"  # it stays as it is


def test_what_came_with_the_app_or_is_gone_cannot_go_on(context: AppContext, started: list[tuple[str, bool]]) -> None:
    trained(context, BACKBONE, OWN)
    for name, why in ((BACKBONE, "comes with the app"), ("gone", "no run named gone"), (None, "Choose a run first")):
        with pytest.raises(UserError, match=why):
            go_on(context, name, None, 1)
    assert started == []


# On an app that others use


@pytest.fixture
def public(context: AppContext) -> AppContext:
    limited = AppContext(context.library.root, public=True, limits=Limits(epochs=5, images=60))
    limited.trainer._spawn = lambda run, resume: None  # pyrefly: ignore[method-assign]
    limited.claim(limited.datasets.folder / "pets" / DATASET_OWNER, "my key")
    return limited


def test_a_started_run_is_the_visitors(public: AppContext) -> None:
    run = start_training(public, lambda: create_run(public, ask(epochs=2, key="my key")), "my key")
    assert visitors.owns(run.path / OWNER, "my key")
    with pytest.raises(UserError, match="is not yours"):
        go_on(public, run.name, "another key", 1)
    with pytest.raises(UserError, match="has not identified you yet"):
        start_training(public, lambda: create_run(public, ask(epochs=2, key=None)), None)
    other = start_training(public, lambda: create_comparison(public, run.name, "my key"), "my key")
    assert visitors.owns(other.path / OWNER, "my key")


@pytest.mark.parametrize("key", [None, "", "another key", "\ud800", 5, ["my key"]])
def test_a_stranger_neither_sees_nor_learns_from_anothers_pictures_nor_is_told_their_name(
    public: AppContext, key: Any
) -> None:
    run = start_training(public, lambda: create_run(public, ask(epochs=2, key="my key")), "my key")
    for ask_for in (
        lambda: requested_config(public, ask(key=key)),
        lambda: requested_plan(public, ask(key=key)),
        lambda: proposal_for(public, "pets", key),
        lambda: create_comparison(public, run.name, key),  # whose address they were given
        lambda: split_counts(public, key, "pets"),
    ):
        with pytest.raises(
            (UserError, gr.Error), match="There is no dataset named 'pets': choose one of cifar10-mini,"
        ):
            ask_for()
    with pytest.raises(UserError) as refused:
        public.datasets.named("gone", key)
    assert "pets" not in str(refused.value)
    assert public.datasets.named("pets", "my key") == DatasetRef("pets")


@pytest.mark.parametrize("key", [5, "\ud800", "half \ufffd", ["key"], "k" * 201, {"key": 1}])
def test_a_key_by_which_nobody_could_be_known_is_refused_before_anything_is_made(public: AppContext, key: Any) -> None:
    before = sorted(public.library.root.iterdir())
    with pytest.raises(UserError, match="The key must be a text of 1 to 200 characters"):
        start_training(public, lambda: create_run(public, ask(epochs=2, dataset="cifar10-mini")), key)
    assert sorted(public.library.root.iterdir()) == before


def test_one_address_takes_a_third_of_the_places_for_trainings(public: AppContext) -> None:
    public.limits = Limits(queue=8)

    def start() -> Run:
        run = start_training(public, lambda: create_run(public, ask(key="my key")), "my key")
        (run.path / QUEUED).write_text('{"time": 0, "resume": false}')
        return run

    with visitors.asked_by("192.0.2.1"):
        runs = [start() for _ in range(3)]
        with pytest.raises(
            UserError, match="3 trainings from your address are running or queued: wait until one has finished"
        ):
            start()
        with visitors.asked_by("192.0.2.2"):
            start()
        public.trainer.stop(runs[0])
        start()


def test_limits_are_kept_by_everything_that_starts_a_training(public: AppContext) -> None:
    before = {run.name for run in public.library.runs()}
    with pytest.raises(UserError, match="6 epochs exceed the limit of 5"):
        start_training(public, lambda: create_run(public, ask(epochs=6, key="my key")), "my key")
    assert {run.name for run in public.library.runs()} == before
    run = ended(start_training(public, lambda: create_run(public, ask(epochs=4, key="my key")), "my key"), "finished")
    with pytest.raises(UserError, match="6 epochs exceed the limit"):
        go_on(public, run.name, "my key", 2)
    public.limits = Limits(images=59)
    with pytest.raises(UserError, match="60 training images, above this app's limit of 59"):
        start_training(public, lambda: create_comparison(public, run.name, "my key"), "my key")
