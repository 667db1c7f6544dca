import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from huggingface_hub import ModelCard, constants
from PIL import Image
from torch import Tensor

from resnet_space.common.errors import UserError
from resnet_space.common.hub_client import HubError
from resnet_space.common.imagenet import IMAGENET_MEAN, IMAGENET_STD
from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.hub import install, pretrained, push_run
from resnet_space.hub.card import card_text
from resnet_space.hub.pretrained import PRETRAINED, pretrained_model, pull_pretrained
from resnet_space.inference import Classifier
from resnet_space.models.registry import Pretrained
from resnet_space.runs import BACKBONE, CONFIG, NOTICE, SOURCE, WEIGHTS, Library, Run, Source
from resnet_space.training.state import initial_model
from tests.hub_stub import HubStub, isolate_client

REPO = "timm/resnet18.tv_in1k"
NAME = "resnet18.tv_in1k"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    isolate_client(monkeypatch, tmp_path)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStub]:
    with HubStub() as stub:
        monkeypatch.setenv("HF_ENDPOINT", stub.url)
        yield stub


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def theirs() -> torch.nn.Module:
    """torchvision's ResNet-18, with statistics that no random initialisation has."""
    torch.manual_seed(0)
    model = torchvision.models.resnet18()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.num_batches_tracked.fill_(7)
    return model.eval()


@pytest.fixture(scope="module")
def weights(theirs: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("weights") / WEIGHTS
    safetensors.torch.save_file(theirs.state_dict(), file, metadata={"format": "pt"})
    return file


Change = Callable[[dict[str, Tensor]], Any]


def changed(weights: Path, change: Change) -> bytes:
    tensors = safetensors.torch.load_file(weights)
    change(tensors)
    return safetensors.torch.save(tensors, metadata={"format": "pt"})


def refusal(name: str, root: Path, **options: Any) -> str:
    """The sentence with which weights are refused; nothing is left behind."""
    with pytest.raises(HubError) as caught:
        pull_pretrained(name, root, **options)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert not root.exists() or not list(root.iterdir())
    return sentence


def test_a_resnets_weights_are_torchvisions_in_two_versions() -> None:
    resnets = [known for known in PRETRAINED if known.name.startswith("resnet")]
    assert [known.name for known in resnets] == [
        *(f"resnet{depth}.tv_in1k" for depth in (18, 34)),
        *(f"resnet{depth}.{version}_in1k" for depth in (50, 101, 152) for version in ("tv", "tv2")),
    ]
    for known in resnets:
        versions = torchvision.models.get_model_weights(pretrained_model(known.name).architecture)
        their = versions["IMAGENET1K_V2" if "tv2" in known.name else "IMAGENET1K_V1"]
        transforms = their.transforms()
        assert transforms.resize_size == [known.resize]
        model = pretrained_model(known.name)
        assert model.classes == tuple(their.meta["categories"])
        assert len(set(model.classes)) == 1_000
        assert (model.image_size, model.resize) == (*transforms.crop_size, known.resize)
        assert (list(model.mean), list(model.std)) == (transforms.mean, transforms.std)


TIMMS = [known for known in PRETRAINED if known.repo_id.startswith("timm/") and ".tv" not in known.name]


@pytest.mark.parametrize("known", TIMMS, ids=lambda known: known.name)
def test_other_weights_are_prepared_as_timm_says(known: Pretrained) -> None:
    theirs, model = timm.models.get_pretrained_cfg(known.name), pretrained_model(known.name)
    assert known.repo_id == theirs.hf_hub_id
    assert known.licence == theirs.license
    if "dinov2" not in known.name:  # which is run at 224 pixels, not at the 518 of its last training
        assert model.image_size == theirs.input_size[-1]
        assert model.resize == int(model.image_size / theirs.crop_pct)
    assert (model.mean, model.std) == (theirs.mean, theirs.std)
    assert known.head is (theirs.num_classes > 0)
    assert (known.accuracy is None) is (theirs.num_classes == 0)


@torch.no_grad()
def test_pulled_weights_are_a_run_that_computes_what_torchvision_computes(
    stub: HubStub, root: Path, weights: Path, theirs: torch.nn.Module
) -> None:
    commit = stub.add_model(REPO, {WEIGHTS: weights, "pytorch_model.bin": b"pickle", "config.json": b"{}"})
    told: list[tuple[int, int]] = []
    run = pull_pretrained(NAME, root, progress=lambda *where: told.append(where))
    size = weights.stat().st_size
    assert told[-1] == (size, size)
    assert 0 < told[0][0] < size
    assert [asked.path for asked in stub.asked("GET", "/resolve/")] == []  # the client goes where HEAD sent it
    assert not stub.asked("HEAD", "bin|config")

    assert run.path == root / NAME
    assert sorted(file.name for file in run.path.iterdir()) == [NOTICE, CONFIG, WEIGHTS, SOURCE]
    assert json.loads((run.path / SOURCE).read_text()) == {"repo_id": REPO, "revision": commit}
    model_config = run.config.model
    assert (model_config.architecture, model_config.options["stem"], model_config.options["cbam"]) == (
        "resnet18",
        "imagenet",
        None,
    )
    assert (model_config.image_size, model_config.resize) == (224, 256)
    assert (model_config.mean, model_config.std) == (IMAGENET_MEAN, IMAGENET_STD)
    assert run.config.training.dataset == "ILSVRC/imagenet-1k"
    assert run.metrics() == []
    assert [found.name for found in Library(root).runs()] == [NAME]

    ours = run.load_model()
    assert int(ours.state_dict()["bn1.num_batches_tracked"]) == 7
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)


