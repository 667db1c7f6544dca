import io
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from PIL import Image
from scipy.stats import binomtest

from resnet_space.common.cost import PRICE_VARIABLE
from resnet_space.common.text import markdown_text
from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.data.splits import load_splits
from resnet_space.hub.card import CONFUSION, CURVES, RESIDUALS, card_files, card_text, write_card
from resnet_space.runs import CARD, EVALUATION, FIGURES, Metric, Run, Source
from resnet_space.training.evaluation import evaluate_test, save

SHIPPED = Path(__file__).parents[2] / "checkpoints" / "resnet20-cbam-cifar10"
CONFIG = RunConfig(
    ModelConfig("resnet20", ("ant", "bee", "cat"), options={"cbam": "stage"}),
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


def percentages(text: str) -> list[str]:
    """Of what is claimed: of the text before the recipe."""
    return re.findall(r"\d+(?:\.\d+)?(?= ?%)", text.partition("## Training")[0])


HISTORIES = pytest.mark.parametrize(
    "metrics",
    [FINISHED, FINISHED[:4], STOPPED_AT_ONCE, []],
    ids=["finished", "stopped after an epoch", "stopped in its first epoch", "without metrics"],
)


@HISTORIES
@pytest.mark.parametrize("cbam", [None, "stage", "block"])
def test_the_front_matter_is_what_the_hub_reads(metrics: list[Metric], cbam: Any) -> None:
    card = ModelCard(card_text(a_run(replace(CONFIG, model=CONFIG.model.with_options(cbam=cbam))), metrics))
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


def test_it_tells_the_accuracy_on_another_domain_that_it_was_adapted_to() -> None:
    config = replace(CONFIG, training=replace(CONFIG.training, objective="coral", target="sketches"))
    tested = judged() | {"target": "test", "target_images": 321, "target_accuracy": 0.4321}
    text = card_text(a_run(config), [*FINISHED[:-2], tested, END])
    (sentence,) = (line for line in text.splitlines() if "43.21" in line)
    for fact in ("sketches", "321 test images", "without their labels", "`coral`"):
        assert fact in sentence


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
    interval = binomtest(round(0.7654 * 4_567), 4_567).proportion_ci(method="wilson")
    low, high = (f"{100 * edge:.2f}" for edge in (interval.low, interval.high))
    assert percentages(text) == ["76.54", "95", low, high, "71.23"]


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


def test_the_recipe_is_told_in_words() -> None:
    phases = [{"epochs": 1, "rates": {"head": 0.3}}, {"epochs": 2, "rates": {"layer3": 0.005, "head": 0.03}}]
    training = replace(
        CONFIG.training,
        strategy="three-stage",
        optimizer="adamw",
        label_smoothing=0.1,
        mixup=0.2,
        ema=0.99,
        crop="resized",
        flip=False,
    )
    metrics = [START | {"phases": phases}, *FINISHED[1:]]
    text = card_text(a_run(replace(CONFIG, training=training)), metrics)
    for fact in (
        "3 epochs on `insects` (900 training images, 123 validation images)",
        "`three-stage`: trains head and CBAM, then",
        "AdamW",
        "label smoothing 0.1",
        "decay 0.99",
        "at least 35 % of the area",
        "MixUp with alpha 0.2",
        "Seed 7",
        "1.5 minutes on the CPU in bfloat16",
        "1. 1 epoch; peak learning rates: head 0.3.",
        "2. 2 epochs; peak learning rates: layer3 0.005, head 0.03.",
    ):
        assert fact in text
    assert "flips" not in text
    assert "CutMix" not in text


def test_a_cost_is_told_where_the_price_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PRICE_VARIABLE, raising=False)
    assert "cost" not in card_text(a_run(), FINISHED)
    monkeypatch.setenv(PRICE_VARIABLE, "4")  # for 90 seconds
    assert "and cost $0.10" in card_text(a_run(), FINISHED)


