"""What is proposed, as a pure function: no files, no torch, no machine."""

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig, TrainConfig, imagenet_config
from resnet_space.data.reference import DatasetRef
from resnet_space.data.summary import DatasetSummary, cautions
from resnet_space.training.proposal import (
    BUDGET_SECONDS,
    DATA_SETTINGS,
    LEAST_EPOCHS,
    STRATEGY_SETTINGS,
    Proposal,
    propose,
    rough_duration,
    settings_for,
)
from resnet_space.training.speeds import Speeds
from resnet_space.training.strategies import STRATEGIES, recipe

PHOTO, SMALL, RESNET18 = "lite0", "small", "resnet18.tv_in1k"
LITE0 = imagenet_config("tf_efficientnet_lite0", resize=256)
STARTS = {
    PHOTO: LITE0,
    SMALL: ModelConfig("resnet20", ("a", "b"), {"cbam": "stage"}),
    RESNET18: imagenet_config("resnet18"),
}
LITE, TWENTY = ("tf_efficientnet_lite0", 224), ("resnet20", 32)
CPU = Speeds(
    launch=3.0,  # and as long again for what is loaded and written besides
    features={LITE: 90.0, TWENTY: 1_500.0},
    steps={TWENTY: 450.0},
    solving={LITE: 50_000.0, TWENTY: 500_000.0},
)
SLOW = replace(CPU, features={LITE: 9.0, TWENTY: 150.0}, steps={TWENTY: 45.0})


def data(side: int, train: list[int], *, decoding: float = 0.005, **others: list[int]) -> DatasetSummary:
    classes = tuple(f"class {i}" for i in range(len(train)))
    return DatasetSummary(DatasetRef("mine"), classes, {"train": train} | others, side, [], (), decoding)


INSECTS = data(330, [122, 121], validation=[70, 83])
MINI = data(32, [200] * 10, test=[100] * 10, decoding=0.0002)


def test_photographs_go_through_the_frozen_photograph_network_and_get_a_solved_head() -> None:
    proposal = propose(INSECTS, STARTS, CPU)
    assert (proposal.start, proposal.strategy, proposal.architecture) == (
        PHOTO,
        "linear-probe",
        "tf_efficientnet_lite0",
    )
    # 6 s until it decodes, 396 images at 5 ms and at 90 a second, 219 images of 2 classes at 50,000.
    assert proposal.seconds == pytest.approx(6 + 396 * 0.005 + 396 / 90 + 218 * 2 / 50_000, abs=0.01)
    assert proposal.reason == (
        "243 photographs, 2 classes: keep EfficientNet-Lite0 frozen and fit a new head, as its features already suit "
        "photographs. About 10 s on this CPU."
    )
    # Nothing may be drawn anew each epoch, or no feature could be kept.
    settings = proposal.settings
    assert (settings["crop"], settings["crop_padding"], settings["flip"]) == ("padded", 0, False)
    assert (settings["image_size"], settings["optimizer"], settings["epochs"]) == (224, "l-bfgs", 1)


def test_small_images_go_to_the_backbone_for_them_which_is_fine_tuned_where_there_is_time() -> None:
    proposal = propose(MINI, STARTS, CPU)
    assert (proposal.start, proposal.strategy) == (SMALL, "probe-then-fine-tune")
    assert (proposal.settings["image_size"], proposal.settings["batch_size"]) == (32, 64)
    epochs = recipe("probe-then-fine-tune", "-").epochs
    assert proposal.settings["epochs"] == epochs
    fine_tuning = (epochs - 1) * (1_800 / 450 + 200 / 1_500)  # the first of them solves the head
    seconds = 6 + 3_000 * (0.0002 + 1 / 1_500) + 1_800 * 10 / 500_000 + fine_tuning
    assert proposal.seconds == pytest.approx(seconds, abs=0.05)
    assert proposal.reason == (
        f"2,000 images of 32 pixels, 10 classes: fit a new head on ResNet-20, then fine-tune all layers for "
        f"{epochs - 1} epochs: small images train fast. About {rough_duration(seconds)} on this CPU."
    )
    assert proposal.more == ""


@pytest.mark.parametrize(
    ("name", "strategy", "pixels", "words"),
    [
        ("resnet18", "probe-then-fine-tune", 32, "ResNet-18, adapted to small images"),
        ("alexnet", "probe-then-fine-tune", 32, "AlexNet, adapted to small images"),
        ("vit_small_patch16_224", "probe-then-fine-tune", 32, "ViT-Small, adapted to small images"),
        ("vgg16", "last-stage", 32, "VGG-16, adapted to small images"),
        ("inception_v3", "linear-probe", 299, "keep Inception V3 frozen"),
    ],
)
def test_a_start_for_photographs_is_adapted_to_small_images_where_its_network_can_be(
    name: str, strategy: str, pixels: int, words: str
) -> None:
    proposal = propose(MINI, {name: imagenet_config(name)}, CPU, chosen={"start": name})
    assert (proposal.strategy, proposal.settings["image_size"]) == (strategy, pixels)
    assert words in proposal.reason
    photographs = propose(INSECTS, {name: imagenet_config(name)}, CPU, chosen={"start": name})
    assert photographs.settings["image_size"] == imagenet_config(name).input_size
    assert "adapted" not in photographs.reason