def test_what_is_there_is_returned_without_a_request(stub: HubStub, root: Path, weights: Path) -> None:
    stub.add_model(REPO, {WEIGHTS: weights})
    first = pull_pretrained(NAME, root)
    stub.requests.clear()
    assert pull_pretrained(NAME, root) == first
    assert stub.requests == []


def test_a_folder_that_is_not_a_run_is_not_replaced(stub: HubStub, root: Path) -> None:
    (root / NAME).mkdir(parents=True)
    (root / NAME / "mine.txt").touch()
    with pytest.raises(UserError, match=r"^resnet18.tv_in1k is not a run"):
        pull_pretrained(NAME, root)
    assert (root / NAME / "mine.txt").exists()


@torch.no_grad()
def test_weights_without_batch_counters_are_complete(
    stub: HubStub, root: Path, weights: Path, theirs: torch.nn.Module
) -> None:
    def without_counters(tensors: dict[str, Tensor]) -> None:
        for name in [name for name in tensors if name.endswith("num_batches_tracked")]:
            del tensors[name]

    stub.add_model(REPO, {WEIGHTS: changed(weights, without_counters)})
    ours = pull_pretrained(NAME, root).load_model()
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda tensors: tensors.pop("layer3.0.conv1.weight"), "layer3.0.conv1.weight is missing"),
        (lambda tensors: tensors.update(extra=torch.ones(1)), "extra is unexpected"),
        (
            lambda tensors: tensors.update({"fc.weight": torch.ones(10, 512)}),
            "fc.weight has the shape (10, 512) instead of (1000, 512)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    stub: HubStub, root: Path, weights: Path, change: Change, problem: str
) -> None:
    stub.add_model(REPO, {WEIGHTS: changed(weights, change)})
    assert refusal(NAME, root) == (
        f"The model {REPO} cannot be used: The model.safetensors of {NAME} does not fit resnet18: {problem}."
    )


def test_damaged_weights_are_refused(stub: HubStub, root: Path) -> None:
    stub.add_model(REPO, {WEIGHTS: b"not safetensors at all"})
    sentence = refusal(NAME, root)
    assert sentence.startswith(f"The {WEIGHTS} of {REPO} is damaged (")
    assert sentence.endswith("choose another model, or try again.")


def test_a_pickle_is_never_read(stub: HubStub, root: Path) -> None:
    stub.add_model(REPO, {"pytorch_model.bin": pickle.dumps(print)})
    assert refusal(NAME, root) == (
        f"The model {REPO} has no model.safetensors, and other formats are not loaded because they can run code."
    )
    assert not stub.asked("HEAD", "bin")
    assert not stub.asked("GET", "bin")


def test_weights_of_an_unlikely_size_are_not_downloaded(
    stub: HubStub, root: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "MAX_BYTES", 40_000_000)
    stub.add_model(REPO, {WEIGHTS: weights})
    assert refusal(NAME, root) == f"The {WEIGHTS} of {REPO} has 0.0468 GB, which is not plausible."
    assert len(stub.requests) == 1