def test_the_scores_are_in_the_form_that_the_hub_shows() -> None:
    scores = {"top5_accuracy": 0.987654, "macro_f1": 0.7, "ece": 0.0512}
    metrics = [*FINISHED[:-2], judged() | scores, END]
    text = card_text(a_run(), metrics, repo_id="ann/insects-net")
    data = ModelCard(text).data
    assert data.model_name == "insects-net"
    assert data.eval_results is not None
    shown = {result.metric_name: (result.metric_type, result.metric_value) for result in data.eval_results}
    assert shown == {
        "Top-1 accuracy": ("accuracy", 0.7654),
        "Top-5 accuracy": ("top_5_accuracy", 0.9877),
        "Macro F1": ("f1", 0.7),
        "Expected calibration error": ("ece", 0.0512),
    }
    assert {(result.dataset_name, result.dataset_split) for result in data.eval_results} == {("insects", "test")}
    assert "Top-5 accuracy 98.77 %, macro F1 70.00 %, expected calibration error 5.1 points" in text
    assert ModelCard(card_text(a_run(), STOPPED_AT_ONCE)).data.eval_results is None


@pytest.mark.parametrize(
    ("dataset", "linked"),
    [("insects", None), ("ann/bees", ["ann/bees"]), ("cifar10-mini", ["uoft-cs/cifar10"])],
)
def test_data_of_the_hub_are_linked(dataset: str, linked: list[str] | None) -> None:
    training = replace(CONFIG.training, dataset=dataset)
    assert ModelCard(card_text(a_run(replace(CONFIG, training=training)), FINISHED)).data.datasets == linked


def test_weights_of_the_hub_that_it_started_from_are_linked(tmp_path: Path) -> None:
    start = Run.create(tmp_path / "the-start", CONFIG)
    run = Run.create(tmp_path / "a-run", CONFIG)
    assert ModelCard(card_text(run, FINISHED)).data.base_model is None
    start.write_source(Source("timm/resnet18.tv_in1k", "0" * 40))
    assert ModelCard(card_text(run, FINISHED)).data.base_model == "timm/resnet18.tv_in1k"


def test_a_pushed_card_pulls_its_model_in_three_lines_and_links_to_the_space() -> None:
    text = card_text(a_run(), FINISHED, repo_id="ann/insects-net", space="ann/the-space")
    assert "`git clone https://huggingface.co/spaces/ann/the-space`" in text
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert 'pull_run("ann/insects-net")' in code
    assert "](https://huggingface.co/spaces/ann/the-space)" in text
    assert "huggingface.co/spaces" not in card_text(a_run(), FINISHED)


def test_the_shipped_models_card_has_all_figures_and_tells_its_limits(tmp_path: Path) -> None:
    shutil.copytree(SHIPPED, tmp_path / "mine", ignore=shutil.ignore_patterns("resume"))
    run = Run.open(tmp_path / "mine")
    config = replace(run.config, training=replace(run.config.training, dataset="cifar10-mini", start=None))
    run = Run(run.path, config)
    data = load_splits(config.training, 32).test
    evaluation, scores = evaluate_test(run.load_model(), data, config.model)
    save(evaluation, run.path / EVALUATION)
    run.append_metric({"event": "test", "split": "test", "images": len(data), **scores, "seconds": 1.0})
    files = card_files(run)
    assert {CURVES, CONFUSION, RESIDUALS, CARD} == set(files)
    for name in (CURVES, CONFUSION, RESIDUALS):
        with Image.open(io.BytesIO(files[name])) as image:
            assert image.format == "PNG"
            assert min(image.size) > 300
        assert f"]({name})" in files[CARD].decode()
    assert "on nothing else" in files[CARD].decode()
    # What was measured with images that are gone by now is kept.
    (run.path / FIGURES).mkdir(exist_ok=True)
    (run.path / RESIDUALS).write_bytes(b"as it was")
    assert card_files(run)[RESIDUALS] == b"as it was"


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
    (figure,) = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)  # there is neither a test nor a dataset "insects"
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
