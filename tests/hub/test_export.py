import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from PIL import Image
from safetensors.torch import load_file
from scipy.special import softmax
from torch.onnx import ONNXProgram
from torchvision import transforms

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig, RunConfig
from resnet_space.data.images import open_image
from resnet_space.data.splits import ImageSet
from resnet_space.hub import graph, quantized
from resnet_space.hub.export import Export, ending_of, export, write, write_onnx
from resnet_space.hub.portable import MODEL_FILE, model_file
from resnet_space.hub.quantized import MOST, quantize
from resnet_space.inference import Classifier
from resnet_space.models import create_model
from resnet_space.runs import PHOTO_BACKBONE, SHOWPIECE, WEIGHTS, Run
from tests.networks import alive

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "resnet_space" / "datasets" / "examples").glob("*.jpg"))
PICTURES = [*EXAMPLES, *sorted((ROOT / "resnet_space" / "datasets" / "photographs").glob("*.jpg"))]
CLASSES = ("ant", "bee", "Käfer", "dog", "eel")
SMALL = ModelConfig("resnet20", CLASSES, image_size=16)
BLOCKS = "padded shortcuts and CBAM in every block"
MODELS = {
    "CBAM after every stage": ModelConfig("resnet20", CLASSES, options={"cbam": "stage"}),
    BLOCKS: ModelConfig(
        "resnet20",
        CLASSES,
        options={"cbam": "block", "shortcut": "pad"},
        image_size=33,
        resize=41,
        mean=(0.1, 0.5, 0.9),
        std=(0.2, 0.3, 0.4),
    ),
    "CIFAR stem": ModelConfig("resnet18", CLASSES, options={"stem": "cifar"}),
    "ImageNet stem": ModelConfig("resnet18", CLASSES, image_size=64),
    "bottlenecks": ModelConfig("resnet50", CLASSES, image_size=64),
}


class Exported(NamedTuple):
    run: Run
    path: Path
    difference: float
    program: ONNXProgram


def saved_run(folder: Path, config: ModelConfig) -> Run:
    torch.manual_seed(0)
    run = Run.create(folder, RunConfig(config))
    run.save_weights(alive(config.build()).state_dict())
    return run


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    """The export of one of `MODELS`, made when it is first asked for."""
    made: dict[str, Exported] = {}
    really_traced = graph.traced
    programs: list[ONNXProgram] = []

    def traced(network: graph.WholeNetwork, classes: tuple[str, ...]) -> ONNXProgram:
        programs.append(really_traced(network, classes))
        return programs[-1]

    def export(name: str) -> Exported:
        if name not in made:
            run = saved_run(tmp_path_factory.mktemp("runs") / "a-run", MODELS[name])
            file = tmp_path_factory.mktemp("files") / "model.onnx"
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(graph, "traced", traced)
                made[name] = Exported(run, file, write_onnx(run, file), programs[-1])
        return made[name]

    return export


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return saved_run(tmp_path_factory.mktemp("runs") / "a-run", SMALL)


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch, exported: Callable[[str], Exported]) -> Run:
    """A run whose network needs not be traced again, which takes most of the time."""
    run, *_, program = exported(BLOCKS)
    monkeypatch.setattr(graph, "traced", lambda _network, _classes: program)
    return run