@pytest.mark.parametrize("name", ["resnet18", "resnet18.a1_in1k", "../resnet18.tv_in1k", "", "timm/resnet18.tv_in1k"])
def test_unknown_weights_are_refused_with_the_known_ones(stub: HubStub, root: Path, name: str) -> None:
    sentence = refusal(name, root)
    assert sentence.startswith(f"There are no pretrained weights named {name!r}: choose one of resnet18.tv_in1k, ")
    assert stub.requests == []


def test_a_revision_can_be_pinned(stub: HubStub, root: Path, weights: Path) -> None:
    first = stub.add_model(REPO, {WEIGHTS: weights})
    stub.add_model(REPO, {WEIGHTS: b"newer"})
    run = pull_pretrained(NAME, root, revision=first)
    assert json.loads((run.path / SOURCE).read_text())["revision"] == first
    other = root.with_name("other")
    assert refusal(NAME, other, revision="v9") == (
        f"The model {REPO} has no revision 'v9': leave it empty, or use one of {stub.url}/{REPO}/commits/main."
    )
    assert refusal(NAME, other, revision="a b").startswith("'a b' is not a valid revision")


@torch.no_grad()
def test_weights_without_a_classifier_start_a_training_and_predict_nothing(stub: HubStub, root: Path) -> None:
    torch.manual_seed(0)
    theirs = timm.create_model("vit_small_patch16_224.dino", pretrained=False)
    assert "head.weight" not in theirs.state_dict()
    stub.add_model("timm/vit_small_patch16_224.dino", {WEIGHTS: safetensors.torch.save(theirs.state_dict())})
    run = pull_pretrained("vit_small_patch16_224.dino", root)
    images = torch.randn(1, 3, 224, 224)
    ours = run.load_model()
    torch.testing.assert_close(ours.forward_features(images), theirs.eval().forward_features(images))
    assert not ours(images).any()
    with pytest.raises(UserError, match=r"^These weights have no classifier: fine-tune them on your images, then "):
        Classifier(run).predict(Image.new("RGB", (224, 224)))
    pets = replace(run.config.model, classes=("cat", "dog"))
    config = RunConfig(pets, TrainConfig(dataset="cifar10-mini", start=run.name))
    model, _ = initial_model(Run.create(root / "pets", config, start=run))
    assert torch.equal(model.cls_token, theirs.cls_token)
    assert model.head.weight.any()


class Downloads(ThreadingHTTPServer):
    """One file at any address, as download.pytorch.org has them."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        super().__init__(("127.0.0.1", 0), _Answer)


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content = self.server.content
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def torchvisions(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes, str], None]]:
    """Let torchvision download GoogLeNet's weights from here: (what the address has, the hash that it names)."""
    servers = []

    def serve(content: bytes, digits: str) -> None:
        server = Downloads(content)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/googlenet-{digits}.pth"
        monkeypatch.setattr(torchvision.models.GoogLeNet_Weights, "url", property(lambda _: address))

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def as_pickle(value: object) -> tuple[bytes, str]:
    """(what torch.save writes, the first digits of its hash)."""
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue(), hashlib.sha256(file.getvalue()).hexdigest()[:8]


