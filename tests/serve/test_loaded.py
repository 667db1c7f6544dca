import os
import threading
from pathlib import Path

import pytest
import torch

from resnet_space import inference
from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig, RunConfig
from resnet_space.inference import Classifier
from resnet_space.runs import CONFIG, PHOTO_BACKBONE, SHOWPIECE, Run
from resnet_space.serve.context import AppContext
from resnet_space.serve.loaded import LoadedModels

SHIPPED_RUNS = Path(__file__).parents[2] / "checkpoints"


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    """Three of equal size."""
    made = []
    for name in ("one", "two", "three"):
        run = Run.create(tmp_path / name, RunConfig(ModelConfig("resnet20", ("a", "b"))))
        torch.manual_seed(0)
        run.save_weights(run.config.model.build().state_dict())
        made.append(run)
    return made


def test_a_model_is_loaded_once_however_many_ask_at_the_same_time(
    runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = []

    class Counted(Classifier):
        def __init__(self, run: Run) -> None:
            loads.append(run.name)
            super().__init__(run)

    monkeypatch.setattr(inference, "Classifier", Counted)
    models, found = LoadedModels(), []
    threads = [threading.Thread(target=lambda: found.append(models.get(runs[0]))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads == ["one"]
    assert len(found) == 8
    assert len(set(map(id, found))) == 1


def test_the_least_recently_used_goes_where_there_are_too_many_bytes(runs: list[Run]) -> None:
    size = Classifier(runs[0]).nbytes
    assert size == sum(value.nbytes for value in runs[0].load_model().state_dict().values())
    models = LoadedModels(2 * size)
    first, _, _ = models.get(runs[0]), models.get(runs[1]), models.get(runs[0])
    models.get(runs[2])
    assert models.names() == ["one", "three"]
    assert models.nbytes == 2 * size
    assert models.get(runs[0]) is first


def test_one_that_is_larger_than_the_limit_is_kept_alone(runs: list[Run]) -> None:
    models = LoadedModels(1)
    for run in runs:
        kept = models.get(run)
        assert models.get(run) is kept
        assert models.names() == [run.name]


def test_others_are_used_while_one_is_loaded(runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()

    class Slow(Classifier):
        def __init__(self, run: Run) -> None:
            if run.name == "two":
                begun.set()
                assert go_on.wait(30)
            super().__init__(run)

    monkeypatch.setattr(inference, "Classifier", Slow)
    models = LoadedModels()
    known = models.get(runs[0])
    loading = threading.Thread(target=models.get, args=(runs[1],))
    loading.start()
    assert begun.wait(30)
    assert models.get(runs[0]) is known  # else this waits for ever
    assert models.get(runs[2]) is not known
    go_on.set()
    loading.join()
    assert models.names() == ["two", "one", "three"]


def test_new_weights_or_another_temperature_are_loaded_in_the_place_of_the_old(runs: list[Run]) -> None:
    models = LoadedModels()
    old = models.get(runs[0])
    os.utime(runs[0].path / CONFIG, (1, 1))
    new = models.get(runs[0])
    assert new is not old
    assert models.names() == ["one"]
    assert models.get(runs[0]) is new


def test_a_run_that_cannot_be_loaded_is_tried_again(runs: list[Run]) -> None:
    models = LoadedModels()
    weights = runs[0].path / "model.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(b"no")
    for _ in range(2):
        with pytest.raises(UserError):
            models.get(runs[0])
    weights.write_bytes(kept)
    assert isinstance(models.get(runs[0]), Classifier)


def test_the_models_of_the_first_look_and_of_photographs_are_loaded_beforehand_and_counted() -> None:
    context = AppContext(SHIPPED_RUNS)
    assert (context.default_name(), context.photo_name()) == (SHOWPIECE, PHOTO_BACKBONE)
    assert context.models.names() == []  # nothing is loaded for the page itself
    context.warm_up()
    assert context.models.names() == [SHOWPIECE, PHOTO_BACKBONE]
    models = [context.classifier(name).model for name in context.models.names()]
    assert context.models.nbytes == sum(value.nbytes for model in models for value in model.state_dict().values())
    assert context.models.nbytes < context.models.most_bytes / 10


def test_an_app_without_the_photograph_model_has_none_to_load(runs: list[Run]) -> None:
    context = AppContext(runs[0].path.parent)
    assert context.photo_name() is None
    context.warm_up()
    assert context.models.names() == [context.default_name()]
