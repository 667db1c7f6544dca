import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from resnet_space.config import ConfigError, TrainConfig
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
    with pytest.raises(ConfigError, match=rf"^{VARIABLES['minutes']} is '{text}', but must be a whole number above 0"):
        Limits.from_environment(public=True)


def test_the_readme_tells_every_variable_with_what_a_public_app_has_without_it() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(RESNET_SPACE_\w+)` \|.*\| ([^|]+) \| any \|$", readme, re.M))
    assert rows == {VARIABLES[name]: f"{value:,}" for name, value in asdict(PUBLIC).items()}


def test_a_training_within_its_limits_is_let_through() -> None:
    Limits().check(replace(TRAINING, epochs=1_000), 10**9)
    Limits(epochs=10, images=2_000).check(TRAINING, 2_000)


def test_too_many_epochs_or_images_are_refused_with_what_is_allowed() -> None:
    with pytest.raises(ConfigError, match=r"^10 epochs are asked for, but here at most 9 may be\.$"):
        Limits(epochs=9).check(TRAINING, 1)
    with pytest.raises(ConfigError, match=r"^12 epochs"):
        Limits(epochs=10).check(replace(TRAINING, more_epochs=(2,)), 1)
    with pytest.raises(ConfigError, match=r"^The data set has 2,001 training images, but here at most 2,000 may be"):
        Limits(images=2_000).check(TRAINING, 2_001)
