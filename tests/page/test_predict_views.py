"""What the predict tab shows, as text: no browser, and no app."""

import io
import re
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from sklearn.metrics import accuracy_score, log_loss
from sklearn.metrics import confusion_matrix as reference_confusion

from resnet_space import plots
from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig, RunConfig
from resnet_space.data.archives import File, is_archive, read_files
from resnet_space.data.archives.report import SkippedFiles
from resnet_space.data.images import open_image, to_model_size
from resnet_space.data.mistakes import add_mistake, classes_of, mistakes_file
from resnet_space.data.reference import DatasetRef
from resnet_space.data.sources import DATA_FOLDER_VARIABLE
from resnet_space.data.splits import load_split
from resnet_space.data.summary import summarise
from resnet_space.explain.saliency import METHODS
from resnet_space.inference import Classifier, Prediction
from resnet_space.runs import PHOTO_BACKBONE, Run
from resnet_space.training.evaluation import confusion_matrix, summary
from resnet_space.ui.downloads import csv_file
from resnet_space.ui.predict.answer import answers_html, percent
from resnet_space.ui.predict.batch import (
    Reading,
    classified,
    evaluation_of,
    first_short_side,
    read_all,
    table_columns,
    table_rows,
)
from resnet_space.ui.predict.endpoint import program_html
from resnet_space.ui.predict.evidence import Judged, evidence_value
from resnet_space.ui.predict.examples import (
    PHOTOGRAPHS,
    examples,
    examples_html,
    photo_credits,
)
from resnet_space.ui.predict.gates import HEIGHT, bars, channel_html, gates_html
from resnet_space.ui.predict.looks import Choice, Look, choose
from resnet_space.ui.predict.maps import by_magnitude, class_maps_html
from resnet_space.ui.predict.wanted import Wanted
from tests.networks import alive

SHIPPED = Path(__file__).parents[2] / "checkpoints"
HOSTILE = "<img src=x onerror=alert(1)>"
CLASSES = ("ant", "bee", HOSTILE, "=cmd", "emu", "fox")


@pytest.fixture(scope="module", params=["stage", None], ids=["with CBAM", "without"])
def look(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Look:
    return looked(tmp_path_factory, request.param)


@pytest.fixture(scope="module")
def with_cbam(tmp_path_factory: pytest.TempPathFactory) -> Look:
    return looked(tmp_path_factory, "stage")


def looked(folders: pytest.TempPathFactory, cbam: Any) -> Look:
    """A small network's look at a picture of noise, 48 x 40 pixels."""
    torch.manual_seed(0)
    model = ModelConfig("resnet20", CLASSES, options={"cbam": cbam}, image_size=24, resize=32)
    run = Run.create(folders.mktemp("runs") / "small", RunConfig(model))
    run.save_weights(alive(model.build()).state_dict())
    classifier = Classifier(run)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 48, 3), dtype=np.uint8))
    return Look("a-run", classifier, picture, classifier.predict(picture, features=True))


# The answer


@pytest.mark.parametrize(
    ("probability", "words"),
    [(0.5, "50.0 %"), (1.0, "100.0 %"), (0.9999, "> 99.9 %"), (0.0004, "< 0.1 %"), (0.0, "0.0 %"), (0.1234, "12.3 %")],
)
def test_nothing_is_certain_by_rounding(probability: float, words: str) -> None:
    assert percent(probability) == words


def test_every_top_class_is_a_button_and_names_stay_text(look: Look) -> None:
    html = answers_html([look], Choice("a-run", is_visitors=True), Wanted(example="cat"))
    assert [int(i) for i in re.findall(r'<button type="button" data-class="(\d)"', html)] == look.prediction.indices
    assert html.count('aria-pressed="true"') == 1
    assert 'data-run="a-run"' in html
    assert 'data-example="cat"' in html
    assert 'data-with=""' in html
    assert "<img" not in html
    assert "short side resized to 32 px, centre cropped to 24 x 24" in html
    assert "labelled" not in html  # nobody knows its label


