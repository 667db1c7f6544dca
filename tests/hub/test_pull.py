import itertools
import json
import pickle
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
import torchvision
from huggingface_hub import ModelCard, constants
from PIL import Image
from torch import Tensor

from resnet_space.common.errors import UserError
from resnet_space.common.hub_client import HubError
from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.data.sources import BUNDLED
from resnet_space.explain.ood import fit_feature_statistics, save_feature_statistics
from resnet_space.hub import checks, pull
from resnet_space.hub.licence import base_model, licence_of, stated_licence
from resnet_space.hub.portable import MODEL_FILE
from resnet_space.hub.pull import describe_model, pull_run, search_models
from resnet_space.hub.push import push_run
from resnet_space.inference import Classifier
from resnet_space.models.registry import entries
from resnet_space.runs import (
    CARD,
    CONFIG,
    EVALUATION,
    FEATURE_STATISTICS,
    METRICS,
    NOTICE,
    SOURCE,
    START_WEIGHTS,
    WEIGHTS,
    Library,
    Metric,
    Run,
    Source,
)
from resnet_space.training import evaluation
from resnet_space.training.evaluation import Evaluation
from tests.hub_stub import HubStub, isolate_client, without_waiting
from tests.hub_stub.store import read
from tests.networks import alive

TOKEN = "hf_annswritetoken"
STRANGER = "hf_bobswritetoken"
REPO = "ann/bees"

RUN_CONFIG = RunConfig(
    ModelConfig("resnet20", ("ant", "bee"), options={"cbam": "stage"}), TrainConfig(dataset="insects", epochs=1)
)
START: Metric = {"event": "start", "time": 1.5, "device": "cpu", "precision": "float32", "parameters": 272_000}
START |= {"train_images": 9, "validation_images": 2, "epochs": 1, "steps_per_epoch": 1, "seconds": 0.0}
START |= {"phases": [{"epochs": 1, "rates": {"head": 0.05}}]}
STEP: Metric = {"event": "step", "step": 1, "loss": 0.7, "rates": {"head": 0.05}, "images_per_second": 9.0}
STEP |= {"seconds": 1.0}
EPOCH: Metric = {"event": "epoch", "epoch": 1, "step": 1, "phase": 1, "train_loss": 0.7, "train_accuracy": 0.5}
EPOCH |= {"residuals": {"images": 4, "blocks": ["layer1.0"], "ratio": [[0.1, 0.2, 0.3]]}}
EPOCH |= {"validation_loss": 0.6, "validation_accuracy": 0.5, "best": True, "seconds": 2.0}
TEST: Metric = {"event": "test", "split": "test", "images": 4, "loss": 0.6, "accuracy": 0.75, "seconds": 3.0}
TEST |= {"top5_accuracy": 1.0, "ece": 0.1, "macro_f1": 0.7}
END: Metric = {"event": "end", "status": "finished", "time": 9.5}
CALIBRATION: Metric = {"event": "calibration", "images": 9, "temperature": 2, "ece_before": 0.1, "ece_after": 0}
SANITY: Metric = {"event": "sanity", "method": "gates", "parts": ["head"], "correlations": [0.5], "images": 4}
METRICS_WRITTEN = [START, STEP, EPOCH, TEST, END]