def test_on_a_slower_machine_it_is_fine_tuned_for_fewer_epochs_and_still_says_how_long() -> None:
    usual = recipe("probe-then-fine-tune", "-").epochs
    slower = replace(CPU, steps={TWENTY: 180.0})
    proposal = propose(MINI, STARTS, slower)
    assert LEAST_EPOCHS < proposal.settings["epochs"] < usual
    assert proposal.seconds is not None
    assert BUDGET_SECONDS - 11 < proposal.seconds <= BUDGET_SECONDS
    slowest = propose(MINI, STARTS, replace(CPU, steps={TWENTY: 60.0}))
    assert (slowest.strategy, slowest.settings["epochs"]) == ("probe-then-fine-tune", LEAST_EPOCHS)
    assert "About 2 min" in slowest.reason  # honest, though it is more than a minute


def test_where_fine_tuning_takes_too_long_the_head_alone_is_solved_and_it_is_said_what_more_time_would_buy() -> None:
    cifar = data(32, [5_000] * 10, test=[1_000] * 10, decoding=0.0002)
    proposal = propose(cifar, STARTS, CPU)
    assert (proposal.start, proposal.strategy) == (SMALL, "linear-probe")
    assert "About 60 s" in proposal.reason
    minutes = round((60 + (recipe("probe-then-fine-tune", "-").epochs - 1) * (45_000 / 450 + 5_000 / 1_500)) / 60)
    assert proposal.more == f"Fine-tuning all layers would take about {minutes} min and gain a few points."


def test_ten_photographs_a_class_have_a_batch_that_they_fill() -> None:
    few = data(500, [10, 10])
    proposal = propose(few, STARTS, CPU)
    assert (proposal.start, proposal.strategy) == (PHOTO, "linear-probe")
    # 4 of the 20 are kept to test with, and 1.6 of the rest to choose by.
    assert proposal.settings["batch_size"] == 8
    assert proposal.more == "More photographs per class would help more than a longer training."
    assert propose(data(500, [20, 20]), STARTS, CPU).more == ""  # 92.7 % with 10 of each, 93.5 % with 20 and with 40
    training = TrainConfig("mine", start=PHOTO, **{k: v for k, v in proposal.settings.items() if k != "image_size"})
    assert not any("A batch of" in sentence for sentence in cautions(few, LITE0, training))


def test_twenty_thousand_photographs_are_told_to_take_minutes_and_where_they_go() -> None:
    many = data(500, [2_000] * 10)
    proposal = propose(many, STARTS, replace(CPU, features=CPU.features | {LITE: 45.0}))
    assert proposal.strategy == "linear-probe"
    assert proposal.seconds == pytest.approx(6 + 20_000 * (0.005 + 1 / 45) + 14_400 * 10 / 50_000, rel=0.01)
    assert proposal.reason.endswith(". About 9 min on this CPU.")
    assert "one pass over the images" in proposal.more


def test_a_thousand_classes_count_when_a_head_is_solved() -> None:
    one, thousand = (propose(data(500, counts), STARTS, CPU) for counts in ([5_000, 5_000], [10] * 1_000))
    assert (one.start, thousand.start) == (PHOTO, PHOTO)
    assert thousand.seconds - one.seconds == pytest.approx(7_200 * 998 / 50_000, rel=0.01)
    assert "10,000 photographs, 1,000 classes:" in thousand.reason


def test_before_this_machine_was_timed_no_time_is_told() -> None:
    for summary, strategy in ((INSECTS, "linear-probe"), (MINI, "probe-then-fine-tune")):
        proposal = propose(summary, STARTS, Speeds())
        assert (proposal.strategy, proposal.seconds) == (strategy, None)
        assert proposal.reason.endswith(". The speed of this machine is not measured yet.")
    cifar = data(32, [5_000] * 10, test=[1_000] * 10)  # perhaps ten minutes an epoch
    assert propose(cifar, STARTS, Speeds()).strategy == "linear-probe"


