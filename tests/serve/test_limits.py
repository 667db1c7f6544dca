import re
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig, TrainConfig
from resnet_space.data.summary import image_settings
from resnet_space.models.registry import entries
from resnet_space.serve import limits as limits_module
from resnet_space.serve.limits import PUBLIC, VARIABLES, Limits

TRAINING = TrainConfig(dataset="-", epochs=10)


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES.values():
        monkeypatch.delenv(name, raising=False)


def test_without_variables_a_public_app_has_limits_and_ones_own_has_none() -> None:
    assert Limits.from_environment(public=False) == Limits()
    assert Limits.from_environment(public=True) == PUBLIC
    assert all(value for value in vars(PUBLIC).values())


@pytest.mark.parametrize("public", [False, True])
def test_each_variable_sets_its_own_limit(public: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Limits.from_environment(public=public)
    for field, name in VARIABLES.items():
        with monkeypatch.context() as patch:
            patch.setenv(name, "7")
            assert Limits.from_environment(public=public) == replace(plain, **{field: 7})


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", "٣"])
def test_what_is_no_whole_number_above_zero_is_refused_by_the_variables_name(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLES["minutes"], text)
    with pytest.raises(UserError, match=rf"^{VARIABLES['minutes']} must be a whole number above 0, not '{text}'"):
        Limits.from_environment(public=True)


def test_the_hosting_page_has_every_variable_with_what_a_public_app_has_without_it() -> None:
    page = (Path(__file__).parents[2] / "docs" / "hosting.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(RESNET_SPACE_\w+)` \|.*\| ([^|]+) \| (?:any|what fits) \|$", page, re.M))
    assert rows == {VARIABLES[name]: f"{value:,}" for name, value in asdict(PUBLIC).items()}


def test_a_training_within_its_limits_is_let_through() -> None:
    Limits().check(replace(TRAINING, epochs=1_000), 10**9)
    Limits(epochs=10, images=2_000).check(TRAINING, 2_000)


RESNET18 = ModelConfig("resnet18", ("a", "b"), image_size=224)


def test_a_batch_that_takes_too_much_memory_is_refused_with_the_largest_that_fits() -> None:
    for limits in (Limits(batch_mb=1_000), Limits(batch_mb=1)):
        with pytest.raises(UserError, match=r"^A batch of 1,024 images at 224 px needs about 40\.7 GB with ") as caught:
            limits.check(replace(TRAINING, batch_size=1_024), 1, RESNET18)
        fits = re.search(r"a batch size of at most (\d+)", str(caught.value))
        if limits.batch_mb == 1:
            assert fits is None
            continue
        assert fits
        limits.check(replace(TRAINING, batch_size=int(fits[1])), 1, RESNET18)
        with pytest.raises(UserError):
            limits.check(replace(TRAINING, batch_size=int(fits[1]) + 1), 1, RESNET18)


@pytest.mark.parametrize(("gpus", "refused"), [(0, True), (1, False)])
def test_on_ones_own_machine_a_batch_may_take_what_the_memory_holds(
    gpus: int, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits_module, "memory_bytes", lambda: 4_000_000_000)
    monkeypatch.setattr(limits_module, "nvidia_gpus", lambda: gpus)
    Limits().check(replace(TRAINING, batch_size=100), 1, RESNET18)  # 3.97 GB
    with pytest.raises(UserError, match=r"this machine has only 4\.0 GB") if refused else nullcontext():
        Limits().check(replace(TRAINING, batch_size=101), 1, RESNET18)


@pytest.mark.parametrize(
    ("architecture", "side"),
    [(name, 224 if entry.timm else 64) for name, entry in entries().items()] + [("resnet32", 224)],
)
def test_what_the_form_proposes_is_within_a_public_apps_limit(architecture: str, side: int) -> None:
    plain = ModelConfig(architecture, ("a", "b"))
    model, settings = image_settings(side, plain)
    training = replace(TRAINING, batch_size=settings["batch_size"])
    too_large = architecture == "tf_efficientnet_b7"  # of B6, two steps take 5.5 GB
    with pytest.raises(UserError, match="this app allows only 6") if too_large else nullcontext():
        PUBLIC.check(training, 1, model)


def test_too_many_epochs_or_images_are_refused_with_what_is_allowed() -> None:
    with pytest.raises(UserError, match=r"^10 epochs exceed the limit of 9 on this app\.$"):
        Limits(epochs=9).check(TRAINING, 1)
    with pytest.raises(UserError, match=r"^12 epochs"):
        Limits(epochs=10).check(replace(TRAINING, more_epochs=(2,)), 1)
    with pytest.raises(UserError, match=r"^The dataset has 2,001 training images, above this app's limit of 2,000"):
        Limits(images=2_000).check(TRAINING, 2_001)