@pytest.fixture(autouse=True)
def own_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    isolate_client(monkeypatch, tmp_path)
    without_waiting(monkeypatch)
    # A card's figures are drawn in test_card.py; here they would take longer than all else.
    monkeypatch.setattr("resnet_space.plots.figures.png", lambda _figure: b"\x89PNG\r\n\x1a\n")


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStub]:
    with HubStub() as stub:
        stub.add_user(TOKEN, "ann")
        stub.add_user(STRANGER, "bob")
        monkeypatch.setenv("HF_ENDPOINT", stub.url)
        yield stub


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that was trained and tested."""
    run = Run.create(tmp_path_factory.mktemp("made") / "bees", RUN_CONFIG)
    run.save_weights(alive(RUN_CONFIG.model.build()).state_dict())
    for metric in METRICS_WRITTEN:
        run.append_metric(metric)
    four = np.arange(4, dtype=np.int32)
    judged = Evaluation(
        labels=four % 2,
        top=np.array([[0, 1], [1, 0], [0, 1], [0, 1]], dtype=np.int32),
        probabilities=np.array([[0.9, 0.1]] * 4, dtype=np.float32),
        losses=np.full(4, 0.6, dtype=np.float32),
        rows=four,
        classes=RUN_CONFIG.model.classes,
    )
    evaluation.save(judged, run.path / EVALUATION)
    means = np.random.default_rng(0).normal(size=(20, 128)).astype(np.float32)
    statistics = fit_feature_statistics(means, means)
    assert statistics is not None
    save_feature_statistics(statistics, run)
    return run


@pytest.fixture(scope="module")
def files(run: Run) -> dict[str, bytes]:
    """A repository as it was pushed, without figures."""
    kept = {name: (run.path / name).read_bytes() for name in (CONFIG, WEIGHTS, METRICS, EVALUATION, FEATURE_STATISTICS)}
    return kept | {CARD: "---\nlicense: mit\n---\n# bees 🐝\n".encode(), ".gitattributes": b""}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def refusal(root: Path, repo_id: Any = REPO, **options: Any) -> str:
    """The sentence with which a model is refused; nothing is left behind."""
    before = sorted(root.iterdir()) if root.exists() else []
    with pytest.raises(HubError) as caught:
        pull_run(repo_id, root=root, **options)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert len(sentence) < 600
    assert (sorted(root.iterdir()) if root.exists() else []) == before
    return sentence


# The round trip


def test_what_a_version_before_pushed_gets_the_present_names_here_and_when_it_is_pushed_anew(
    stub: HubStub, root: Path, files: dict[str, bytes]
) -> None:
    before = files | {"usual.safetensors": files[FEATURE_STATISTICS], METRICS: lines(TEST | {"looks": 2})}
    stub.add_model(REPO, {name: content for name, content in before.items() if name != FEATURE_STATISTICS})
    pulled = pull_run(REPO, root=root)
    assert (pulled.path / FEATURE_STATISTICS).read_bytes() == files[FEATURE_STATISTICS]
    assert not (pulled.path / "usual.safetensors").exists()
    assert pulled.metrics() == [TEST | {"test_evaluations": 2}]
    (pulled.path / FEATURE_STATISTICS).rename(pulled.path / "usual.safetensors")  # as pulled by a version before
    push_run(pulled, REPO, token=TOKEN)
    assert "usual.safetensors" not in stub.files(REPO)
    assert stub.files(REPO)[FEATURE_STATISTICS] == files[FEATURE_STATISTICS]


@torch.no_grad()
def test_what_was_pushed_comes_back_to_the_bit(stub: HubStub, run: Run, root: Path) -> None:
    commit = push_run(run, REPO, token=TOKEN).rpartition("/")[2]
    told: list[tuple[int, int]] = []
    pulled = pull_run(REPO, root=root, progress=lambda *where: told.append(where))
    assert pulled.path == root / "ann.bees"
    assert pulled.source == Source(REPO, commit)
    assert json.loads((pulled.path / SOURCE).read_text()) == {"repo_id": REPO, "revision": commit}
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert torch.equal(pulled.load_model()(images), run.load_model()(images))
    assert pulled.config == run.config
    assert pulled.metrics() == run.metrics()
    ours, theirs = evaluation.load_evaluation(run), evaluation.load_evaluation(pulled)
    assert ours is not None
    assert theirs is not None
    assert np.array_equal(ours.losses, theirs.losses)
    pushed = {name: stub.files(REPO)[name] for name in stub.files(REPO) if name not in (".gitattributes", MODEL_FILE)}
    there = {str(file.relative_to(pulled.path)): file for file in pulled.path.rglob("*") if file.is_file()}
    assert {name: file.read_bytes() for name, file in there.items() if name != SOURCE} == pushed
    assert told[-1] == (sum(map(len, pushed.values())),) * 2
    assert 0 < told[0][0] < told[-1][0]
    assert [found.name for found in Library(root).runs()] == ["ann.bees"]


def test_a_pulled_run_can_be_pushed_again_without_a_new_commit(stub: HubStub, run: Run, root: Path) -> None:
    first = push_run(run, REPO, token=TOKEN)
    pulled = pull_run(REPO, root=root)
    stub.requests.clear()
    push_run(pulled, "bob/bees", token=STRANGER)
    assert stub.files("bob/bees")[WEIGHTS] == stub.files(REPO)[WEIGHTS]
    assert not stub.asked("PUT", "^/upload/")  # the Hub has the very same file
    assert push_run(run, REPO, token=TOKEN) == first


# Before a download


def test_a_model_is_described_before_it_is_downloaded(stub: HubStub, files: dict[str, bytes]) -> None:
    more = {"pytorch_model.bin": b"pickle", "handler.py": b"import os", "resume/state.pt": b"", "figures/a.svg": b""}
    commit = stub.add_model(REPO, files | more | {"figures/curves.png": b"\x89PNG\r\n\x1a\n"}, private=True)
    found = describe_model(REPO, token=TOKEN)
    assert (found.repo_id, found.revision, found.kind, found.private) == (REPO, commit, "run", True)
    assert (found.classes, found.config) == (2, RUN_CONFIG)
    assert set(found.files) == {CONFIG, WEIGHTS, METRICS, EVALUATION, FEATURE_STATISTICS, CARD, "figures/curves.png"}
    assert found.bytes == sum(len(content) for name, content in files.items() if name != ".gitattributes") + 8
    assert not stub.asked("GET", "/storage/")  # nothing large yet
    assert "bees" not in repr(found.files) or len(repr(found)) < 300


def test_only_a_runs_files_are_ever_asked_for(stub: HubStub, files: dict[str, bytes], root: Path) -> None:
    more = {"pytorch_model.bin": b"pickle", "handler.py": b"import os", "resume/state.pt": b"", "figures/a.svg": b""}
    stub.add_model(REPO, files | more)
    pulled = pull_run(REPO, root=root)
    assert not stub.asked("GET", "bin|handler|resume|svg")
    assert not stub.asked("HEAD", "bin|handler|resume|svg")
    assert {file.name for file in pulled.path.iterdir()} == (set(files) - {".gitattributes"}) | {SOURCE}


def test_models_are_searched_by_the_apps_tag(stub: HubStub, monkeypatch: pytest.MonkeyPatch) -> None:
    stub.add_model("ann/bees", {}, tags=("resnet_space",))
    stub.add_model("ann/secret-bees", {}, tags=("resnet_space",), private=True)
    stub.add_model("bob/bees-bert", {}, tags=("bert",))
    stub.add_model("bob/wasps", {}, tags=("resnet", "resnet_space"))
    assert search_models("bees") == ["ann/bees"]
    assert search_models(" ") == ["ann/bees", "bob/wasps"]
    assert search_models("bees", token=TOKEN) == ["ann/bees", "ann/secret-bees"]
    assert search_models("", limit=1) == ["ann/bees"]
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match=r"^The list of models cannot be fetched because the Hub is unreachable"):
        search_models("bees")


# Where it goes


def test_the_same_commit_is_not_downloaded_twice(stub: HubStub, files: dict[str, bytes], root: Path) -> None:
    stub.add_model(REPO, files)
    first = pull_run(REPO, root=root)
    stub.requests.clear()
    assert pull_run(REPO, root=root) == first
    assert not stub.asked("GET", "/(resolve|storage)/")
    assert [folder.name for folder in root.iterdir()] == ["ann.bees"]


def test_weights_that_are_damaged_here_are_fetched_anew_by_the_next_try(
    stub: HubStub, files: dict[str, bytes], root: Path, tmp_path: Path
) -> None:
    stub.add_model(REPO, files)
    pull_run(REPO, root=root)
    (cached,) = Path(constants.HF_HUB_CACHE).rglob(WEIGHTS)
    cached.resolve().write_bytes(b"damaged")
    elsewhere = tmp_path / "elsewhere"
    sentence = refusal(elsewhere)
    assert sentence.startswith(f"The {WEIGHTS} of {REPO} is damaged (")
    assert str(tmp_path) not in sentence
    assert (pull_run(REPO, root=elsewhere).path / WEIGHTS).read_bytes() == files[WEIGHTS]


@pytest.mark.parametrize("trait", ["private", "gated"])
def test_what_is_there_already_is_given_only_to_who_may_read_it(
    stub: HubStub, files: dict[str, bytes], root: Path, trait: str
) -> None:
    stub.add_model(REPO, files, **{trait: True})
    pulled = pull_run(REPO, root=root, token=TOKEN)
    for token in (STRANGER, None):
        sentence = refusal(root, token=token)
        assert ("is gated" if trait == "gated" else "does not exist on the Hub, or is private") in sentence
        with pytest.raises(HubError):
            describe_model(REPO, token=token)
    assert refusal(root, token="hf_expiredtoken").endswith("the Hub rejected the token: sign in again.")
    assert pull_run(REPO, root=root, token=TOKEN) == pulled
    stub.tokens[STRANGER].add(REPO)
    assert pull_run(REPO, root=root, token=STRANGER) == pulled


def test_another_commit_and_a_taken_name_get_a_number(stub: HubStub, files: dict[str, bytes], root: Path) -> None:
    (root / "ann.bees").mkdir(parents=True)
    (root / "ann.bees" / "mine.txt").touch()
    first = stub.add_model(REPO, files)
    assert pull_run(REPO, root=root).name == "ann.bees-2"
    stub.add_model(REPO, files | {CARD: b"another"})
    newer = pull_run(REPO, root=root)
    assert (newer.name, (newer.path / CARD).read_text()) == ("ann.bees-3", "another")
    assert pull_run(REPO, revision=first, root=root).name == "ann.bees-2"
    assert (root / "ann.bees" / "mine.txt").exists()


def test_a_private_models_run_can_have_a_name_that_nobody_guesses(
    stub: HubStub, files: dict[str, bytes], root: Path
) -> None:
    stub.tokens[TOKEN] = {REPO}
    stub.add_model(REPO, files, private=True)
    hidden = pull_run(REPO, root=root, token=TOKEN, hidden=True)
    assert re.fullmatch(r"ann\.bees-[0-9a-f]{10}", hidden.name)
    assert pull_run(REPO, root=root, token=TOKEN, hidden=True) == hidden
    stub.add_model("bob/open", files)
    assert pull_run("bob/open", root=root, hidden=True).name == "bob.open"


def test_a_name_is_always_one_of_a_run() -> None:
    for repo_id in ("ann/bees", "bees", f"{'a' * 90}/{'b' * 90}", f"{'a' * 88}/b.b.b.gitx", f"{'a' * 91}_/b"):
        for name in itertools.islice(pull.folder_names(repo_id), 100):
            assert pull.NAME_PATTERN.fullmatch(name)


def test_a_strangers_repository_never_passes_for_the_known_weights() -> None:
    assert next(pull.folder_names("resnet18/tv_in1k")) == "resnet18.tv_in1k-2"


def test_a_revision_is_pulled_as_asked_for(stub: HubStub, files: dict[str, bytes], root: Path) -> None:
    first = stub.add_model(REPO, files)
    stub.add_model(REPO, files | {CARD: b"newer"})
    stub.add_model(REPO, files | {CARD: b"a branch's"}, ref="dev/one")
    assert pull_run(REPO, revision=first, root=root).source == Source(REPO, first)
    branch = pull_run(REPO, revision="dev/one", root=root)
    assert (branch.path / CARD).read_text() == "a branch's"
    assert refusal(root, revision="v9") == (
        f"The model {REPO} has no revision 'v9': leave it empty, or use one of {stub.url}/{REPO}/commits/main."
    )
    assert refusal(root, revision="../main").startswith("'../main' is not a valid revision")


def test_what_the_progress_raises_leaves_no_run(stub: HubStub, files: dict[str, bytes], root: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    stub.add_model(REPO, files)
    with pytest.raises(KeyboardInterrupt):
        pull_run(REPO, root=root, progress=stop)
    assert not root.exists()


# timm's and torchvision's


def timm_repository(names: list[str] | None, count: int, **pretrained: Any) -> tuple[torch.nn.Module, dict[str, bytes]]:
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=count).eval()
    config: dict[str, Any] = {"architecture": "resnet18", "num_classes": count, "num_features": 512}
    if names is not None:
        config["label_names"] = names
    config["pretrained_cfg"] = {"tag": "mine", "input_size": [3, 64, 64], "crop_pct": 0.8, "classifier": "fc"}
    config["pretrained_cfg"] |= {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]} | pretrained
    weights = safetensors.torch.save(model.state_dict(), metadata={"format": "pt"})
    return model, {CONFIG: json.dumps(config).encode(), WEIGHTS: weights, "pytorch_model.bin": b"pickle"}


@torch.no_grad()
def test_a_model_of_timms_is_a_run_that_computes_the_same(stub: HubStub, root: Path) -> None:
    theirs, files = timm_repository(["ant", "bee", "<b>cat</b>"], 3)
    stub.add_model("ann/timm-bees", files | {CARD: b"theirs", METRICS: b"not ours"})
    found = describe_model("ann/timm-bees")
    assert (found.kind, found.config.model.architecture, found.classes) == ("timm", "resnet18", 3)
    assert dict(found.files) == {WEIGHTS: len(files[WEIGHTS])}
    pulled = pull_run("ann/timm-bees", root=root)
    model = pulled.config.model
    assert model.classes == ("ant", "bee", "<b>cat</b>")
    assert (model.options["stem"], model.options["shortcut"], model.options["cbam"]) == ("imagenet", "projection", None)
    assert (model.image_size, model.resize) == (64, 80)
    assert (model.mean, model.std) == ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    assert pulled.config.training.dataset == "unknown"
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(pulled.load_model()(images), theirs(images), rtol=1e-5, atol=1e-5)
    assert pulled.metrics() == []


def saved_by_timm(folder: Path, model: Any, names: list[str] | None = None) -> dict[str, bytes]:
    """A repository's files as timm's own `push_to_hf_hub` writes them."""
    from timm.models import save_for_hf

    save_for_hf(model, folder, model_config={"label_names": names} if names else None, safe_serialization="both")
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def _of_timm() -> list[Any]:
    quick = {"mobilenetv3_small_100", "deit_tiny_patch16_224"}
    small = [entry for entry in entries().values() if entry.timm and entry.parameters < 40_000_000]
    return [pytest.param(e.name, marks=[] if e.name in quick else [pytest.mark.long]) for e in small]


@pytest.mark.parametrize("name", _of_timm())
@torch.no_grad()
def test_any_network_of_the_catalogue_that_timm_pushed_computes_the_same_here(
    stub: HubStub, root: Path, tmp_path: Path, name: str
) -> None:
    import timm

    torch.manual_seed(0)
    theirs = timm.create_model(name, num_classes=3).eval()
    card = {CARD: b"---\nlicense: CC-BY-NC-4.0\n---\n"}
    stub.add_model(REPO, saved_by_timm(tmp_path / "timm", theirs, ["ant", "bee", "cat"]) | card)
    assert describe_model(REPO).licence == "cc-by-nc-4.0"
    pulled = pull_run(REPO, root=root)
    size, cfg = pulled.config.model.image_size, theirs.pretrained_cfg
    assert (pulled.config.model.classes, size) == (("ant", "bee", "cat"), cfg["input_size"][1])
    images = torch.randn(1, 3, size, size)
    torch.testing.assert_close(pulled.load_model()(images), theirs(images), rtol=1e-5, atol=1e-5)
    assert (pulled.path / NOTICE).read_text().startswith("SPDX-License-Identifier: cc-by-nc-4.0\n")


@torch.no_grad()
def test_timms_arguments_for_a_vit_of_small_patches_are_ours(stub: HubStub, root: Path, tmp_path: Path) -> None:
    import timm

    theirs = timm.create_model("vit_tiny_patch16_224", num_classes=3, patch_size=4, img_size=32).eval()
    files = saved_by_timm(tmp_path / "timm", theirs)
    assert json.loads(files[CONFIG])["model_args"]["patch_size"] == 4
    stub.add_model(REPO, files)
    pulled = pull_run(REPO, root=root)
    images = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(pulled.load_model()(images), theirs(images), rtol=1e-5, atol=1e-5)


def test_weights_without_a_classifier_can_be_fine_tuned_and_say_why_they_do_not_predict(
    stub: HubStub, root: Path, tmp_path: Path
) -> None:
    import timm

    features = timm.create_model("mobilenetv3_small_100", num_classes=0)
    stub.add_model(REPO, saved_by_timm(tmp_path / "timm", features))
    found = describe_model(REPO)
    assert (found.kind, found.classes, found.licence) == ("features", 0, "unknown")
    pulled = pull_run(REPO, root=root)
    assert torch.equal(pulled.load_weights()["conv_stem.weight"], features.conv_stem.weight)
    with pytest.raises(UserError, match=r"^These weights have no classifier: fine-tune them on your images, then"):
        Classifier(pulled).predict(Image.new("RGB", (64, 64)))
    others = replace(pulled.config, model=replace(pulled.config.model, classes=("a", "b")))
    start = Run.create(root / "mine", others, start=pulled)
    assert "classifier.weight" not in start.load_weights(START_WEIGHTS)


def test_what_was_trained_from_pulled_weights_keeps_their_licence(stub: HubStub, root: Path, run: Run) -> None:
    _, files = timm_repository(None, 3)
    for kept in ("cc-by-nc-sa-4.0", "mit"):
        stub.add_model(REPO, files | {CARD: f"---\nlicense: {kept}\n---\n".encode()})
        pulled = pull_run(REPO, root=root)
        training = replace(pulled.config.training, dataset="insects", start=pulled.name)
        mine = Run.create(root / f"mine-{kept}", replace(pulled.config, training=training), start=pulled)
        mine.save_weights(pulled.load_weights())
        push_run(mine, "ann/mine", token=TOKEN)
        card = ModelCard(read(stub.files("ann/mine")[CARD]).decode()).data
        assert (card.license, card.base_model, card.base_model_relation) == (kept, REPO, "finetune")
        assert json.loads(read(stub.files("ann/mine")[CONFIG]))["pretrained_cfg"]["license"] == kept
        again = RunConfig(pulled.config.model, replace(training, start=mine.name))  # from that one: the base stays
        assert base_model(Run(root / "another", again)) == REPO
        if kept == "mit":
            push_run(mine, "ann/mine", token=TOKEN, licence="apache-2.0")
            assert ModelCard(read(stub.files("ann/mine")[CARD]).decode()).data.license == "apache-2.0"
        else:
            with pytest.raises(HubError, match=f"because it comes from weights whose licence is {kept}: choose that"):
                push_run(mine, "ann/mine", token=TOKEN, licence="mit")
    with pytest.raises(HubError, match=r"^The licence must be one of mit, apache-2\.0, .*, not 'my own'\.$"):
        push_run(run, "ann/mine", token=TOKEN, licence="my own")


@pytest.mark.parametrize("found", [None, "", 7, ["mit"], "my own", "MIT\nlicense: x", "a" * 100])
def test_what_is_no_licences_name_is_an_unknown_licence(found: object) -> None:
    assert stated_licence(found) == "unknown"
    assert stated_licence("Apache-2.0") == "apache-2.0"


def test_a_run_under_another_licence_than_this_apps_comes_with_it(stub: HubStub, root: Path, run: Run) -> None:
    push_run(run, REPO, token=TOKEN, licence="cc-by-sa-4.0")
    pulled = pull_run(REPO, root=root)
    assert licence_of(pulled) == "cc-by-sa-4.0"
    push_run(run, REPO, token=TOKEN)
    assert licence_of(pull_run(REPO, root=root)) == "mit"


def test_without_names_a_thousand_classes_are_imagenets_and_others_are_numbered(stub: HubStub, root: Path) -> None:
    for count, first in ((1_000, "tench"), (3, "class 0")):
        _, files = timm_repository(None, count)
        stub.add_model(f"ann/of-{count}", files)
        config = pull_run(f"ann/of-{count}", root=root).config
        assert (len(config.model.classes), config.model.classes[0]) == (count, first)
        assert config.training.dataset == ("ILSVRC/imagenet-1k" if count == 1_000 else "unknown")


def test_half_precision_becomes_float32(stub: HubStub, root: Path) -> None:
    _, files = timm_repository(None, 3)
    half = {name: value.half() for name, value in safetensors.torch.load(files[WEIGHTS]).items()}
    stub.add_model(REPO, files | {WEIGHTS: safetensors.torch.save(half)})
    pulled = pull_run(REPO, root=root)
    kept = pulled.load_weights()
    assert {value.dtype for value in kept.values()} == {torch.float32, torch.int64}
    assert torch.equal(kept["conv1.weight"], half["conv1.weight"].float())


def test_quantised_weights_are_refused_in_one_sentence_and_nothing_is_left(stub: HubStub, root: Path) -> None:
    _, files = timm_repository(None, 3)
    whole = {name: value.to(torch.int8) for name, value in safetensors.torch.load(files[WEIGHTS]).items()}
    stub.add_model(REPO, files | {WEIGHTS: safetensors.torch.save(whole)})
    with pytest.raises(
        HubError, match=rf"^The model\.safetensors of {REPO} cannot be used because its \S+ is I8: weights"
    ):
        pull_run(REPO, root=root)
    assert list(root.iterdir()) == []


def test_the_known_weights_own_configuration_is_understood_as_it_is_listed() -> None:
    """What the Hub has for timm/resnet18.tv_in1k, as timm 1.0 writes it."""
    pretrained = {"tag": "tv_in1k", "custom_load": False, "input_size": [3, 224, 224], "fixed_input_size": False}
    pretrained |= {"interpolation": "bilinear", "crop_pct": 0.875, "crop_mode": "center", "num_classes": 1000}
    pretrained |= {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "pool_size": [7, 7]}
    config = {"architecture": "resnet18", "num_classes": 1000, "num_features": 512, "pretrained_cfg": pretrained}
    from resnet_space.hub.pretrained import pretrained_model

    kind, found = checks.read_config("The model", json.dumps(config).encode())
    assert (kind, found.model) == ("timm", pretrained_model("resnet18.tv_in1k"))


# What is refused


@pytest.mark.parametrize("repo_id", ["", "../x", "a/b/c", "ann/a--b", "/ann/bees", "ann\\bees", "ann/bees\n", None, 7])
def test_what_cannot_be_a_repository_is_refused_before_any_request(stub: HubStub, root: Path, repo_id: Any) -> None:
    assert refusal(root, repo_id) == f"{repo_id!r} is not a valid name of a Hub model: use the form owner/name."
    assert not stub.requests


def test_an_absent_repository_is_refused(stub: HubStub, root: Path) -> None:
    assert refusal(root, "ann/nothing") == (
        "The model ann/nothing does not exist on the Hub, or is private: check the spelling, "
        "or sign in with an account that can read it."
    )


def test_a_pickle_is_never_read(stub: HubStub, root: Path, files: dict[str, bytes]) -> None:
    stub.add_model(REPO, {CONFIG: files[CONFIG], "pytorch_model.bin": pickle.dumps(print)})
    sentence = f"The model {REPO} has no model.safetensors, and other formats are not loaded because they can run code."
    assert refusal(root) == sentence
    assert len(stub.requests) == 1


@pytest.mark.parametrize(
    "name",
    ["../x", "figures/../../x.png", "/etc/passwd", "figures\\x.png", "..\\x", "C:/x", "a//b", "./x", "figures/\0.png"],
)
def test_a_file_name_that_leads_out_is_refused(stub: HubStub, root: Path, files: dict[str, bytes], name: str) -> None:
    stub.add_model(REPO, files | {name: b"harm"})
    sentence = f"The model {REPO} cannot be used because a file name points outside its folder ({name!r})."
    assert refusal(root) == sentence
    assert len(stub.requests) == 1


@pytest.mark.parametrize(
    ("path", "size", "said"),
    [
        (WEIGHTS, 10_000_000_000, f"The {WEIGHTS} of {REPO} has 10 GB, which is not plausible."),
        (METRICS, 300_000_000, f"The model {REPO} cannot be used because its {METRICS} has 300 MB, more than 20."),
        (CONFIG, 6_000_000, f"The model {REPO} cannot be used because its {CONFIG} has 6 MB, more than 5."),
        (EVALUATION, 10**9, f"The model {REPO} cannot be used because its {EVALUATION} has 1,000 MB, more than 200."),
        (CARD, 10**8, f"The model {REPO} cannot be used because its {CARD} has 100 MB, more than 1."),
        ("figures/a.png", 10**8, f"The model {REPO} cannot be used because its figures/a.png has 100 MB, more than 5."),
    ],
)
def test_what_is_too_large_is_not_downloaded(
    stub: HubStub, root: Path, tmp_path: Path, files: dict[str, bytes], path: str, size: int, said: str
) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(size)  # takes no room
    stub.add_model(REPO, files | {path: large})
    assert refusal(root) == said
    assert len(stub.requests) == 1


def test_too_many_figures_are_refused(stub: HubStub, root: Path, files: dict[str, bytes]) -> None:
    stub.add_model(REPO, files | {f"figures/{i}.png": b"" for i in range(21)})
    assert refusal(root) == f"The model {REPO} cannot be used because it has 21 figures, more than 20."


def ours(**changes: Any) -> bytes:
    """A run's configuration with "part__name" changed."""
    config = json.loads(json.dumps(RUN_CONFIG.to_json()))
    for path, value in changes.items():
        part, _, name = path.partition("__")
        config[part][name] = value
    return json.dumps(config).encode()