def test_on_a_gpu_it_says_so() -> None:
    gpu = replace(CPU, device="cuda", features={LITE: 5_000.0, TWENTY: 50_000.0}, steps={TWENTY: 20_000.0})
    assert propose(INSECTS, STARTS, gpu).reason.endswith(". About 10 s on this GPU.")
    cifar = data(32, [5_000] * 10, test=[1_000] * 10, decoding=0.0001)
    proposal = propose(cifar, STARTS, gpu)
    usual = recipe("probe-then-fine-tune", "-").epochs
    assert (proposal.strategy, proposal.settings["epochs"]) == ("probe-then-fine-tune", usual)


@pytest.mark.parametrize(
    ("summary", "starts", "expected"),
    [
        (INSECTS, {}, (None, "full", 32)),
        (MINI, {}, (None, "full", 32)),
        (MINI, {PHOTO: LITE0}, (None, "full", 32)),  # 224 pixels of each image would be slow
        # At its own size, where its features are better: 81.7 % of the insects, 72.5 % at 96 pixels.
        (INSECTS, {SMALL: STARTS[SMALL]}, (SMALL, "probe-then-fine-tune", 32)),
        (INSECTS, {RESNET18: STARTS[RESNET18]}, (RESNET18, "linear-probe", 224)),
    ],
)
def test_with_other_weights_at_hand_the_best_of_these_is_taken(
    summary: DatasetSummary, starts: dict[str, ModelConfig], expected: tuple[Any, ...]
) -> None:
    proposal = propose(summary, starts, Speeds())
    assert (proposal.start, proposal.strategy, proposal.settings["image_size"]) == expected
    if proposal.start is None:
        assert (proposal.architecture, proposal.cbam) == ("resnet20", "stage")


def test_what_was_chosen_already_stays_and_the_rest_suits_it() -> None:
    chosen = propose(INSECTS, STARTS, CPU, chosen={"start": RESNET18})
    assert (chosen.start, chosen.strategy, chosen.settings["image_size"]) == (RESNET18, "linear-probe", 224)
    assert "ResNet-18 frozen" in chosen.reason
    chosen = propose(INSECTS, STARTS, CPU, chosen={"strategy": "last-stage"})
    assert (chosen.start, chosen.strategy, chosen.settings["head_lr"]) == (PHOTO, "last-stage", 1e-3)
    assert (chosen.settings["crop"], chosen.settings["flip"], chosen.settings["epochs"]) == ("resized", True, 10)
    assert chosen.seconds is None  # the pace of its steps is not known
    chosen = propose(MINI, STARTS, CPU, chosen={"start": None, "architecture": "resnet56", "cbam": "none"})
    assert (chosen.start, chosen.architecture, chosen.cbam, chosen.strategy) == (None, "resnet56", "none", "full")
    assert "ResNet-56 from random initialisation" in chosen.reason
    for wrong in ({"strategy": "magic"}, {"start": None, "architecture": "vgg"}):
        with pytest.raises(UserError):
            propose(MINI, STARTS, CPU, chosen=wrong)


def test_no_more_epochs_are_proposed_than_may_be() -> None:
    assert propose(MINI, STARTS, CPU, most_epochs=3).settings["epochs"] == 3


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(("summary", "start"), [(INSECTS, PHOTO), (MINI, SMALL), (INSECTS, SMALL)])
def test_a_strategy_has_its_recipe_and_is_only_augmented_where_that_is_its_idea(
    strategy: str, summary: DatasetSummary, start: str
) -> None:
    settings = settings_for(summary, STARTS[start], strategy)
    own = recipe(strategy, "-")
    assert set(settings) == {*STRATEGY_SETTINGS, *DATA_SETTINGS, "epochs"}
    same = set(STRATEGY_SETTINGS) - {"crop"}
    assert {name: settings[name] for name in same} == {name: getattr(own, name) for name in same}
    frozen = strategy in ("linear-probe", "attention")
    assert settings["crop"] == ("resized" if start == PHOTO and not frozen else "padded")
    assert settings["image_size"] == (224 if start == PHOTO else 32)


def test_all_that_is_proposed_is_plain_json() -> None:
    told = propose(INSECTS, STARTS, CPU).to_json()
    assert {"start", "architecture", "cbam", "strategy", "epochs", "head_lr", "seconds", "reason", "more"} <= set(told)
    assert all(isinstance(value, str | int | float | bool | None) for value in told.values())
    assert isinstance(Proposal(None, "resnet20", "", "full", {}, None, "").to_json()["seconds"], type(None))


def test_a_proposal_needs_no_torch() -> None:
    program = "import sys; import resnet_space.training.proposal; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1, "5 s"), (12.4, "10 s"), (98, "100 s"), (101, "2 min"), (3_000, "50 min"), (9_000, "2.5 h")],
)
def test_a_time_is_told_as_exactly_as_it_is_known(seconds: float, words: str) -> None:
    assert rough_duration(seconds) == words
