"""A pushed run in a process that has no part of this package: the card's lines, with the real clients and libraries."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.hub.portable import MODEL_FILE, crop_share, model_file, needs, timm_entries
from resnet_space.hub.push import push_run
from resnet_space.inference import Classifier
from resnet_space.models.registry import entries
from resnet_space.runs import CARD, CONFIG, PHOTO_BACKBONE, WEIGHTS, Run
from tests import own_networks
from tests.hub_stub import HubStub, isolate_client
from tests.hub_stub.store import read
from tests.networks import alive

TOKEN = "hf_annswritetoken"
SHIPPED = Path(__file__).parents[2] / "checkpoints"
HOSTILE = (
    'a"b\'c', "two\nlines", '"""', "</script><script>alert(1)</script>", "{{ 7 * 7 }}", "{% include 'x' %}",
    "back\\slash", "\u202eright to left", "import os; os.abort()", "`x` **y** | z", "${HOME}", "---",
)  # fmt: skip

# What runs there. `card` are the blocks of Python in each repository's card; what they print is kept.
ELSEWHERE = r"""
import contextlib, importlib.util, io, json, sys
from pathlib import Path

assert importlib.util.find_spec("resnet_space") is None
import torch
from PIL import Image

pictures = [Image.open(path).convert("RGB") for path in sorted(Path().glob("*.png"))]
answers = {}
for repo_id, blocks in json.loads(Path("cards.json").read_text()).items():
    answers[repo_id] = answer = {"printed": [], "logits": {}}
    for code in blocks:
        said, names = io.StringIO(), {}
        sys.modules.pop("model", None)
        with contextlib.redirect_stdout(said):
            exec(compile(code, repo_id, "exec"), names)
        answer["printed"].append(said.getvalue())
        with torch.inference_mode():
            if "timm" in names:
                found = [names["model"](names["prepare"](picture)[None])[0] for picture in pictures]
                answer["logits"]["timm"] = torch.stack(found).tolist()
            elif "snapshot_download" in names:
                own = names["model"]
                answer["logits"]["file"] = [own.load()(own.prepare(picture))[0].tolist() for picture in pictures]
                answer["top"] = [own.classify(picture) for picture in pictures]
                assert not {"resnet_space"} & {name.partition(".")[0] for name in sys.modules}
            else:
                from transformers import AutoImageProcessor, AutoModelForImageClassification

                pipe = names["pipeline"]("image-classification", repo_id)
                answer["top"] = [[(a["label"], a["score"]) for a in pipe(picture)] for picture in pictures]
                processor = AutoImageProcessor.from_pretrained(repo_id)
                model = AutoModelForImageClassification.from_pretrained(repo_id).eval()
                answer["logits"]["transformers"] = model(**processor(pictures)).logits.tolist()
Path("answers.json").write_text(json.dumps(answers))
"""


@dataclass
class Pushed:
    """A repository, and what the app says of the pictures."""

    classes: tuple[str, ...]
    logits: torch.Tensor  # [pictures, classes]
    top: list[list[tuple[str, float]]]  # with the temperature


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStub]:
    isolate_client(monkeypatch, tmp_path)
    with HubStub() as stub:
        stub.add_user(TOKEN, "ann")
        monkeypatch.setenv("HF_ENDPOINT", stub.url)
        yield stub


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Ten pictures of different sizes, most of them not square."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(10):
        rough = random.integers(0, 256, (5, 7, 3), dtype=np.uint8)
        size = (50 + 29 * i, 230 - 13 * i)
        Image.fromarray(rough).resize(size, Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    Image.open(folder / "3.png").save(folder / "picture.jpg")
    return folder


def made(path: Path, model: ModelConfig) -> Run:
    run = Run.create(path, RunConfig(model, TrainConfig(dataset="insects")))
    torch.manual_seed(0)
    network = alive(model.build(), model.image_size)
    head: Any = network.get_classifier()
    nn.init.normal_(head.weight, std=0.2)  # logits of some ±10, as after a training
    return trained(run, network)


def lite0_with_cbam(path: Path) -> Run:
    """Its trained weights: with random ones, rounding alone changes its logits by a thousandth."""
    shipped = Run.open(SHIPPED / PHOTO_BACKBONE)
    model = ModelConfig(**vars(shipped.config.model) | {"options": {"cbam": "stage"}})
    run = Run.create(path, RunConfig(model, TrainConfig(dataset="insects")))
    network: Any = model.build()
    network.load_state_dict(shipped.load_model().state_dict(), strict=False)
    torch.manual_seed(0)
    for gates in network.attention().values():
        for parameter in gates.parameters():
            nn.init.normal_(parameter, std=0.05)
    return trained(run, network)


def trained(run: Run, network: nn.Module) -> Run:
    """With these weights, and a temperature, which new weights have none of."""
    run.save_weights(network.state_dict())
    model = ModelConfig(**vars(run.config.model) | {"temperature": 1.7})
    calibrated = Run(run.path, RunConfig(model, run.config.training))
    calibrated.write_config()
    return calibrated


def pushed(stub: HubStub, run: Run, pictures: Path) -> Pushed:
    push_run(run, f"ann/{run.name}", token=TOKEN)
    images = [Image.open(path).convert("RGB") for path in sorted(pictures.glob("*.png"))]
    found = list(Classifier(run).predict_many(images))
    top = [list(zip(one.classes, one.probabilities, strict=True)) for one in found]
    return Pushed(run.config.model.classes, torch.stack([one.logits for one in found]), top)


def blocks(stub: HubStub, repo_id: str) -> list[str]:
    """The Python of a repository's card, without that which needs this package."""
    found = re.findall(r"```python\n(.*?)```", read(stub.files(repo_id)[CARD]).decode(), re.DOTALL)
    assert "resnet_space" in found[-1]
    return found[:-1]


def answers_elsewhere(stub: HubStub, cards: dict[str, list[str]], folder: Path) -> dict[str, Any]:
    (folder / "cards.json").write_text(json.dumps(cards))
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "HF_TOKEN")}
    environment |= {"HF_ENDPOINT": stub.url, "HF_HOME": str(folder / "home"), "HF_HUB_DISABLE_XET": "1"}
    environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-I", "-c", ELSEWHERE]
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=500)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads((folder / "answers.json").read_text())
    return found