def test_an_unusual_picture_gets_no_confident_label_but_a_warning(look: Look) -> None:
    known = vars(look.prediction) | {"calibrated": True}
    one = Choice("a-run", is_visitors=False)
    usual = answers_html([replace(look, prediction=Prediction(**known))], one, Wanted())
    assert "caution" not in usual
    assert "doubtful" not in usual
    assert 'data-run=""' in usual  # it was not chosen
    strange = replace(look, prediction=Prediction(**known | {"ood_score": 2.5}))
    html = answers_html([strange], one, Wanted())
    assert "No reliable answer" in html
    assert "doubtful" in html
    assert "unlike the training images" in html
    assert "unlike the training images" in program_html(strange)


def test_every_warning_is_told_to_readers_and_programs(look: Look) -> None:
    told = vars(look.prediction) | {"calibrated": False, "ood_score": 1.2, "note": "Of its 5 bands <b>"}
    warned = replace(look, prediction=Prediction(**told))
    assert len(warned.prediction.warnings) == 3
    for html in (answers_html([warned], Choice("a-run", is_visitors=False), Wanted()), program_html(warned)):
        assert re.findall(r'<p class="caution">(.*?)</p>', html) == [escape(w) for w in warned.prediction.warnings]


def test_another_run_is_one_click_away_and_the_answer_says_why_this_one_answers(look: Look) -> None:
    def offered(choice: Choice) -> list[tuple[str, str]]:
        html = answers_html([look, look], choice, Wanted())
        assert ("unless you choose a run" in html) == (not choice.is_visitors)
        return re.findall(r'data-choose="([^"]*)">Answer with <b>([^<]+)</b> instead', html)

    assert offered(Choice("a-run", False, "cbam")) == [("cbam", "cbam")]
    assert offered(Choice("a-run", True, "photos")) == [("photos", "photos")]
    assert offered(Choice("a-run", True)) == []


def test_where_the_label_is_known_it_stands_beside_the_prediction(look: Look) -> None:
    said, other = look.prediction.classes[0], look.prediction.classes[1]
    choice = Choice("a-run", is_visitors=False)
    right, wrong, unknown = (answers_html([look], choice, Wanted(), label) for label in (said, other, "<cow>"))
    assert f"labelled <b>{escape(said)}</b> · model says <b>{escape(said)}</b>" in right
    assert 'class="truth right"' in right
    assert f"labelled <b>{escape(other)}</b> · model says <b>{escape(said)}</b>" in wrong
    assert 'class="truth wrong"' in wrong
    assert "Labelled <b>&lt;cow&gt;</b>, which is not a class of this run" in unknown


# Who answers


@pytest.mark.parametrize(
    ("short_side", "chosen", "name", "instead"),
    [
        (32, None, "small", None),
        (64, "", "small", None),
        (65, None, "photo", "small"),
        (3000, "", "photo", "small"),
        (3000, "small", "small", "photo"),
        (3000, "photo", "photo", "small"),
        (3000, "mine", "mine", "photo"),
        (32, "photo", "photo", "small"),
        (32, "small", "small", None),
    ],
)
def test_a_photograph_is_answered_by_the_photograph_model_unless_a_run_was_chosen(
    short_side: int, chosen: str | None, name: str, instead: str | None
) -> None:
    found = choose(short_side, chosen, "small", "photo")
    assert (found.name, found.is_visitors, found.instead) == (name, bool(chosen), instead)
    if found.instead:
        assert choose(short_side, found.instead, "small", "photo").name == found.instead  # the click leads there


def test_without_the_photograph_model_the_default_answers_and_without_any_run_a_sentence() -> None:
    assert choose(3000, None, "small", None) == Choice("small", is_visitors=False)
    assert choose(32, None, None, "photo").name == "photo"
    with pytest.raises(UserError, match="There is no trained run here yet"):
        choose(32, None, None, None)
    assert choose(32, "mine", None, None) == Choice("mine", is_visitors=True, is_small=True)


# Maps