@pytest.fixture(scope="module")
def showpiece(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ONNX file of the shipped network."""
    path = tmp_path_factory.mktemp("files") / "showpiece.onnx"
    write_onnx(Run.open(ROOT / "checkpoints" / SHOWPIECE), path)
    return path


def session(path: Path) -> Any:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def answers(path: Path, pictures: np.ndarray) -> dict[str, np.ndarray]:
    runtime = session(path)
    names = [output.name for output in runtime.get_outputs()]
    return dict(zip(names, runtime.run(names, {"images": pictures}), strict=True))


def one_layer(kind: str, weight: np.ndarray, is_transposed: bool) -> bytes:
    """An ONNX file of one layer without a bias."""
    given, found = (
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", *[None] * (weight.ndim - 1)]) for name in "xy"
    )
    more = {"transB": 1} if is_transposed else {}
    nodes = [helper.make_node(kind, ["x", "weight"], ["y"], **more)]
    whole = helper.make_graph(nodes, "one_layer", [given], [found], [numpy_helper.from_array(weight, "weight")])
    return helper.make_model(whole, opset_imports=[helper.make_opsetid("", 20)], ir_version=9).SerializeToString()


def looked_up(rows: np.ndarray) -> bytes:
    """An ONNX file whose probabilities for a picture of the value i are the i-th row."""
    pictures = helper.make_tensor_value_info("images", onnx.TensorProto.UINT8, ["N", "H", "W", 3])
    found = helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, ["N", rows.shape[1]])
    nodes = [
        helper.make_node("ReduceMax", ["images", "axes"], ["value"], keepdims=0),
        helper.make_node("Cast", ["value"], ["index"], to=onnx.TensorProto.INT64),
        helper.make_node("Gather", ["rows", "index"], ["probabilities"]),
    ]
    constants = [numpy_helper.from_array(rows, "rows"), numpy_helper.from_array(np.array([1, 2, 3]), "axes")]
    whole = helper.make_graph(nodes, "looked_up", [pictures], [found], constants)
    return helper.make_model(whole, opset_imports=[helper.make_opsetid("", 20)], ir_version=9).SerializeToString()


def metadata(path: Path) -> dict[str, Any]:
    return {name: json.loads(value) for name, value in session(path).get_modelmeta().custom_metadata_map.items()}


def pictures(count: int, height: int, width: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def prepared(picture: np.ndarray, config: ModelConfig) -> torch.Tensor:
    """By torchvision, on Pillow's pictures."""
    steps = [
        transforms.Resize(config.stored_size, transforms.InterpolationMode.BICUBIC),
        transforms.CenterCrop(config.image_size),
        transforms.ToTensor(),
        transforms.Normalize(config.mean, config.std),
    ]
    return transforms.Compose(steps)(Image.fromarray(picture))


def pytorchs(run: Run, some: np.ndarray) -> np.ndarray:
    """Logits by a plain forward pass of a model that is built and loaded here."""
    config = run.config.model
    options = {"stem": config.options["stem"], "cbam": config.options["cbam"], "shortcut": config.options["shortcut"]}
    model = create_model(config.architecture, len(config.classes), **options).eval()
    model.load_state_dict(load_file(run.path / WEIGHTS))
    with torch.no_grad():
        return model(torch.stack([prepared(picture, config) for picture in some])).numpy()


# What the file computes


SLOW = ("CBAM after every stage", "CIFAR stem", "ImageNet stem", "bottlenecks")
EACH = [pytest.param(name, marks=pytest.mark.long if name in SLOW else ()) for name in MODELS]


@pytest.mark.parametrize("name", ["CBAM after every stage", BLOCKS])
@pytest.mark.parametrize("size", [(61, 47), (33, 33), (41, 41), (20, 31), (90, 330), (300, 201)])
def test_pictures_are_prepared_as_torchvision_does(name: str, size: tuple[int, int]) -> None:
    config = MODELS[name]
    network = graph.WholeNetwork(config.build().eval(), config, None)
    some = pictures(2, *size)
    own = network.prepared(network.seen(torch.from_numpy(some)))
    reference = torch.stack([prepared(picture, config) for picture in some])
    level = 1 / 255 / max(config.std)
    assert (own - reference).abs().max() < 0.01 * level


@pytest.mark.parametrize("size", [(17, 400), (300, 61), (64, 300)])
def test_panoramas_are_prepared_as_the_app_does(small_run: Run, size: tuple[int, int]) -> None:
    network = graph.WholeNetwork(small_run.load_model(), SMALL, None)
    (picture,) = pictures(1, *size)
    own = network.prepared(network.seen(torch.from_numpy(picture)[None]))
    torch.testing.assert_close(own, Classifier(small_run).prepare([Image.fromarray(picture)]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", EACH)
def test_it_gives_pytorchs_answers_for_any_number_of_pictures_of_any_size(exported, name: str) -> None:
    run, path, *_ = exported(name)
    for count, height, width in ((1, 50, 71), (3, 33, 33), (7, 128, 90)):
        some = pictures(count, height, width)
        expected = pytorchs(run, some)
        found = answers(path, some)
        assert found["logits"].shape == (count, len(CLASSES))
        np.testing.assert_allclose(found["logits"], expected, rtol=0, atol=5e-5 * np.abs(expected).max())
        # Logits of some hundred differ by what changes a probability by more: by half of that, at most.
        atol = 1e-4 if np.abs(expected).max() < 100 else np.abs(found["logits"] - expected).max() / 2
        np.testing.assert_allclose(found["probabilities"], softmax(expected, 1), atol=atol)
        np.testing.assert_allclose(found["probabilities"], softmax(found["logits"], 1), atol=1e-6)
        assert found["top_names"].tolist() == [[CLASSES[i] for i in one] for one in found["top_indices"]]
        ordered = np.take_along_axis(found["probabilities"], found["top_indices"], 1)
        np.testing.assert_array_equal(found["top_probabilities"], ordered)
        assert (np.diff(ordered) <= 0).all()
    assert np.ptp(expected, axis=0).min() > 0.001 * np.abs(expected).max()  # the pictures make a difference


@pytest.mark.parametrize("name", EACH)
def test_it_is_one_valid_file(exported, name: str) -> None:
    run, path, *_ = exported(name)
    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"]
    onnx.checker.check_model(path, full_check=True)
    model = onnx.load(path, load_external_data=False)
    weights = sum(value.nbytes for key, value in load_file(run.path / WEIGHTS).items() if "running" not in key)
    assert weights * 0.98 < path.stat().st_size < weights * 1.02 + 250_000
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 20)]
    (given,) = session(path).get_inputs()
    assert (given.name, given.type, given.shape) == ("images", "tensor(uint8)", ["N", "H", "W", 3])
    returned = {output.name: (output.type, output.shape[:2]) for output in session(path).get_outputs()}
    assert returned == {
        "logits": ("tensor(float)", ["N", 5]),
        "probabilities": ("tensor(float)", ["N", 5]),
        "top_probabilities": ("tensor(float)", ["N", 5]),
        "top_indices": ("tensor(int64)", ["N", 5]),
        "top_names": ("tensor(string)", ["N", 5]),
        "maps": ("tensor(float)", ["N", 5]),
    }


IN_A_CLEAN_PROCESS = """
import json, sys
import numpy, onnxruntime
from PIL import Image
session = onnxruntime.InferenceSession(sys.argv[1])
names = [output.name for output in session.get_outputs()]
for file in sys.argv[2:]:
    picture = numpy.asarray(Image.open(file).convert("RGB"))
    found = session.run(names, {"images": picture[None]})
    print(json.dumps({name: values[0].tolist() for name, values in zip(names, found)}))
assert not {"torch", "resnet_space"} & set(sys.modules)
"""


def test_a_process_with_onnxruntime_only_gives_the_apps_answers(tmp_path: Path, showpiece: Path) -> None:
    assert len(EXAMPLES) == 10
    command = [sys.executable, "-I", "-c", IN_A_CLEAN_PROCESS, showpiece, *EXAMPLES]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    classifier = Classifier(Run.open(ROOT / "checkpoints" / SHOWPIECE))
    for file, line in zip(EXAMPLES, done.stdout.splitlines(), strict=True):
        own, found = classifier.predict(open_image(file), features=True), json.loads(line)
        assert found["top_names"] == own.classes
        assert found["top_probabilities"] == pytest.approx(own.probabilities, abs=1e-5)
        assert found["ood_score"] == pytest.approx(own.ood_score, rel=1e-4)
        raw = classifier.class_maps(own, own.indices).raw
        np.testing.assert_allclose(found["maps"], raw, atol=1e-4 * raw.max())


def test_the_reported_difference_is_a_small_share_of_the_largest_value(exported) -> None:
    assert 0 < exported(BLOCKS).difference < 1e-5


def test_the_metadata_are_those_of_the_configuration(exported, showpiece: Path) -> None:
    assert metadata(exported(BLOCKS).path) == {
        "classes": list(CLASSES),
        "resize": 41,
        "image_size": 33,
        "mean": [0.1, 0.5, 0.9],
        "std": [0.2, 0.3, 0.4],
        "temperature": 1.0,
    }
    told = metadata(showpiece)
    assert told["resize"] == told["image_size"] == 32  # where no size before the crop is configured


@pytest.mark.parametrize("name", EACH)
def test_the_file_says_nothing_of_the_machine_that_wrote_it(exported, name: str) -> None:
    run, path, *_ = exported(name)
    content = path.read_bytes()
    for folder in (str(run.path.parent), str(Path(torch.__file__).parent), str(Path(__file__).parent), "resnet_space"):
        assert folder.encode() not in content


@pytest.mark.parametrize(
    ("architecture", "has_maps"),
    [
        ("resnet20", True),
        ("mobilenetv3_small_100", False),
        ("tf_efficientnet_lite0", True),
        ("vit_tiny_patch4_32", False),
    ],
)
def test_class_maps_are_there_where_the_classifier_is_linear_in_the_mean_features(
    architecture: str, has_maps: bool
) -> None:
    config = ModelConfig(architecture, CLASSES, image_size=32)
    assert graph.is_linear_in_means(config.build().eval(), config) is has_maps


# Smaller weights


def expect_hardly_another_answer(before: Path, after: Path) -> None:
    """On all pictures that come with the app: probabilities to within 0.01, and the same top five, ties aside."""
    onnx.checker.check_model(after, full_check=True)
    for file in PICTURES:
        picture = np.asarray(open_image(file))[None]
        old, new = answers(before, picture), answers(after, picture)
        assert 0 < np.abs(old["probabilities"] - new["probabilities"]).max() < MOST
        (rows,), (top,) = old["probabilities"], new["top_indices"]
        difference = float(np.abs(rows - new["probabilities"][0]).max())
        assert rows[top] == pytest.approx(old["top_probabilities"][0], abs=2 * difference)
        if "ood_score" in old:
            assert new["ood_score"] == pytest.approx(old["ood_score"], abs=0.05)


def test_smaller_weights_make_a_file_of_less_than_half_the_size_and_hardly_change_its_answers(
    tmp_path: Path, showpiece: Path
) -> None:
    quantize(showpiece, tmp_path / "small.onnx")
    assert (tmp_path / "small.onnx").stat().st_size < 0.45 * showpiece.stat().st_size
    expect_hardly_another_answer(showpiece, tmp_path / "small.onnx")


@pytest.mark.long
def test_smaller_weights_hardly_change_the_answers_of_the_backbone_for_photographs(tmp_path: Path) -> None:
    files = [tmp_path / "before.onnx", tmp_path / "after.onnx"]
    write_onnx(Run.open(ROOT / "checkpoints" / PHOTO_BACKBONE), files[0])
    quantize(*files)
    assert files[1].stat().st_size < 0.45 * files[0].stat().st_size
    expect_hardly_another_answer(*files)


@pytest.mark.parametrize("layer", ["Conv", "Gemm", "Gemm, transposed", "MatMul"])
def test_a_large_weight_is_rounded_to_a_4094th_of_the_range_of_its_output_channel(layer: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    weight = generator.normal(size=(6, 10)).astype(np.float32) * 10.0 ** np.arange(-3, 3)[:, None].astype(np.float32)
    weight[3] = 0  # a channel that is dead
    kind, _, is_transposed = layer.partition(", ")
    given = weight[:, :, None, None] if kind == "Conv" else weight if is_transposed else weight.T
    file = tmp_path / "layer.onnx"
    file.write_bytes(one_layer(kind, np.ascontiguousarray(given), bool(is_transposed)))
    quantize(file, tmp_path / "small.onnx")
    unit = np.eye(10, dtype=np.float32)
    pictures = unit[:, :, None, None] if kind == "Conv" else unit
    (found,) = session(tmp_path / "small.onnx").run(None, {"x": pictures})
    step = np.abs(weight).max(1) / 2047
    errors = np.abs(found.reshape(10, 6) - weight.T)
    assert (errors <= step * 0.501).all()
    assert (errors.max(0)[step > 0] > 0.2 * step[step > 0]).all()  # it is rounded


def test_what_smaller_weights_cost_is_told_for_the_test_images_or_for_example_pictures(
    small_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Tested(NamedTuple):
        test: ImageSet

    labels = torch.arange(7).repeat(10)
    shown = ImageSet(labels.byte()[:, None, None, None].expand(70, 4, 4, 3), labels, tuple("abcdefg"))
    monkeypatch.setattr(quantized, "splits_of", lambda _run: Tested(shown))
    sure = np.eye(7, dtype=np.float32) + 0.01 * np.arange(7, 0, -1, dtype=np.float32)
    unsure = sure.copy()
    unsure[2] = sure[6]
    close = sure + np.float32(0.004)
    files = [tmp_path / "before.onnx", tmp_path / "after.onnx"]
    for rows, words in (
        (
            unsure,
            "On 70 test images, smaller weights change a probability by at most 1.0000, above the 0.01 that this "
            "format should keep. The accuracy goes from 100.0 % to 85.7 %; 85.7 % keep their class, 85.7 % their top "
            "five.",
        ),
        (
            close,
            "On 70 test images, smaller weights change a probability by at most 0.0040. The accuracy goes from 100.0 % "
            "to 100.0 %; 100.0 % keep their class, 100.0 % their top five.",
        ),
    ):
        for file, values in zip(files, (sure, rows), strict=True):
            file.write_bytes(looked_up(values))
        assert quantized.cost(small_run, *files).words == words

    def missing(_run: Run) -> Tested:
        raise UserError("The dataset is not here.")

    monkeypatch.setattr(quantized, "splits_of", missing)
    monkeypatch.setattr(quantized, "BUNDLED", tmp_path)
    for value in (2, 3):
        Image.new("RGB", (5, 4), (value,) * 3).save(tmp_path / f"{value}.jpg")
    assert quantized.cost(small_run, *files).words == (
        "On 2 example pictures (the run's own test images are not at hand), smaller weights change a probability by at "
        "most 0.0040. 100.0 % keep their class, 100.0 % their top five."
    )


# What is refused


def test_a_run_without_weights_is_refused(tmp_path: Path) -> None:
    untrained = Run.create(tmp_path / "untrained", RunConfig(SMALL))
    for made in (write, export):
        for kind in ("onnx", "safetensors"):
            with pytest.raises(UserError, match=r"^untrained has no model\.safetensors yet: [^\n]+\.$"):
                made(untrained, tmp_path / "files" / "model", kind)
    assert not list(tmp_path.rglob("*model*"))


def test_a_run_without_a_classifier_is_refused(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "a-run", RunConfig(SMALL))
    weights = SMALL.build().state_dict()
    run.save_weights({name: value * (not name.startswith("fc.")) for name, value in weights.items()})
    with pytest.raises(UserError, match=r"^These weights have no classifier"):
        write_onnx(run, tmp_path / "model.onnx")


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(UserError, match=r"^The format must be one of safetensors, onnx, .*, not 'pickle'\.$"):
        ending_of("pickle")


def plant(monkeypatch: pytest.MonkeyPatch, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Let the file's values come out changed."""
    run_session = onnxruntime.InferenceSession.run
    monkeypatch.setattr(
        onnxruntime.InferenceSession, "run", lambda *arguments: [change(values) for values in run_session(*arguments)]
    )


@pytest.mark.parametrize(
    ("change", "by"),
    [
        (lambda values: values * np.float32(1 + 3e-4), r"0\.0003"),  # by this share of the largest value
        (lambda values: np.where(np.arange(values.size).reshape(values.shape) == 3, np.nan, values), "nan"),
        (lambda values: values if len(values) == 1 else values[::-1], r"\d\.?\d*"),  # pictures in another order
    ],
    ids=["a larger scale", "a single NaN", "another order"],
)
def test_a_file_with_other_answers_is_not_kept(
    traced: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change, by: str
) -> None:
    plant(monkeypatch, change)
    files = tmp_path / "files"
    sentence = rf"^The ONNX file of a-run was not kept: its logits differ from PyTorch's by {by} of the largest value"
    with pytest.raises(UserError, match=sentence):
        write(traced, files / "model.onnx")
    assert list(files.iterdir()) == []


def test_a_difference_within_the_tolerance_is_kept_and_reported(
    traced: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, lambda values: values * np.float32(1 + 5e-5))
    (tmp_path / "model.onnx").write_text("an earlier file")
    done = write(traced, tmp_path / "model.onnx")
    assert done.path == tmp_path / "model.onnx"
    assert done.words == (
        "On random pictures, the answers of the exported model differ from PyTorch's by at most 5e-05 of their largest "
        "value."
    )
    onnx.checker.check_model(done.path)


def test_the_folder_is_a_run_again_when_it_is_unpacked(small_run: Run, tmp_path: Path) -> None:
    (small_run.path / "resume").mkdir(exist_ok=True)
    (small_run.path / "resume" / "owner").write_text("secret")
    done = write(small_run, tmp_path / "a-run.zip", "safetensors")
    with zipfile.ZipFile(done.path) as archive:
        assert not [name for name in archive.namelist() if "resume" in name]
        archive.extractall(tmp_path / "there")
    again = Run.open(tmp_path / "there" / "a-run")
    assert again.config == small_run.config
    assert (again.path / WEIGHTS).read_bytes() == (small_run.path / WEIGHTS).read_bytes()
    # It loads elsewhere as a pushed one does: timm lacks this network, so its source comes along.
    assert (again.path / MODEL_FILE).read_text() == model_file(small_run.config.model)


# In a process of its own


@pytest.mark.long
def test_another_process_writes_the_same_file_without_a_warning(
    traced: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = write(traced, tmp_path / "here.onnx")
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    monkeypatch.chdir(tmp_path)
    told: list[str] = []
    there = export(traced, Path("there.onnx"), tell=told.append)
    assert told == ["load", "translate", "check"]
    assert there == Export(Path("there.onnx"), here.words)
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
        export(small_run, tmp_path / "model.onnx")


def test_the_heavy_libraries_are_imported_by_an_export_only() -> None:
    heavy = ["torch", "onnx", "onnxruntime", "onnxscript"]
    code = f"import sys, resnet_space.hub.export; print([name for name in {heavy} if name in sys.modules])"
    folder = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=os.environ, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
