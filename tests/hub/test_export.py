import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.onnx import ONNXProgram

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig, RunConfig
from resnet_space.hub import export as export_module
from resnet_space.hub.export import STAGES, OnnxExport, export_onnx, write_onnx
from resnet_space.inference import Classifier
from resnet_space.models import create_model
from resnet_space.runs import WEIGHTS, Run
from tests.networks import alive

CLASSES = ("ant", "bee", "Käfer", "dog", "eel")
SMALL = ModelConfig("resnet20", CLASSES, image_size=16)
MODELS = {
    "CBAM after every stage": ModelConfig("resnet20", CLASSES, options={"cbam": "stage"}),
    "CBAM in every block": ModelConfig("resnet20", CLASSES, options={"cbam": "block"}),
    "padded shortcuts": ModelConfig(
        "resnet20", CLASSES, image_size=33, resize=41, mean=(0.1, 0.5, 0.9), std=(0.2, 0.3, 0.4)
    ),
    "CIFAR stem": ModelConfig("resnet18", CLASSES, options={"stem": "cifar"}),
    "ImageNet stem": ModelConfig("resnet18", CLASSES, image_size=64),
    "bottlenecks": ModelConfig("resnet50", CLASSES, image_size=64),
}


class Exported(NamedTuple):
    run: Run
    export: OnnxExport


def saved_run(folder: Path, config: ModelConfig) -> Run:
    torch.manual_seed(0)
    run = Run.create(folder, RunConfig(config))
    run.save_weights(alive(config.build()).state_dict())
    return run


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    """The export of one of `MODELS`, made when it is first asked for."""
    made: dict[str, Exported] = {}

    def export(name: str) -> Exported:
        if name not in made:
            run = saved_run(tmp_path_factory.mktemp("runs") / "a-run", MODELS[name])
            made[name] = Exported(run, write_onnx(run, tmp_path_factory.mktemp("files") / "model.onnx"))
        return made[name]

    return export


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return saved_run(tmp_path_factory.mktemp("runs") / "a-run", SMALL)


@pytest.fixture(scope="module")
def small_program(small_run: Run) -> ONNXProgram:
    """The small run's, before it is written and checked: tracing takes most of the time."""
    return export_module._traced(small_run.load_model(), SMALL.image_size)


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch, small_program: ONNXProgram) -> None:
    monkeypatch.setattr(export_module, "_traced", lambda _model, _size: small_program)


def session(path: Path) -> Any:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def metadata(path: Path) -> dict[str, Any]:
    return {name: json.loads(value) for name, value in session(path).get_modelmeta().custom_metadata_map.items()}


def images(count: int, config: ModelConfig, seed: int = 1) -> np.ndarray:
    shape = (count, 3, config.image_size, config.image_size)
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def pytorchs(run: Run, batch: np.ndarray) -> np.ndarray:
    """Logits by a plain forward pass of a model that is built and loaded here."""
    config = run.config.model
    options = {"stem": config.options["stem"], "cbam": config.options["cbam"], "shortcut": config.options["shortcut"]}
    model = create_model(config.architecture, len(config.classes), **options).eval()
    model.load_state_dict(load_file(run.path / WEIGHTS))
    with torch.no_grad():
        return model(torch.from_numpy(batch)).numpy()


# What the file computes


SLOW = ("CIFAR stem", "ImageNet stem", "bottlenecks")
EACH = [pytest.param(name, marks=pytest.mark.long if name in SLOW else ()) for name in MODELS]


@pytest.mark.parametrize("name", EACH)
def test_it_gives_pytorchs_logits_for_any_number_of_images(exported, name: str) -> None:
    run, export = exported(name)
    runtime = session(export.path)
    for count in (1, 3, 7):
        batch = images(count, run.config.model)
        expected = pytorchs(run, batch)
        (logits,) = runtime.run(None, {"images": batch})
        assert logits.dtype == np.float32
        assert logits.shape == (count, len(CLASSES))
        np.testing.assert_allclose(logits, expected, rtol=0, atol=5e-5 * np.abs(expected).max())
    assert np.ptp(expected, axis=0).min() > 0.01 * np.abs(expected).max()  # the images make a difference


@pytest.mark.parametrize("name", EACH)
def test_it_is_one_valid_file(exported, name: str) -> None:
    run, export = exported(name)
    assert [file.name for file in export.path.parent.iterdir()] == ["model.onnx"]
    onnx.checker.check_model(export.path, full_check=True)
    model = onnx.load(export.path, load_external_data=False)
    weights = sum(value.nbytes for key, value in load_file(run.path / WEIGHTS).items() if "running" not in key)
    assert weights * 0.98 < export.path.stat().st_size < weights * 1.02 + 200_000
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 20)]
    size = run.config.model.image_size
    (given,), (returned,) = session(export.path).get_inputs(), session(export.path).get_outputs()
    assert (given.name, given.type, given.shape) == ("images", "tensor(float)", ["N", 3, size, size])
    assert (returned.name, returned.type, returned.shape) == ("logits", "tensor(float)", ["N", len(CLASSES)])


def test_the_reported_difference_is_a_small_share_of_the_largest_logit(exported) -> None:
    difference = exported("CBAM after every stage").export.largest_difference
    assert 0 < difference < 1e-5