def test_what_is_shown_is_what_the_model_sees_with_the_pixels_that_there_are(look: Look) -> None:
    left, top, side = (48 - 30) / 2, (40 - 30) / 2, 30  # the middle 24/32 of 40 pixels
    middle = look.picture.crop((int(left), int(top), int(left) + side, int(top) + side))
    assert look.view.size == (side, side)
    assert np.abs(np.asarray(look.view, dtype=int) - np.asarray(middle, dtype=int)).max() <= 1
    small = np.asarray(look.view.resize((24, 24), Image.Resampling.BICUBIC), dtype=int)
    assert np.abs(small - np.asarray(look.classifier.view(look.picture), dtype=int)).mean() < 8


def test_each_top_class_has_a_map_of_each_method_and_both_files(look: Look) -> None:
    html = class_maps_html([look])
    rows = html.split('<div class="why"')[1:]
    assert [int(re.search(r'data-class="(\d)"', row)[1]) for row in rows] == look.prediction.indices
    assert [bool(re.match(r"[^>]* hidden>", row)) for row in rows] == [False, False, True, True, True]
    assert re.findall(r'<input type="radio" name="method" value="([^"]+)"', html) == list(METHODS)
    assert html.count("Test whether these heatmaps are faithful") == 1
    for row in rows:
        assert row.count("<figure>") == 2 == row.count('.npy"') == row.count('class="png"')
    assert HOSTILE not in html
    assert re.findall(r'download="([^"]+)"', html)[0] == f"a-run-{plain(look.prediction.classes[0])}-grad-cam.png"