def theirs(**changes: Any) -> bytes:
    config: dict[str, Any] = {"architecture": "resnet18", "num_classes": 3, "pretrained_cfg": {}}
    return json.dumps(config | changes).encode()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (None, "because it has no config.json that describes it."),
        (b"", "because its config.json is not JSON."),
        (b"\xff\xfe", "because its config.json is not JSON."),
        (b"[" * 100_000, "because its config.json is not JSON."),
        (b'{"x": ' + b"9" * 10_000 + b"}", "because its config.json is not JSON."),
        (b"[]", "because its config.json is not an object."),
        (b'{"model_type": "resnet"}', "because its config.json is in neither this app's nor timm's format."),
        (ours(model__auto_map={"AutoModel": "harm.Model"}), "because its config.json asks to run code (auto_map)"),
        (b'{"auto_map": {"AutoModel": "harm--harm.Model"}}', "because its config.json asks to run code (auto_map)"),
        (theirs(trust_remote_code=True), "asks to run code (trust_remote_code), which is never allowed."),
        (theirs(x=[{"custom_pipelines": {"a": {}}}]), "asks to run code (custom_pipelines), which"),
        (ours(model__architecture="resnet18d"), "The architecture must be one of resnet20"),
        (ours(model__architecture=["resnet18"]), "not ('resnet18',)."),
        (ours(model__extra=1), 'The part "model" has unknown entries: extra.'),
        (ours(model__mean=[float("nan")] * 3), "The mean must be"),
        (ours(model__image_size=10**6), "not 1000000."),
        (ours(model__classes=["a"]), "A model needs at least two classes"),
        (ours(model__classes=["a", 1]), "A model needs at least two classes"),
        (
            ours(model__classes=[str(i) for i in range(30_000)]),
            "because it has 30,000 classes, more than the maximum of 25,000.",
        ),
        (ours(model__classes=["a", "b" * 201]), "because a name in its config.json is too long or unreadable"),
        (
            ours(model__classes=["a", "b\n# c"]),
            "because a name in its config.json is too long or unreadable ('b\\n# c').",
        ),
        (
            ours(model__classes=["a", "\ud800"]),
            "The class name '\\ud800' contains an invalid character: rename the class.",
        ),
        (ours(training__dataset="x" * 10_000), "because a name in its config.json is too long or unreadable"),
        (ours(training__start="../../secret"), "because its start '../../secret' is not a valid run name."),
        (ours(training__epochs=10**9), "not 1000000000."),
        (
            theirs(architecture="vit_large_patch16_224"),
            "because its architecture 'vit_large_patch16_224' is not one of",
        ),
        (theirs(architecture="resnet20"), "because its architecture 'resnet20' is not one of resnet18, resnet34,"),
        (theirs(architecture={"a": 1}), "because its architecture {'a': 1} is not one of"),
        (theirs(model_args={"output_stride": 8}), "with timm-specific arguments (model_args: {'output_stride': 8})."),
        (theirs(pretrained_cfg={"crop_mode": "border"}), "its crop_mode 'border' is not supported, only 'center'."),
        (theirs(num_classes=10**9), "does not list its 2 to 25,000 classes."),
        (theirs(num_classes=2.5), "does not list its 2 to 25,000 classes."),
        (theirs(label_names=["a", "b"]), "does not list its 2 to 25,000 classes."),
        (theirs(label_names={"a": 1}), "does not list its 2 to 25,000 classes."),
        (theirs(pretrained_cfg=[]), "has a pretrained_cfg that is not an object."),
        (theirs(pretrained_cfg={"input_size": [1, 28, 28]}), "because its input size [1, 28, 28] is not square"),
        (theirs(pretrained_cfg={"input_size": [3, 1e99, 1e99]}), "is not square with 3 channels."),
        (theirs(pretrained_cfg={"input_size": [3, 10**6, 10**6]}), "not 1000000."),
        (theirs(pretrained_cfg={"crop_pct": 0}), "because its crop_pct 0 is not from 0.2 to 1."),
        (theirs(pretrained_cfg={"mean": "grey"}), "The mean must be"),
        (theirs(pretrained_cfg={"std": [0, 0, 0]}), "The standard deviation must be"),
    ],
)
def test_a_configuration_that_is_not_a_runs_nor_timms_is_refused(
    stub: HubStub, root: Path, files: dict[str, bytes], config: bytes | None, said: str
) -> None:
    changed = {name: content for name, content in files.items() if name != CONFIG}
    stub.add_model(REPO, changed if config is None else changed | {CONFIG: config})
    sentence = refusal(root)
    assert sentence.startswith(f"The model {REPO} cannot be used")
    assert said in sentence
    assert not stub.asked("GET", "/storage/")  # nothing large was downloaded


