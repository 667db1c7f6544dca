"""With a small network in the place of the one for photographs: what is computed is the same."""

import io
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.data.sources import DATA_FOLDER_VARIABLE, DATASET_OWNER
from resnet_space.data.taught import ABOUT, FILE, NewPicture, open_set
from resnet_space.hub.card import card_text
from resnet_space.inference import Classifier
from resnet_space.runs import CARD, NOTICE, OWNER, PHOTO_BACKBONE, Run, last_metric
from resnet_space.serve import taught as taught_module
from resnet_space.serve.context import AppContext
from resnet_space.serve.inventory import EXPIRES
from resnet_space.serve.limits import Limits
from resnet_space.serve.taught import Change, Step, Teaching, missing
from resnet_space.serve.taught.cards import Cards
from resnet_space.serve.taught.memory import Memories
from resnet_space.training.evaluation import load_evaluation

KEY, OTHER = "k" * 20, "o" * 20


def new_pictures(hue: int, count: int, *, seed: int = 0, recording: int | None = None) -> list[NewPicture]:
    """Noisy pictures of a colour."""
    random = np.random.default_rng((seed, hue))
    made = []
    for i in range(count):
        pixels = random.integers(0, 90, (40, 48, 3), dtype=np.uint8)
        pixels[..., hue] += 160
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        name = f"{hue}-{i}.png" if recording is None else f"recording-{recording}-{i:04}.jpg"
        made.append(NewPicture(file.getvalue(), name))
    return made


def adding(class_id: int, new: Sequence[NewPicture]) -> Change:
    return lambda taught: taught.with_pictures(new, class_id)