def require_same(expected: Pushed, answer: dict[str, Any], libraries: set[str]) -> None:
    assert set(answer["logits"]) == libraries
    for logits in answer["logits"].values():
        torch.testing.assert_close(torch.tensor(logits), expected.logits, rtol=0, atol=1e-4)
    probabilities = expected.logits.softmax(1) if "file" not in libraries else (expected.logits / 1.7).softmax(1)
    for row, found in enumerate(answer.get("top", ())):
        assert [label for label, _ in found] == [label for label, _ in expected.top[row]]
        shown = probabilities[row].topk(len(found)).values
        torch.testing.assert_close(torch.tensor([p for _, p in found]), shown, rtol=0, atol=1e-4)
    assert all(printed.strip() for printed in answer["printed"])


def test_the_cards_lines_give_the_apps_answers_without_this_package(
    stub: HubStub, pictures: Path, tmp_path: Path
) -> None:
    timms = made(tmp_path / "timms", ModelConfig("resnet18", HOSTILE, image_size=64, resize=72))
    ours = made(tmp_path / "ours", ModelConfig("resnet20", HOSTILE, {"cbam": "stage"}))
    expected = {f"ann/{run.name}": pushed(stub, run, pictures) for run in (timms, ours)}
    cards = {repo_id: blocks(stub, repo_id)[:1] for repo_id in expected}  # transformers takes its time: see below
    answers = answers_elsewhere(stub, cards, pictures)
    require_same(expected["ann/timms"], answers["ann/timms"], {"timm"})
    require_same(expected["ann/ours"], answers["ann/ours"], {"file"})
    first = expected["ann/timms"].top[3][0][0]
    assert repr(first) in answers["ann/timms"]["printed"][0]


@pytest.mark.long
def test_timm_and_transformers_give_the_apps_answers_for_each_kind_of_network(
    stub: HubStub, pictures: Path, tmp_path: Path
) -> None:
    shutil.copytree(SHIPPED / "efficientnet-lite0-imagenet", tmp_path / "lite0")
    runs = [
        made(tmp_path / "resnet18", ModelConfig("resnet18", HOSTILE, image_size=224, resize=256)),
        made(tmp_path / "cbam", ModelConfig("resnet20", HOSTILE, {"cbam": "stage"})),
        made(tmp_path / "stem", ModelConfig("resnet18", HOSTILE, {"stem": "cifar"})),
        lite0_with_cbam(tmp_path / "lite0-cbam"),
        Run.open(tmp_path / "lite0"),
        made(tmp_path / "vit", ModelConfig("vit_tiny_patch16_224", HOSTILE, image_size=160, resize=180)),
        made(tmp_path / "small-vit", ModelConfig("vit_tiny_patch4_32", HOSTILE)),
    ]
    expected = {f"ann/{run.name}": pushed(stub, run, pictures) for run in runs}
    answers = answers_elsewhere(stub, {repo_id: blocks(stub, repo_id) for repo_id in expected}, pictures)
    for repo_id, of_app in expected.items():
        has_file = MODEL_FILE in stub.files(repo_id)
        assert has_file == (repo_id in ("ann/cbam", "ann/stem", "ann/lite0-cbam"))
        require_same(of_app, answers[repo_id], {"file"} if has_file else {"timm", "transformers"})
    assert not any(
        re.search("trust_remote_code", read(content).decode(errors="replace"))
        for repo_id in expected
        for name, content in stub.files(repo_id).items()
        if name != WEIGHTS
    )