Change = Callable[[dict[str, Tensor]], Any]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: tensors.pop("conv1.weight"), "conv1.weight is missing"),
        (lambda tensors: tensors.update(extra=torch.ones(1)), "extra is unexpected"),
        (
            lambda tensors: tensors.update({"fc.weight": torch.ones(9, 64)}),
            "fc.weight has the shape (9, 64) instead of (2, 64)",
        ),
        (lambda tensors: tensors["fc.bias"].fill_(torch.nan), "contains values that are not finite"),
        (lambda tensors: tensors["bn1.running_var"].fill_(torch.inf), "contains values that are not finite"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    stub: HubStub, root: Path, files: dict[str, bytes], change: Change, said: str
) -> None:
    tensors = safetensors.torch.load(files[WEIGHTS])
    change(tensors)
    stub.add_model(REPO, files | {WEIGHTS: safetensors.torch.save(tensors)})
    sentence = refusal(root)
    assert sentence.startswith(f"The model {REPO} cannot be used")
    assert said in sentence


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip", pickle.dumps({"a": 1}), b"\xff" * 64])
def test_a_pickle_under_another_name_is_not_read_either(
    stub: HubStub, root: Path, files: dict[str, bytes], content: bytes
) -> None:
    stub.add_model(REPO, files | {WEIGHTS: content})
    assert refusal(root).startswith(f"The {WEIGHTS} of {REPO} is damaged (")