@torch.no_grad()
def test_what_the_hub_lacks_comes_from_torchvision_and_becomes_safetensors(
    root: Path, torchvisions: Callable[[bytes, str], None]
) -> None:
    theirs = torchvision.models.googlenet(init_weights=True, transform_input=True).eval()
    content, digits = as_pickle(theirs.state_dict())
    torchvisions(content, digits)
    told: list[tuple[int, int]] = []
    run = pull_pretrained("googlenet.tv_in1k", root, progress=lambda *where: told.append(where))
    assert sorted(file.name for file in run.path.iterdir()) == [NOTICE, CONFIG, WEIGHTS, SOURCE]
    assert run.source == Source("torchvision:GoogLeNet_Weights.IMAGENET1K_V1", digits)
    assert told == [(0, 49_731_000), (49_731_000, 49_731_000)]
    assert pull_pretrained("googlenet.tv_in1k", root) == run
    # torchvision's network for these weights takes ImageNet's normalisation, and undoes it first.
    pixels = torch.rand(2, 3, 224, 224)
    model = run.config.model
    mean, std = (torch.tensor(values)[:, None, None] for values in (model.mean, model.std))
    theirs_sees = (pixels - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[:, None, None]
    torch.testing.assert_close(run.load_model()((pixels - mean) / std), theirs(theirs_sees), rtol=1e-4, atol=1e-5)
    assert load_card(run).data.license == "bsd-3-clause"
    assert load_card(run).data.base_model is None


def test_damaged_or_unsafe_downloads_of_torchvision_are_refused(
    root: Path, torchvisions: Callable[[bytes, str], None]
) -> None:
    damaged = "googlenet.tv_in1k cannot be used because the download is damaged: try again."
    torchvisions(b"something else", "0123abcd")
    assert refusal("googlenet.tv_in1k", root) == damaged
    torchvisions(*as_pickle(Path("no tensor")))
    assert refusal("googlenet.tv_in1k", root) == damaged
    weights = torchvision.models.googlenet(init_weights=True).state_dict()
    torchvisions(*as_pickle({name: value for name, value in weights.items() if name != "fc.bias"}))
    assert "fc.bias is missing" in refusal("googlenet.tv_in1k", root)


def test_weights_for_non_commercial_use_are_not_pushed_under_another_licence(stub: HubStub, root: Path) -> None:
    mae = next(known for known in PRETRAINED if known.name.endswith(".mae"))
    source = Run.create(root / mae.name, RunConfig(ModelConfig("resnet20", ("a", "b"))))  # smaller than its own
    source.save_weights(source.config.model.build().state_dict())
    (source.path / NOTICE).write_text(pretrained._notice(mae))
    training = TrainConfig(dataset="cifar10-mini", start=mae.name)
    run = Run.create(root / "mine", replace(source.config, training=training), start=source)
    run.save_weights(source.load_weights())
    assert load_card(run).data.license == "cc-by-nc-4.0"
    stub.add_user("hf_annswritetoken", "ann")
    assert push_run(run, "ann/mine", token="hf_annswritetoken")
    because = (
        "because it comes from vit_base_patch16_224.mae, whose licence cc-by-nc-4.0 allows no commercial use: put "
    )
    because += "SPDX-License-Identifier: cc-by-nc-4.0 into the first line of its NOTICE."
    with pytest.raises(HubError) as caught:
        push_run(run, "ann/mine", token="hf_annswritetoken", licence="mit")
    assert str(caught.value) == f"mine cannot be pushed under the licence mit {because}"
    (run.path / NOTICE).write_text("SPDX-License-Identifier: Apache-2.0\n")
    with pytest.raises(HubError) as caught:
        push_run(run, "ann/mine", token="hf_annswritetoken")
    assert str(caught.value) == f"mine cannot be pushed under the licence apache-2.0 {because}"


def load_card(run: Run) -> ModelCard:
    return ModelCard(card_text(run, run.metrics()))


def test_without_a_network_the_sentence_names_what_works(
    stub: HubStub, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instead = f"or start from {BACKBONE}, which needs no network."
    assert BACKBONE == "resnet20-cbam-imagenet32"
    assert (Path(pretrained.__file__).parents[2] / "checkpoints" / BACKBONE / WEIGHTS).is_file()
    stub.fail("/api/models", 503)
    assert refusal(NAME, root) == (
        f"The model {REPO} cannot be fetched because the Hub is having problems (error 503): try again later, {instead}"
    )
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert refusal(NAME, root) == (
        f"The model {REPO} cannot be fetched because the Hub is unreachable: check your network, {instead}"
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert (
        refusal(NAME, root) == f"The model {REPO} cannot be fetched because HF_HUB_OFFLINE is set: unset it, {instead}"
    )


def test_what_the_progress_raises_leaves_no_run(stub: HubStub, root: Path, weights: Path) -> None:
    stub.add_model(REPO, {WEIGHTS: weights})

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull_pretrained(NAME, root, progress=stop)
    assert not root.exists()


def test_the_app_in_a_process_of_its_own_finds_the_stub_too(stub: HubStub, root: Path, weights: Path) -> None:
    stub.add_model(REPO, {WEIGHTS: weights})
    code = (
        "import sys; from pathlib import Path; from resnet_space.hub.pretrained import pull_pretrained; "
        "print(pull_pretrained(sys.argv[1], Path(sys.argv[2])).name)"
    )
    environment = os.environ | {"HF_ENDPOINT": stub.url, "HF_HOME": str(root / "home"), "HF_HUB_DISABLE_XET": "1"}
    result = subprocess.run(
        [sys.executable, "-c", code, NAME, str(root / "runs")],
        env=environment,
        cwd=Path(pretrained.__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.stdout.strip() == NAME, result.stderr