# Every network and option


QUICK = {"resnet18", "resnet20-block", "lenet5", "mobilenetv3_small_100-cifar", "tf_efficientnet_lite0-last"}
QUICK |= {"vit_tiny_patch4_32", "vit_tiny_patch4_32-post", "deit_tiny_patch16_224", "googlenet"}


def _cases() -> Iterator[Any]:
    """Of each network, its options one at a time; most with -m long."""
    for name, entry in entries().items():
        if entry.parameters > 50_000_000 and name not in ("vgg16", "alexnet", "beit_base_patch16_224"):
            continue  # a larger twin of another
        given: list[dict[str, Any]] = [{}]
        given += [
            {key: value}
            for key, option in entry.options.items()
            for value in option.choices
            if value != option.default and not option.initial
        ]
        for options in given:
            case = "-".join((name, *map(str, options.values())))
            yield pytest.param(name, options, id=case, marks=[] if case in QUICK else [pytest.mark.long])


@pytest.mark.parametrize(("name", "options"), list(_cases()))
@torch.inference_mode()
def test_each_network_is_the_same_in_timm_or_by_its_source(
    name: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import timm

    entry = entries()[name]
    model = ModelConfig(name, ("a", "b", "c"), options)
    size = model.input_size if entry.fixed else min(model.input_size, max(96, entry.least))
    size += -size % (14 if entry.least == 14 else 32)  # whole patches, and whole windows
    model = ModelConfig(name, ("a", "b", "c"), options, image_size=size, temperature=1.7)
    torch.manual_seed(0)
    ours = alive(model.build(), size)
    run = Run(tmp_path, RunConfig(model))
    run.save_weights(ours.state_dict())
    described = run.config.to_json() | timm_entries(model, "mit")
    (tmp_path / CONFIG).write_text(json.dumps(described))
    images = torch.randn(2, 3, size, size)
    source = model_file(model)
    assert ("architecture" in described) == (not source)
    if source:
        theirs = _loaded(tmp_path, source).load()
    else:
        theirs = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
        assert theirs.pretrained_cfg["classifier"] == entry.head
        assert theirs.pretrained_cfg["input_size"] == [3, size, size]
    torch.testing.assert_close(theirs(images), ours(images), rtol=1e-5, atol=1e-5)


def _loaded(folder: Path, source: str) -> Any:
    """The file as a module, and nothing of this package or for its checkers in it."""
    assert not re.search("resnet_space|pyrefly|noqa", source)
    (folder / MODEL_FILE).write_text(source, encoding="utf-8")
    names: dict[str, Any] = {"__name__": "model", "__file__": str(folder / MODEL_FILE)}
    exec(compile(source, MODEL_FILE, "exec"), names)

    class Module:
        load: Callable[[], nn.Module] = staticmethod(names["load"])

    return Module


def test_a_network_from_outside_brings_its_source_too(tmp_path: Path) -> None:
    with own_networks.registered():
        model = ModelConfig("own-residual", ("a", "b"), {"cbam": "stage"}, image_size=16)
        run = Run(tmp_path, RunConfig(model))
        ours = alive(model.build(), 16)
        run.save_weights(ours.state_dict())
        run.write_config()
        source = model_file(model)
    assert needs(source) == "torch safetensors pillow numpy"
    images = torch.randn(2, 3, 16, 16)
    with torch.inference_mode():
        assert torch.equal(_loaded(tmp_path, source).load()(images), ours(images))


def test_the_packages_of_a_file_are_named() -> None:
    def packages(name: str, **options: Any) -> str:
        return needs(model_file(ModelConfig(name, ("a", "b"), options)))

    assert packages("resnet20") == packages("resnet18", stem="cifar") == "torch safetensors pillow numpy"
    assert packages("alexnet") == "torch torchvision safetensors pillow numpy"
    assert packages("tf_efficientnet_lite0", cbam="last") == packages("mobilenetv3_small_100", stem="cifar")
    assert packages("mobilenetv3_small_100", stem="cifar") == "torch timm safetensors pillow numpy"
    assert packages("resnet18") == ""


@pytest.mark.parametrize("size", [32, 224, 260, 288, 299, 380, 518])
def test_timms_fraction_of_the_crop_gives_the_side_before_it(size: int) -> None:
    for stored in range(size, size + size // 2):
        assert int(np.floor(size / crop_share(size, stored))) == stored
    assert crop_share(224, 256) == 0.875
