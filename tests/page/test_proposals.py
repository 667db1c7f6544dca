"""What the form proposes, by its fields, and what of it is the visitor's own."""

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig, RunConfig, imagenet_config
from resnet_space.data.sources import DATA_FOLDER_VARIABLE
from resnet_space.runs import BACKBONE, PHOTO_BACKBONE, Run
from resnet_space.serve.context import AppContext
from resnet_space.training.proposal import Proposal
from resnet_space.training.strategies import STRATEGIES
from resnet_space.ui.finetune.entries import own_fields
from resnet_space.ui.finetune.form import MODEL_SETTINGS, Request, requested_config, training_fields
from resnet_space.ui.finetune.proposals import (
    deviates,
    form_values,
    proposal_for,
    recommendation_html,
    whole_form,
)
from resnet_space.ui.finetune.status import RANDOM
from tests.conftest import WriteSplit


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_split: WriteSplit) -> AppContext:
    """With both backbones, and a data set of photographs: `pond`."""
    files = []
    for i in range(40):
        file = io.BytesIO()
        Image.new("RGB", (300, 260), (6 * i, 80, 90)).save(file, "JPEG")
        files.append(file.getvalue())
    write_split(tmp_path / "data" / "pond", "train", files, [i % 2 for i in range(40)], ("fish", "frogs"))
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(tmp_path / "data"))
    context = AppContext(tmp_path / "checkpoints")
    models = {
        BACKBONE: ModelConfig("resnet20", ("a", "b"), {"cbam": "stage"}),
        PHOTO_BACKBONE: imagenet_config("tf_efficientnet_lite0", resize=256),
    }
    for name, model in models.items():
        Run.create(context.library.root / name, RunConfig(model)).save_weights({"x": torch.zeros(1)})
    return context


def request_of(values: dict[str, Any], dataset: str) -> Request:
    settings = {name: value for name, value in values.items() if name not in ("start", "architecture", "cbam")}
    return Request(values["start"], dataset, values["architecture"], values["cbam"], settings)


@pytest.mark.parametrize(
    ("dataset", "start", "strategy", "size"),
    [
        ("pond", PHOTO_BACKBONE, "linear-probe", 224),
        ("cifar10-mini", BACKBONE, "probe-then-fine-tune", 32),
    ],
)
def test_what_is_proposed_can_be_trained_as_it_is(
    context: AppContext, dataset: str, start: str, strategy: str, size: int
) -> None:
    proposal = proposal_for(context, dataset, None)
    values = form_values(proposal)
    config = requested_config(context, request_of(values, dataset))
    assert (config.training.start, config.training.strategy, config.model.image_size) == (start, strategy, size)
    assert {name: getattr(config.training, name) for name in proposal.settings if name != "image_size"} == {
        name: value for name, value in proposal.settings.items() if name != "image_size"
    }
    whole = requested_config(context, request_of(whole_form(proposal), dataset))
    assert whole == config


def test_a_solved_head_on_photographs_looks_at_the_same_pixels_each_time(context: AppContext) -> None:
    training = requested_config(context, request_of(form_values(proposal_for(context, "pond", None)), "pond")).training
    assert (training.crop, training.crop_padding, training.flip) == ("padded", 0, False)


def test_random_initialisation_has_an_architecture_of_its_own_and_a_start_has_not(context: AppContext) -> None:
    chosen = {"start": RANDOM, "architecture": "resnet32"}
    values = form_values(proposal_for(context, "pond", None, chosen))
    assert (values["start"], values["architecture"], values["strategy"]) == (RANDOM, "resnet32", "full")
    assert requested_config(context, request_of(values, "pond")).training.strategy == "scratch"
    others: dict[str, Any] = {"start": BACKBONE, "architecture": "resnet32", "cbam": "", "strategy": None}
    assert form_values(proposal_for(context, "pond", None, others))["architecture"] == "resnet20"


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "scratch"])
@pytest.mark.parametrize("start", [BACKBONE, PHOTO_BACKBONE, RANDOM])
def test_any_start_with_any_strategy_gets_settings_that_can_be_trained(
    context: AppContext, start: str, strategy: str
) -> None:
    values = form_values(proposal_for(context, "pond", None, {"start": start, "strategy": strategy}))
    config = requested_config(context, request_of(values, "pond"))
    assert config.model.image_size == (224 if start == PHOTO_BACKBONE else 32)
    assert config.training.strategy == ("scratch" if (start, strategy) == (RANDOM, "full") else strategy)


def test_what_is_not_there_is_refused_in_a_sentence(context: AppContext) -> None:
    for dataset, chosen in (("gone", {}), ("pond", {"start": "gone"}), ("pond", {"strategy": "magic"})):
        with pytest.raises(UserError) as caught:
            proposal_for(context, dataset, None, chosen)
        assert str(caught.value).endswith(".")


def test_a_form_deviates_where_anything_but_the_seed_is_not_as_it_is_recommended(context: AppContext) -> None:
    proposal = proposal_for(context, "cifar10-mini", None)
    values = training_fields() | dict.fromkeys(MODEL_SETTINGS, "") | form_values(proposal)
    assert not deviates(values, proposal)
    assert not deviates(values | {"seed": 7, "validation_fraction": 0.3}, proposal)
    assert not deviates(values | {"epochs": float(values["epochs"])}, proposal)  # as the page sends it
    assert not deviates(values | {"architecture": "resnet56"}, proposal)  # nobody sees it beside a start
    for name, value in {"epochs": 3, "start": RANDOM, "strategy": "full", "mixup": 0.2, "image_size": 64}.items():
        assert deviates(values | {name: value}, proposal), name
    assert not {"seed", "validation_fraction", "dataset"} & set(whole_form(proposal))


def test_what_a_visitor_has_set_is_what_is_not_as_it_was_proposed_last() -> None:
    seen = {"epochs": 3, "head_lr": 0.05, "flip": False, "new": 1}
    before = {"epochs": 10, "head_lr": 0.05, "flip": True}
    assert own_fields(seen, before) == {"epochs": 3, "flip": False}
    assert own_fields(seen, None) == own_fields(seen, "x") == {}


def test_the_recommendation_is_text() -> None:
    proposal = Proposal(None, "resnet20", "", "full", {}, None, "<b>2</b> classes.", "More & more.")
    assert recommendation_html(proposal) == (
        '<p class="recommended">&lt;b&gt;2&lt;/b&gt; classes. <span class="subdued">More &amp; more.</span></p>'
    )