def lines(*metrics: Mapping[str, Any]) -> bytes:
    return b"".join(json.dumps(metric).encode() + b"\n" for metric in metrics)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"not json\n", "line 1 of its metrics.jsonl is not JSON"),
        (lines(START) + b"\xff\n", "line 2 of its metrics.jsonl is not JSON"),
        (lines(START)[:-9], "line 1 of its metrics.jsonl is not JSON"),
        (b"\n", "line 1 of its metrics.jsonl is not JSON"),
        (b"[" * 100_000 + b"\n", "line 1 of its metrics.jsonl is not JSON"),
        (b"[]\n", "is not one of the events start, step, epoch, test, calibration, sanity, end"),
        (lines({"event": "harm"}), "is not one of the events"),
        (lines({"event": ["step"]}), "is not one of the events"),
        (lines({"event": "step"}), "has no 'step'"),
        (lines({**STEP, "loss": "NaN"}), "has 'NaN' as 'loss'"),
        (lines({**STEP, "loss": float("nan")}), "has nan as 'loss'"),
        (lines({**STEP, "loss": float("inf")}), "has inf as 'loss'"),
        (lines(STEP).replace(b"0.7", b"1e999"), "has inf as 'loss'"),
        (lines({**STEP, "step": 0}), "has 0 as 'step'"),
        (lines({**STEP, "step": True}), "has True as 'step'"),
        (lines({**STEP, "step": 10**30}), "as 'step'"),
        (lines({**STEP, "rates": {"head": "<b>"}}), "as 'rates'"),
        (lines({**STEP, "rates": [1]}), "as 'rates'"),
        (lines({**EPOCH, "validation_accuracy": 7}), "has 7 as 'validation_accuracy'"),
        (lines({**EPOCH, "validation_accuracy": None}), "has None as 'validation_accuracy'"),
        (lines({**START, "steps_per_epoch": 0}), "has 0 as 'steps_per_epoch'"),
        (lines({**START, "phases": [{"epochs": 1}]}), "as 'phases'"),
        (lines({**START, "phases": {"epochs": 1}}), "as 'phases'"),
        (lines({**START, "extra": {"deep": [[[]]]}}), "as 'extra'"),
        (lines({**START, "device": "x" * 5_000}), "as 'device'"),
        (lines({**TEST, "split": 7}), "has 7 as 'split'"),
        (lines({**TEST, "ece": -1}), "has -1 as 'ece'"),
        (lines({**END, "status": "<b>"}), "has '<b>' as 'status'"),
        (lines({**END, "reason": {"a": 1}}), "as 'reason'"),
        (lines(CALIBRATION | {"temperature": 0}), "has 0 as 'temperature'"),
        (lines(SANITY | {"correlations": [0.5, 7]}), "as 'correlations'"),
        (lines(SANITY | {"parts": "head"}), "as 'parts'"),
        (lines(SANITY | {"parts": ["head"] * 101}), "as 'parts'"),
        (lines(START, {k: v for k, v in TEST.items() if k != "ece"}), "lacks test scores"),
        (lines(START), "lacks test scores"),
    ],
)
def test_metrics_that_a_page_could_not_show_are_refused(
    stub: HubStub, root: Path, files: dict[str, bytes], content: bytes, said: str
) -> None:
    stub.add_model(REPO, files | {METRICS: content})
    sentence = refusal(root)
    assert sentence.startswith(f"The model {REPO} cannot be used because ")
    assert said in sentence