def test_the_file_and_its_metadata_are_all_that_a_prediction_needs(exported) -> None:
    run, export = exported("padded shortcuts")
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (82, 118, 3), dtype=np.uint8))
    runtime = session(export.path)
    told = metadata(export.path)
    width, height = picture.size
    side = min(width, height)
    sized = picture.resize((round(width * told["resize"] / side), round(height * told["resize"] / side)))  # bicubic
    left, top = ((length - told["image_size"]) // 2 for length in sized.size)
    seen = sized.crop((left, top, left + told["image_size"], top + told["image_size"]))
    prepared = (np.array(seen, dtype=np.float64) / 255 - told["mean"]) / told["std"]
    (logits,) = runtime.run(None, {"images": prepared.transpose(2, 0, 1)[None].astype(np.float32)})
    odds = np.exp(logits[0] - logits[0].max())

    prediction = Classifier(run).predict(picture)
    by_class = dict(zip(told["classes"], odds / odds.sum(), strict=True))
    assert sorted(by_class, key=lambda name: -by_class[name]) == prediction.classes
    assert [by_class[name] for name in prediction.classes] == pytest.approx(prediction.probabilities, abs=1e-5)


def test_the_metadata_are_those_of_the_configuration(exported) -> None:
    assert metadata(exported("padded shortcuts").export.path) == {
        "classes": list(CLASSES),
        "resize": 41,
        "image_size": 33,
        "mean": [0.1, 0.5, 0.9],
        "std": [0.2, 0.3, 0.4],
        "temperature": 1.0,
    }
    told = metadata(exported("CIFAR stem").export.path)
    assert told["resize"] == told["image_size"] == 32  # where no size before the crop is configured


@pytest.mark.parametrize("name", MODELS)
def test_the_file_says_nothing_of_the_machine_that_wrote_it(exported, name: str) -> None:
    run, export = exported(name)
    content = export.path.read_bytes()
    for path in (str(run.path.parent), str(Path(torch.__file__).parent), str(Path(__file__).parent), "resnet_space"):
        assert path.encode() not in content


# What is refused


def test_a_run_without_weights_is_refused(tmp_path: Path) -> None:
    untrained = Run.create(tmp_path / "untrained", RunConfig(SMALL))
    for export in (write_onnx, export_onnx):
        with pytest.raises(UserError, match=r"^untrained has no model\.safetensors yet: [^\n]+\.$"):
            export(untrained, tmp_path / "files" / "model.onnx")
    assert not list(tmp_path.rglob("*.onnx*"))


def plant(monkeypatch: pytest.MonkeyPatch, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Let the file's logits come out changed."""
    run_session = onnxruntime.InferenceSession.run
    monkeypatch.setattr(
        onnxruntime.InferenceSession, "run", lambda *arguments: [change(logits) for logits in run_session(*arguments)]
    )


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize(
    ("change", "by"),
    [
        (lambda logits: logits * np.float32(1 + 3e-4), r"0\.0003"),  # by this share of the largest logit
        (lambda logits: np.where(np.arange(logits.size).reshape(logits.shape) == 3, np.nan, logits), "nan"),
        (lambda logits: logits if len(logits) == 1 else logits[::-1], r"\d\.?\d*"),  # images in another order
    ],
    ids=["a larger scale", "a single NaN", "another order"],
)
def test_a_file_with_other_logits_is_not_kept(
    small_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change, by: str
) -> None:
    plant(monkeypatch, change)
    files = tmp_path / "files"
    sentence = rf"^The ONNX file of a-run was not kept: its logits differ from PyTorch's by {by} of the largest logit"
    with pytest.raises(UserError, match=sentence):
        write_onnx(small_run, files / "model.onnx")
    assert list(files.iterdir()) == []


@pytest.mark.usefixtures("traced")
def test_a_difference_within_the_tolerance_is_kept_and_reported(
    small_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, lambda logits: logits * np.float32(1 + 5e-5))
    (tmp_path / "model.onnx").write_text("an earlier file")
    export = write_onnx(small_run, tmp_path / "model.onnx")
    assert export.path == tmp_path / "model.onnx"
    assert export.largest_difference == pytest.approx(5e-5, rel=0.05)
    onnx.checker.check_model(export.path)


def test_a_model_whose_logits_are_all_zero_is_exported(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "a-run", RunConfig(SMALL))
    weights = SMALL.build().state_dict()
    run.save_weights({name: value * (not name.startswith("fc.")) for name, value in weights.items()})
    assert write_onnx(run, tmp_path / "model.onnx").largest_difference == 0


# In a process of its own


@pytest.mark.usefixtures("traced")
def test_another_process_writes_the_same_file_without_a_warning(
    small_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = write_onnx(small_run, tmp_path / "here.onnx")
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    monkeypatch.chdir(tmp_path)
    told: list[str] = []
    there = export_onnx(small_run, Path("there.onnx"), told.append)
    assert tuple(told) == STAGES
    assert there.path == Path("there.onnx")
    assert there.largest_difference == pytest.approx(here.largest_difference, abs=1e-6)
    assert (tmp_path / "there.onnx").read_bytes() == here.path.read_bytes()


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("import sys; sys.exit('Traceback\\nMemoryError: none left')", r"^MemoryError: none left$"),
        ("import os; os.kill(os.getpid(), 9)", r"^The export of a-run failed with exit status -9\.$"),
    ],
)
def test_how_that_process_failed_is_said(
    small_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, sentence: str
) -> None:
    really_start = subprocess.Popen
    command = [sys.executable, "-c", code]
    monkeypatch.setattr(subprocess, "Popen", lambda _command, **options: really_start(command, **options))
    with pytest.raises(UserError, match=sentence):
        export_onnx(small_run, tmp_path / "model.onnx")


def test_the_heavy_libraries_are_imported_by_an_export_only() -> None:
    heavy = ["torch", "onnx", "onnxruntime", "onnxscript"]
    code = f"import sys, resnet_space.hub.export; print([name for name in {heavy} if name in sys.modules])"
    folder = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=os.environ, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