def image_of(picture: NewPicture) -> Image.Image:
    return Image.open(io.BytesIO(picture.content)).convert("RGB")


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`checkpoints` has the network, `data` will have the sets."""
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(tmp_path / "data"))
    monkeypatch.setattr(taught_module, "Cards", lambda: SimpleNamespace(write_later=lambda _run: None))
    model = ModelConfig("resnet20", ("a", "b", "c"), image_size=16, resize=20)
    made = Run.create(tmp_path / "checkpoints" / PHOTO_BACKBONE, RunConfig(model, TrainConfig(dataset="imagenet")))
    made.save_weights({name: value.half().float() for name, value in model.build(seed=0).state_dict().items()})
    (made.path / NOTICE).write_text("Apache-2.0", encoding="utf-8")
    return tmp_path


@pytest.fixture
def teaching(folders: Path) -> Teaching:
    return made_teaching(folders)


def made_teaching(folders: Path, **options: object) -> Teaching:
    return Teaching(AppContext(folders / "checkpoints", **options))


def shown(teaching: Teaching, key: str | None = None, *, count: int = 4, name: str | None = None) -> Step:
    """Red and green pictures."""
    red, green = new_pictures(0, count), new_pictures(1, count)
    *_, last = teaching.change(name, key, [adding(1, red), adding(2, green)], [*red, *green])
    return last


def test_a_change_is_on_the_disk_before_anything_is_computed(teaching: Teaching) -> None:
    red = new_pictures(0, 3)
    steps = teaching.change(None, None, [adding(1, red)], red)
    first = next(steps)
    assert len(open_set(first.taught.folder).pictures) == 3
    assert (first.phase, first.lesson) == ("done", None)
    green = new_pictures(1, 3)
    steps = teaching.change(first.taught.name, None, [adding(2, green)], green)
    first = next(steps)
    assert first.phase == "loading"
    assert len(open_set(first.taught.folder).pictures) == 6
    assert not teaching.network.is_loaded


def test_the_steps_name_what_is_done_and_end_with_the_lesson(teaching: Teaching) -> None:
    red, green = new_pictures(0, 70), new_pictures(1, 10)
    steps = list(teaching.change(None, None, [adding(1, red), adding(2, green)], [*red, *green]))
    phases = list(dict.fromkeys(step.phase for step in steps))
    assert phases == ["loading", "features", "solving", "keeping", "done"]
    counted = [(step.done, step.total) for step in steps if step.phase == "features"]
    assert counted[0] == (0, 80)
    assert counted[-1] == (80, 80)
    assert counted == sorted(counted)
    assert steps[-1].lesson is not None
    assert steps[-1].seconds > 0


def test_what_was_shown_is_recognised_and_the_most_similar_picture_named(teaching: Teaching) -> None:
    name = shown(teaching, count=8).taught.name
    for hue in (0, 1):
        (fresh,) = new_pictures(hue, 1, seed=7)
        taught, look = teaching.look(name, None, image_of(fresh))
        assert int(np.argmax(look.probabilities)) == hue
        assert look.unlike < 1
        assert taught.pictures[look.nearest].class_id == hue + 1


def test_only_new_pictures_cost_a_forward_pass(teaching: Teaching, monkeypatch: pytest.MonkeyPatch) -> None:
    name = shown(teaching).taught.name
    passed: list[int] = []
    own = teaching.network.steps

    def counting(pictures: Sequence[bytes]) -> Iterator[object]:
        passed.append(len(pictures))
        return own(pictures)

    monkeypatch.setattr(teaching.network, "steps", counting)
    blue = new_pictures(2, 3)
    *_, step = teaching.change(name, None, [lambda taught: taught.with_class("blue"), adding(3, blue)], blue)
    assert passed == [3]
    first, *_ = step.taught.pictures
    list(teaching.change(name, None, [lambda taught: taught.moved([first.id], 2)]))
    list(teaching.change(name, None, [lambda taught: taught.without([first.id])]))
    list(teaching.change(name, None, [lambda taught: taught.renamed(1, "red")]))
    list(teaching.teach(name, None))
    assert passed == [3]


def test_an_app_that_was_started_anew_knows_the_features_from_the_disk(
    teaching: Teaching, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = shown(teaching).taught.name
    again = made_teaching(folders)
    again.network.loaded()
    _, extractor, _ = again.network._extractors()
    monkeypatch.setattr(extractor, "_chosen", lambda *_: pytest.fail("a forward pass"))
    *_, step = again.teach(name, None)
    assert step.lesson is not None
    assert again.known(name, None).lesson is step.lesson
    assert again.names(None) == [name]


def test_the_run_is_one_like_any_other(teaching: Teaching) -> None:
    step = shown(teaching, count=6)
    run = teaching.context.library.open(step.taught.run)
    assert run.config.model.classes == ("Class 1", "Class 2")
    assert (run.config.training.dataset, run.config.training.start) == (step.taught.name, PHOTO_BACKBONE)
    (fresh,) = new_pictures(1, 1, seed=5)
    prediction = Classifier(run).predict(image_of(fresh))
    _, look = teaching.look(step.taught.name, None, image_of(fresh))
    assert prediction.classes[0] == "Class 2"
    assert prediction.probabilities[0] == pytest.approx(max(look.probabilities), abs=1e-4)
    assert teaching.context.trainer.status(run).state == "finished"
    test = last_metric(run.metrics(), "test")
    assert step.lesson is not None
    assert test is not None
    assert (test["images"], test["accuracy"]) == (12, step.lesson.right / 12)
    evaluation = load_evaluation(run)
    assert evaluation is not None
    assert evaluation.rows.tolist() == list(range(12))
    assert (run.path / NOTICE).read_text() == "Apache-2.0"
    text = card_text(run, run.metrics())
    assert "Each of them was held out once" in text
    assert "neither for training" not in text


def test_the_backbone_is_kept_in_half_precision_only_where_that_is_exact(teaching: Teaching, folders: Path) -> None:
    run = teaching.context.library.open(shown(teaching).taught.run)
    half = (run.path / "model.safetensors").stat().st_size
    backbone = Run.open(folders / "checkpoints" / PHOTO_BACKBONE)
    exact = backbone.load_weights()
    assert all(torch.equal(value, exact[name]) for name, value in run.load_weights().items() if "fc" not in name)
    backbone.save_weights(
        {name: value * 1.0001 if value.is_floating_point() else value for name, value in exact.items()}
    )
    other = made_teaching(folders)
    full = other.context.library.open(shown(other).taught.run)
    assert (full.path / "model.safetensors").stat().st_size > 1.9 * half
    whole = backbone.load_weights()
    assert all(torch.equal(value, whole[name]) for name, value in full.load_weights().items() if "fc" not in name)


def test_it_is_the_same_run_after_every_change_also_by_a_new_name(teaching: Teaching) -> None:
    step = shown(teaching)
    context = teaching.context
    context.rename_run(step.taught.run, None, "colours")
    blue = new_pictures(2, 2)
    changes: list[Change] = [lambda taught: taught.with_class("blue"), adding(3, blue)]
    *_, step = teaching.change(step.taught.name, None, changes, blue)
    assert step.taught.run == "colours"
    assert context.library.open("colours").config.model.classes == ("Class 1", "Class 2", "blue")
    assert context.trained_names() == ["colours", PHOTO_BACKBONE]
    context.delete_run("colours", None)
    *_, step = teaching.change(step.taught.name, None, [lambda taught: taught.renamed(1, "red")])
    assert context.library.open(step.taught.run).config.model.classes == ("red", "Class 2", "blue")


def test_a_lesson_that_was_overtaken_writes_no_run(teaching: Teaching) -> None:
    red, green = new_pictures(0, 3), new_pictures(1, 3)
    slow = teaching.change(None, None, [adding(1, red), adding(2, green)], [*red, *green])
    step = next(slow)
    while step.phase != "keeping":
        step = next(slow)
    *_, fast = teaching.change(step.taught.name, None, [lambda taught: taught.renamed(1, "red")])
    *_, last = slow
    assert last.lesson is None
    assert last.taught.version == fast.taught.version
    assert teaching.context.library.open(fast.taught.run).config.model.classes == ("red", "Class 2")


def test_what_is_missing_is_said(teaching: Teaching) -> None:
    red, green = new_pictures(0, 2), new_pictures(1, 1)
    *_, step = teaching.change(None, None, [adding(1, red)], red)
    assert missing(step.taught).startswith("Add at least 2 pictures to each of at least 2 classes")
    with pytest.raises(UserError, match="Add at least 2 pictures to each of at least 2 classes"):
        teaching.look(step.taught.name, None, image_of(red[0]))
    *_, step = teaching.change(step.taught.name, None, [adding(2, green)], green)
    assert missing(step.taught) == "Add one more picture to Class 2: each class needs at least 2."
    assert step.lesson is None


def test_a_change_that_cannot_be_changes_nothing(teaching: Teaching) -> None:
    step = shown(teaching)
    changes: list[Change] = [lambda taught: taught.without_class(1), lambda taught: taught.renamed(9, "x")]
    with pytest.raises(UserError, match="no longer exists"):
        list(teaching.change(step.taught.name, None, changes))
    assert open_set(step.taught.folder).version == step.taught.version


@pytest.mark.parametrize("name", ["../data", "taught-9", "", ".", "a" * 200, None])
def test_a_set_that_is_not_there_is_refused_whatever_it_is_called(teaching: Teaching, name: str) -> None:
    with pytest.raises(UserError, match="set of pictures no longer exists"):
        teaching.open(name, None)


def test_deleting_a_set_deletes_its_run_too(teaching: Teaching) -> None:
    step = shown(teaching)
    teaching.delete(step.taught.name, None)
    assert not step.taught.folder.exists()
    assert teaching.names(None) == []
    assert teaching.context.trained_names() == [PHOTO_BACKBONE]


def test_without_the_network_pictures_are_kept_and_the_reason_is_told(teaching: Teaching, folders: Path) -> None:
    shutil.rmtree(folders / "checkpoints" / PHOTO_BACKBONE)
    with pytest.raises(UserError, match=f"Teach by showing needs the run {PHOTO_BACKBONE}, which is not"):
        shown(teaching)
    assert len(teaching.open("taught-1", None).pictures) == 8


# On a public page


def test_on_a_public_page_a_set_is_its_visitors_alone_and_expires(folders: Path) -> None:
    teaching = made_teaching(folders, public=True)
    with pytest.raises(UserError, match="has not identified you yet"):
        shown(teaching)
    step = shown(teaching, KEY)
    name, folder = step.taught.name, step.taught.folder
    assert (folder / DATASET_OWNER).exists()
    assert (folder / EXPIRES).exists()
    run = teaching.context.library.open(step.taught.run)
    assert (run.path / OWNER).exists()
    assert teaching.names(KEY) == [name]
    assert teaching.names(OTHER) == []
    (picture,) = new_pictures(0, 1, seed=3)
    for ask in (
        lambda: teaching.open(name, OTHER),
        lambda: teaching.look(name, OTHER, image_of(picture)),
        lambda: teaching.delete(name, OTHER),
        lambda: list(teaching.change(name, OTHER, [adding(1, [picture])], [picture])),
        lambda: list(teaching.teach(name, None)),
    ):
        with pytest.raises(UserError, match="set of pictures no longer exists"):
            ask()
    with pytest.raises(UserError, match="no dataset named"):
        teaching.context.datasets.named(name, OTHER)
    *_, again = teaching.change(name, KEY, [adding(1, [picture])], [picture])
    assert again.taught.run == run.name
    assert teaching.context.own_run(run.name, KEY).name == run.name
    usage = teaching.context.storage.usage()
    assert usage["datasets"] >= (folder / FILE).stat().st_size
    assert usage["runs"] > 0


def test_on_a_public_page_a_set_has_so_many_classes_and_pictures(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taught_module, "PUBLIC_CLASSES", 3)
    monkeypatch.setattr(taught_module, "PUBLIC_PICTURES", 10)
    teaching = made_teaching(folders, public=True)
    name = shown(teaching, KEY, count=5).taught.name
    (one,) = new_pictures(0, 1, seed=4)
    with pytest.raises(UserError, match="can have at most 10 pictures"):
        list(teaching.change(name, KEY, [adding(1, [one])], [one]))
    list(teaching.change(name, KEY, [lambda taught: taught.with_class("third")]))
    with pytest.raises(UserError, match="can have at most 3 classes"):
        list(teaching.change(name, KEY, [lambda taught: taught.with_class("fourth")]))
    assert len(teaching.open(name, KEY).pictures) == 10


def test_pictures_for_which_the_disk_has_no_room_are_refused(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teaching = made_teaching(folders, public=True, limits=Limits(gigabytes=1))
    monkeypatch.setattr(teaching.context.storage, "_left_of", lambda _folder: 10.0)
    with pytest.raises(UserError, match="Saving these pictures"):
        shown(teaching, KEY)
    assert teaching.names(KEY) == []


def test_a_read_only_app_teaches_nothing(folders: Path) -> None:
    with pytest.raises(UserError, match="read-only"):
        shown(made_teaching(folders, readonly=True))


# Memory


def test_the_features_of_sets_that_were_not_used_longest_go_first(tmp_path: Path) -> None:
    memories = Memories(most_rows=5)
    row = torch.zeros(2), torch.zeros(3)
    for name in "abc":
        memories.of(tmp_path / name).known = {f"{name}{i}": row for i in range(2)}
    memories.of(tmp_path / "d")
    assert len(memories.of(tmp_path / "c").known) == 2
    assert memories.of(tmp_path / "a").known == {}


def test_a_set_that_was_changed_by_another_process_is_read_anew(teaching: Teaching) -> None:
    taught = shown(teaching).taught
    about = taught.folder / ABOUT
    about.write_text(about.read_text().replace("Class 1", "elsewhere"), encoding="utf-8")
    assert [own.name for own in teaching.open(taught.name, None).classes][:1] == ["elsewhere"]


def test_a_card_is_written_once_when_nothing_changed_for_a_while(teaching: Teaching) -> None:
    run = teaching.context.library.open(shown(teaching).taught.run)
    cards = Cards(quiet_seconds=0.2)
    for _ in range(3):
        cards.write_later(run.path)
    thread = cards._thread
    assert thread is not None
    thread.join(60)
    assert (run.path / CARD).read_text(encoding="utf-8").count("# ") > 1
    assert cards._thread is None


def test_a_lesson_takes_all_frames_of_a_recording_out_together(teaching: Teaching) -> None:
    red = [*new_pictures(0, 4, recording=1), *new_pictures(0, 4, seed=1, recording=2)]
    green = new_pictures(1, 4, recording=3)
    *_, step = teaching.change(None, None, [adding(1, red), adding(2, green)], [*red, *green])
    assert step.lesson is not None
    assert step.lesson.alike == (1,)