def test_metrics_with_too_many_lines_are_refused(stub: HubStub, root: Path, files: dict[str, bytes]) -> None:
    stub.add_model(REPO, files | {METRICS: b"{}\n" * 200_001})
    assert "has 200,001 lines, more than 200,000." in refusal(root)


@pytest.mark.parametrize("folder", sorted(folder.parent.name for folder in pull.CHECKPOINTS.glob(f"*/{METRICS}")))
def test_the_metrics_of_the_runs_that_ship_are_valid(folder: str) -> None:
    checks.require_valid_metrics("The model", (pull.CHECKPOINTS / folder / METRICS).read_bytes())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"harm", "The feature_statistics.safetensors of ann.bees cannot be read"),
        (safetensors.numpy.save({"mean": np.zeros(1, np.float32)}), "does not fit its model"),
    ],
)
def test_what_is_usual_for_another_model_is_refused(
    stub: HubStub, root: Path, files: dict[str, bytes], content: bytes, said: str
) -> None:
    stub.add_model(REPO, files | {FEATURE_STATISTICS: content})
    assert said in refusal(root)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"harm", "The test.safetensors of ann.bees cannot be read"),
        (safetensors.numpy.save({"labels": np.zeros(1, np.int32)}), "does not match its classes"),
    ],
)
def test_an_evaluation_that_is_none_is_refused(
    stub: HubStub, root: Path, files: dict[str, bytes], content: bytes, said: str
) -> None:
    stub.add_model(REPO, files | {EVALUATION: content})
    assert said in refusal(root)


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        ("figures/a.png", b"<svg onload=alert(1)>", "because its figures/a.png is not a PNG."),
        (CARD, b"\xff\xfe", "because its README.md is not UTF-8 text."),
    ],
)
def test_what_is_not_what_its_name_says_is_refused(
    stub: HubStub, root: Path, files: dict[str, bytes], path: str, content: bytes, said: str
) -> None:
    stub.add_model(REPO, files | {path: content})
    assert refusal(root).endswith(said)


def test_html_in_a_class_name_is_kept_as_it_is(stub: HubStub, root: Path, files: dict[str, bytes]) -> None:
    names = ("<img src=x onerror=alert(1)>", "../../x")
    stub.add_model(REPO, files | {CONFIG: ours(model__classes=names)})
    assert pull_run(REPO, root=root).config.model.classes == names


def test_a_hub_in_trouble_or_out_of_reach_is_told(
    stub: HubStub, root: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.add_model(REPO, files)
    stub.fail("/api/models", 503, times=1)
    trouble = "because the Hub is having problems (error 503): try again later, or use a model on this machine."
    assert refusal(root) == f"The model {REPO} cannot be fetched {trouble}"
    stub.fail("/api/models", 429, times=1)
    assert refusal(root).endswith("wait a few minutes, or sign in for a higher limit.")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in refusal(root)


def test_the_default_folder_is_where_the_shipped_runs_are() -> None:
    assert BUNDLED.parents[1] / "checkpoints" == pull.CHECKPOINTS