def plain(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", name)


def array_of(html: str, name: str) -> np.ndarray[Any, Any]:
    import base64

    found = re.search(rf'download="{re.escape(name)}" href="data:application/octet-stream;base64,([^"]+)"', html)
    assert found is not None, name
    loaded: np.ndarray[Any, Any] = np.load(io.BytesIO(base64.b64decode(found[1])), allow_pickle=False)
    return loaded


def test_the_gates_files_have_the_very_values(with_cbam: Look) -> None:
    html = gates_html([with_cbam])
    for module, gate in with_cbam.prediction.attention.spatial.items():
        assert np.array_equal(array_of(html, f"a-run-{module}-spatial-gate.npy"), gate[0].numpy())
    channels = with_cbam.prediction.attention.channel["cbam3"][0]
    named = [
        int(i) for i in re.findall(r'<button type="button" class="channel [^>]*data-channel="(\d+)"[^>]*cbam3', html)
    ]
    assert channels[named].max() == channels.max()
    assert channels[named].min() == channels.min()
    assert len(set(named)) == len(named) == 6


def test_a_channel_is_shown_as_its_feature_map(with_cbam: Look) -> None:
    html = channel_html(with_cbam, "cbam2", 5)
    assert np.array_equal(
        array_of(html, "a-run-cbam2-channel-5.npy"), with_cbam.prediction.features["cbam2"][5].numpy()
    )


def test_the_class_maps_of_two_runs_have_a_scale_each(with_cbam: Look, look: Look) -> None:
    scales = re.findall(
        r"<span>Grad-CAM</span><span>0</span>.*?<span>([\d.e-]+)</span></div>", class_maps_html([with_cbam, look])
    )
    assert scales == [f"{one.class_maps['grad-cam'].raw.max():.3g}" for one in (with_cbam, look)]


@pytest.mark.parametrize(("value", "words"), [(0, "0"), (0.00341, "0.00341"), (0.4426, "0.443"), (52.61, "52.6")])
def test_a_scale_is_written_by_its_magnitude(value: float, words: str) -> None:
    assert by_magnitude(value) == words


def test_two_runs_share_the_scale_of_their_gates(with_cbam: Look, look: Look) -> None:
    html = gates_html([with_cbam, look])
    gates = [g for one in (with_cbam, look) for g in one.prediction.attention.spatial.values()]
    low, high = min(float(g.min()) for g in gates), max(float(g.max()) for g in gates)
    scale = re.findall(r'class="scale"><span>gate</span><span>([\d.e-]+)</span>.*?<span>([\d.]+)</span>', html)
    assert scale == [(f"{low:.3g}", f"{high:.3g}")]
    assert ("a-run has no CBAM" in html) == (not look.prediction.attention.spatial)


def test_bars_go_from_the_neutral_value_to_each_gate() -> None:
    drawn = bars([0.9, 0.5, 0.1], 0.5, "three")
    up, down = re.findall(r'class="(?:up|down)" d="([^"]*)"', drawn)
    assert [float(y) for y in re.findall(r" ([\d.]+)V", up)] == [HEIGHT * 0.5] * 2
    assert [float(y) for y in re.findall(r"V([\d.]+)h", up + down)] == pytest.approx([9, 45, 81])


# Evidence


def test_the_chart_of_evidence_has_each_measure_with_what_knows_nothing() -> None:
    measures = [
        plots.MeasuredMap("Insertion", 0.7, (0.4, 0.5), 0.6),
        plots.MeasuredMap("<b>Deletion", 0.1, (0.2, 0.3), 0.25),
    ]
    random, centre, this = plots.evidence_chart("title", measures)["data"]
    assert list(zip(random["y"], random["x"], strict=True)) == [
        ("Insertion", 0.4),
        ("Insertion", 0.5),
        ("&lt;b&gt;Deletion", 0.2),
        ("&lt;b&gt;Deletion", 0.3),
    ]
    assert (centre["x"], this["x"]) == ([0.6, 0.25], [0.7, 0.1])


# Examples


def test_the_examples_have_a_name_each() -> None:
    names = list(examples())
    assert names[3] == "cat"
    assert len(names) == 10 + len(list(PHOTOGRAPHS.glob("*.jpg"))) >= 15  # no two of a name


def test_every_example_photograph_has_its_credit_and_is_large_enough_for_the_photograph_model() -> None:
    assert set(photo_credits()) == {path.stem for path in PHOTOGRAPHS.glob("*.jpg")}
    html = examples_html()
    for name, credit in photo_credits().items():
        assert credit.author
        assert credit.licence in ("CC0 1.0", "CC BY 2.0", "public domain")
        assert f'title="{name}, photograph: {credit.words}"' in html
        with Image.open(examples()[name]) as picture:
            assert 256 <= min(picture.size) <= max(picture.size) <= 320
            assert choose(min(picture.size), None, "small", "photo").name == "photo"
    assert 'href="https://creativecommons.org/licenses/by/2.0/"' in html
    assert len(html) < 100_000  # small pictures of them


def test_the_photograph_model_knows_the_example_photographs_and_has_class_maps_but_no_gates() -> None:
    classifier = Classifier(Run.open(SHIPPED / PHOTO_BACKBONE))
    wanted = {
        "tabby": "Egyptian cat",
        "espresso": "espresso",
        "tripod": "tripod",
        "rocket": "missile",
        "palace": "palace",
    }
    assert set(wanted) == set(photo_credits())
    pictures = {name: open_image(examples()[name]) for name in wanted}
    found = classifier.predict_many(pictures.values())
    assert {name: p.classes[0] for name, p in zip(pictures, found, strict=True)} == wanted

    picture = pictures["espresso"]
    seen = Look(PHOTO_BACKBONE, classifier, picture, classifier.predict(picture, features=True))
    assert [warning[:35] for warning in seen.prediction.warnings] == ["The probabilities are not calibrate"]
    for maps in seen.class_maps.values():
        assert maps.raw.shape == (5, 7, 7)
        rows, columns = np.unravel_index(maps.raw[0].argmax(), (7, 7))
        assert 1 <= rows <= 5  # the cup is in the middle
        assert 1 <= columns <= 5
    assert f"{PHOTO_BACKBONE} has no CBAM, so it has no gates." in gates_html([seen])
    assert "<figure" not in gates_html([seen])
    with pytest.raises(UserError, match="has no CBAM, so it has no gates to test"):
        evidence_value(seen, Judged("gates", (seen.prediction.indices[0],)), lambda _: None)


# Many pictures


def encoded(seed: int, kind: str = "PNG", size: tuple[int, int] = (40, 40)) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def pictures() -> dict[str, bytes]:
    """Of three classes, two in no class's folder, and files that are none."""
    found = {f"all/{name}/{i}.png": encoded(10 * i + len(name)) for name in ("ant", "BEE", "fox") for i in range(4)}
    return found | {"all/other/x.png": encoded(7), "y.png": encoded(8), "all/ant/z.txt": b"text", ".hidden": b""}


def zipped(folder: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(folder / "all.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return folder / "all.zip"


def test_many_pictures_are_judged_as_each_alone_and_counted_as_sklearn_does(
    tmp_path: Path, look: Look, pictures: dict[str, bytes]
) -> None:
    reading = Reading(SkippedFiles())
    files = read_all([(zipped(tmp_path, pictures), "all.zip")])
    rows = list(classified(look.classifier, files, reading, most=100))
    assert [row.file for row in rows] == [name for name in pictures if name.endswith("png")]
    assert [(skipped.name, reading.skipped.count) for skipped in reading.skipped.listed] == [("all/ant/z.txt", 1)]
    assert (reading.done, reading.total) == (len(pictures), len(pictures))
    for row in rows:
        alone = look.classifier.predict(open_image(io.BytesIO(pictures[row.file])))
        assert list(row.classes) == alone.classes
        assert row.probabilities == pytest.approx(alone.probabilities, abs=1e-5)
    labelled = [row for row in rows if row.folder]
    assert [row.folder for row in labelled] == ["ant"] * 4 + ["bee"] * 4 + ["fox"] * 4

    evaluation = evaluation_of(rows, CLASSES)
    assert evaluation is not None
    truth, said = [row.folder for row in labelled], [row.classes[0] for row in labelled]
    whole = [(look.classifier.predict(open_image(io.BytesIO(pictures[row.file])), top=6)) for row in labelled]
    by_class = np.array([[p.probabilities[p.indices.index(i)] for i in range(6)] for p in whole], dtype=np.float64)
    by_class /= by_class.sum(1, keepdims=True)
    assert summary(evaluation)["accuracy"] == pytest.approx(accuracy_score(truth, said))
    loss = log_loss([CLASSES.index(name) for name in truth], by_class, labels=range(6))
    assert summary(evaluation)["loss"] == pytest.approx(loss, rel=1e-3)
    assert confusion_matrix(evaluation).tolist() == reference_confusion(truth, said, labels=list(CLASSES)).tolist()
    assert evaluation_of([row for row in rows if not row.folder], CLASSES) is None


def test_a_table_of_hostile_names_is_harmless_as_csv_and_has_all_that_was_said(tmp_path: Path, look: Look) -> None:
    files = [File("=1+1.png", ("=1+1.png",), encoded(1), None, 1, 1)]
    rows = list(classified(look.classifier, files, Reading(SkippedFiles()), most=10))
    (row,) = table_rows(rows)
    assert row[:3] == ["=1+1.png", "", ""]
    assert row[3::2][:5] == list(rows[0].classes)
    assert row[4::2][:5] == pytest.approx([100 * p for p in rows[0].probabilities], abs=0.01)
    text = Path(csv_file("a run/predictions", table_columns(5), table_rows(rows))).read_text(encoding="utf-8")
    assert text.startswith("file,label,correct,predicted,probability %,predicted 2,probability % 2,")
    assert len(text.splitlines()[0].split(",")) == len(row)
    assert "'=1+1.png" in text
    assert not re.search(r"(^|,)=", text)


def test_reading_stops_when_asked_at_the_most_and_never_holds_more_than_a_batch(look: Look) -> None:
    opened = []

    def endless() -> Iterator[File]:
        for i in range(10_000):
            opened.append(i)
            yield File(f"{i}.png", (f"{i}.png",), content, None, i, 10_000)

    content = encoded(3)
    assert len(list(classified(look.classifier, endless(), Reading(SkippedFiles()), most=40))) == 40
    assert len(opened) == 40
    opened.clear()
    rows = classified(
        look.classifier, endless(), Reading(SkippedFiles()), most=10_000, stopped=lambda: len(opened) > 50
    )
    next(rows)
    assert len(opened) == 32  # a batch
    assert len(list(rows)) == 49  # of 51 that were opened, the first was taken and the last came when it was stopped


def test_of_a_batch_no_picture_is_held_in_its_own_size(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[tuple[int, int]] = []

    def prepare(images: list[Image.Image]) -> torch.Tensor:
        held.extend(image.size for image in images)
        return prepared(images)

    prepared = look.classifier.prepare
    monkeypatch.setattr(look.classifier, "prepare", prepare)
    file = io.BytesIO()
    Image.new("RGB", (900, 700)).save(file, "PNG")
    files = [File("a.png", ("a.png",), file.getvalue(), None, 1, 1)]
    assert len(list(classified(look.classifier, files, Reading(SkippedFiles()), most=10))) == 1
    assert held == [(look.classifier.config.stored_size,) * 2]


def test_the_first_picture_of_many_tells_their_size_and_nothing_is_lost() -> None:
    files = [
        File("a.txt", ("a.txt",), b"text", None, 1, 4),
        File("b.png", ("b.png",), b"", "It is too large.", 2, 4),
        File("c.png", ("c.png",), encoded(1, size=(70, 90)), None, 3, 4),
        File("d.png", ("d.png",), encoded(2), None, 4, 4),
    ]
    short_side, again = first_short_side(iter(files))
    assert (short_side, list(again)) == (70, files)
    short_side, again = first_short_side(iter(files[:2]))
    assert (short_side, list(again)) == (0, files[:2])


def test_archives_folders_and_single_files_are_read_alike(tmp_path: Path, pictures: dict[str, bytes]) -> None:
    wanted = {name: content for name, content in pictures.items() if not name.startswith(".")}
    archive = zipped(tmp_path, pictures)
    folder = tmp_path / "folder"
    for name, content in pictures.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    with tarfile.open(tmp_path / "all.tar.gz", "w:gz") as packed:
        packed.add(folder, ".")
    for source in (archive, folder, tmp_path / "all.tar.gz"):
        assert source.is_dir() or is_archive(source)
        assert {"/".join(file.parts): file.data for file in read_files(source) if file.parts} == wanted
    single = folder / "y.png"
    assert not is_archive(single)
    (one,) = read_all([(single, "holiday.png")])
    assert (one.parts, one.data) == (("holiday.png",), wanted["y.png"])
    (tmp_path / "broken.zip").write_bytes(archive.read_bytes()[:-40])
    with pytest.raises(UserError):
        list(read_all([(tmp_path / "broken.zip", "broken.zip")]))


# Mistakes


def test_mistakes_are_a_data_set_that_a_training_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(tmp_path))
    folder = tmp_path / "mistakes"
    first, second = encoded(1), encoded(2)
    assert add_mistake(folder, CLASSES, first, "a.png", "bee") == 1
    assert add_mistake(folder, CLASSES, second, "b.png", HOSTILE) == 2
    assert add_mistake(folder, CLASSES, first, "again.png", "fox") == 2  # told anew: the later word counts
    assert classes_of(folder) == CLASSES
    found = summarise(DatasetRef("mistakes"))
    assert found.classes == CLASSES
    assert found.counts == {"train": [0, 0, 1, 0, 0, 1]}
    loaded = load_split([mistakes_file(folder)], 40)
    assert [CLASSES[i] for i in loaded.labels] == [HOSTILE, "fox"]
    assert np.array_equal(loaded.images[1].numpy(), np.asarray(Image.open(io.BytesIO(first))))
    assert [path.name for path in folder.iterdir()] == [mistakes_file(folder).name]
    with pytest.raises(UserError, match="'cow' is not one of the run's 6 classes"):
        add_mistake(folder, CLASSES, first, "a.png", "cow")
    with pytest.raises(UserError, match="has different classes"):
        add_mistake(folder, ("fox", "ant"), first, "a.png", "ant")
    assert pq.read_table(mistakes_file(folder)).num_rows == 2


# Decoding


def test_a_large_jpeg_comes_smaller_and_looks_the_same_to_a_model() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    noise.resize((1800, 1200), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=92)
    whole, small = open_image(buffer), open_image(buffer, short_side=256)
    assert (whole.size, small.size) == ((1800, 1200), (450, 300))
    difference = np.abs(
        np.asarray(to_model_size(whole, 64), dtype=int) - np.asarray(to_model_size(small, 64), dtype=int)
    )
    assert difference.max() <= 6
