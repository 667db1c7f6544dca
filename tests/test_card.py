import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from PIL import Image

from resnet_space.card import card_text, write_card
from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.runs import CARD, FIGURES, Metric, Run
from resnet_space.text import markdown_text

CONFIG = RunConfig(
    ModelConfig("resnet20", ("ant", "bee", "cat"), cbam="stage"),
    TrainConfig(dataset="insects", start="the-start", epochs=3, seed=7, head_lr=0.3),
)
START: Metric = {
    "event": "start",
    "device": "cpu",
    "precision": "bfloat16",
    "parameters": 276_543,
    "train_images": 900,
    "validation_images": 123,
    "epochs": 3,
    "steps_per_epoch": 2,
    "seconds": 0.0,
}
FIRST_STEP: Metric = {"event": "step", "step": 1, "loss": 2.3, "seconds": 0.5}


def epoch(number: int, validation: float) -> Metric:
    accuracies = {"train_accuracy": 0.111, "validation_accuracy": validation}
    return {"event": "epoch", "epoch": number, **accuracies, "seconds": 10.0 * number}


def judged(split: str = "test") -> Metric:
    return {"event": "test", "split": split, "images": 4_567, "accuracy": 0.7654, "loss": 0.9, "seconds": 90.0}


END: Metric = {"event": "end", "status": "finished"}
FINISHED = [START, FIRST_STEP, epoch(1, 0.5), epoch(2, 0.7123), epoch(3, 0.6), judged(), END]
STOPPED_AT_ONCE = [START, FIRST_STEP, {"event": "end", "status": "stopped"}]


def a_run(config: RunConfig = CONFIG, name: str = "my-run.1") -> Run:
    return Run(Path("/nowhere") / name, config)  # the text needs no folder


def changed(text: str) -> dict[str, Any]:
    """The settings that the card says differ from the defaults."""
    block = re.search(r"```json\n(.*?)```", text, re.DOTALL)
    return json.loads(block[1]) if block else {}


def percentages(text: str) -> list[str]:
    return re.findall(r"\d+(?:\.\d+)?(?= ?%)", text)


HISTORIES = pytest.mark.parametrize(
    "metrics",
    [FINISHED, FINISHED[:4], STOPPED_AT_ONCE, []],
    ids=["finished", "stopped after an epoch", "stopped in its first epoch", "without metrics"],
)


@HISTORIES
@pytest.mark.parametrize("cbam", [None, "stage", "block"])
def test_the_front_matter_is_what_the_hub_reads(metrics: list[Metric], cbam: Any) -> None:
    card = ModelCard(card_text(a_run(replace(CONFIG, model=replace(CONFIG.model, cbam=cbam))), metrics))
    assert card.data.pipeline_tag == "image-classification"
    assert card.data.license == "mit"
    assert card.data.library_name
    tags = card.data.tags
    assert isinstance(tags, list)
    assert all(isinstance(tag, str) for tag in tags)
    assert ("cbam" in tags) == (cbam is not None)
    assert card.text.lstrip().startswith("# my-run.1\n")


@pytest.mark.parametrize("classes", [("a: b", "# c", "---", "`d`"), ("'", '"', "{", "\\"), ("é", "猫", "🦊", "- e")])
def test_no_class_name_can_break_the_front_matter(classes: tuple[str, ...]) -> None:
    config = replace(CONFIG, model=replace(CONFIG.model, classes=classes))
    card = ModelCard(card_text(a_run(config), FINISHED))
    assert card.data.to_dict() == ModelCard(card_text(a_run(), FINISHED)).data.to_dict()
    assert all(markdown_text(name) in card.text for name in classes)


def test_it_tells_the_accuracy_on_which_images_of_what() -> None:
    text = card_text(a_run(), FINISHED)
    (sentence,) = (line for line in text.splitlines() if "76.54" in line)
    assert "4,567" in sentence
    assert "test images" in sentence
    assert "insects" in sentence


def test_where_the_published_validation_images_are_the_test_it_says_so() -> None:
    text = card_text(a_run(), [*FINISHED[:-2], judged("valid"), END])
    (sentence,) = (line for line in text.splitlines() if "76.54" in line)
    assert "validation images" in sentence
    assert "test images" not in sentence


def test_it_tells_the_best_epoch_and_not_the_last() -> None:
    text = card_text(a_run(), FINISHED)
    (sentence,) = (line for line in text.splitlines() if "71.23" in line)
    assert "2 of 3" in sentence
    assert "123" in sentence
    assert percentages(text) == ["76.54", "71.23"]


def test_it_tells_the_architecture_its_size_and_what_it_sees() -> None:
    text = card_text(a_run(), FINISHED)
    for fact in ("resnet20", "276,543", "3 classes", "ant, bee, cat", "32 x 32"):
        assert fact in text
    assert "CBAM" in text


def test_many_classes_are_counted_and_not_all_listed() -> None:
    classes = tuple(f"class-{i:03}" for i in range(200))
    text = card_text(a_run(replace(CONFIG, model=replace(CONFIG.model, classes=classes))), FINISHED)
    listed = re.findall(r"class-\d{3}", text)
    assert listed == list(classes[: len(listed)])
    assert 0 < len(listed) < 20
    assert "200 classes" in text
    assert f"{200 - len(listed)} more" in text


def test_it_tells_where_training_started() -> None:
    assert "`the-start`" in card_text(a_run(), FINISHED)
    scratch = card_text(a_run(replace(CONFIG, training=replace(CONFIG.training, start=None))), FINISHED)
    assert "random initialisation" in scratch
    assert "the-start" not in scratch


def test_it_lists_exactly_the_settings_that_differ_from_the_defaults() -> None:
    assert changed(card_text(a_run(), FINISHED)) == {"epochs": 3, "seed": 7, "head_lr": 0.3}
    defaults = replace(CONFIG, training=TrainConfig(dataset="insects", start="the-start"))
    text = card_text(a_run(defaults), FINISHED)
    assert changed(text) == {}
    assert not any(name in text for name in ("backbone_lr", "batch_size", "weight_decay"))


@pytest.mark.parametrize("metrics", [STOPPED_AT_ONCE, []], ids=["stopped in its first epoch", "without metrics"])
def test_a_run_without_results_claims_none(metrics: list[Metric]) -> None:
    text = card_text(a_run(), metrics)
    assert percentages(text) == []
    assert "None" not in text
    assert "not tested" in text


@HISTORIES
def test_the_card_and_its_figure_are_written_into_the_runs_folder(tmp_path: Path, metrics: list[Metric]) -> None:
    run = Run.create(tmp_path / "a-run", CONFIG)
    for metric in metrics:
        run.append_metric(metric)
    write_card(run)
    text = (run.path / CARD).read_text(encoding="utf-8")
    assert text == card_text(run, metrics)
    (figure,) = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)
    with Image.open(run.path / figure) as image:
        assert image.format == "PNG"
    assert [file.name for file in (run.path / FIGURES).iterdir()] == [Path(figure).name]  # nothing half written is left


def test_a_card_is_replaced_by_the_next(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "a-run", CONFIG)
    write_card(run)
    for metric in FINISHED:
        run.append_metric(metric)
    write_card(run)
    assert "76.54" in (run.path / CARD).read_text(encoding="utf-8")


def test_the_lines_on_its_use_are_python_that_names_the_run() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", card_text(a_run(), FINISHED), re.DOTALL)
    compile(code, "card", "exec")
    assert '"my-run.1"' in code
