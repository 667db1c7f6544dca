"""The app's endpoints, by the client that others will use."""

import base64
import io
import json
import re
import shutil
import time
import zipfile
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from resnet_space.runs import CONFIG, FEATURE_STATISTICS, RESUME, WEIGHTS, last_metric
from resnet_space.ui.assets import ASSETS, replaced_scripts
from tests.ui.conftest import PATIENT, SHIPPED, SHOWN_MS, TINY, App

BACKBONE, SHOWPIECE = SHIPPED
EXAMPLE = Path(__file__).parents[2] / "resnet_space" / "datasets" / "examples" / "horse.jpg"
TRAINED_SECONDS = 240
FACES = {"age": ["young", "old", "older"], "gender": ["f", "m"]}


@pytest.fixture(scope="module")
def client(app: App) -> Iterator[Client]:
    connected = Client(app.url, **PATIENT)
    yield connected
    connected.close()


def wait_until_ended(client: Client, run: str) -> dict[str, Any]:
    deadline = time.monotonic() + TRAINED_SECONDS
    while time.monotonic() < deadline:
        status: dict[str, Any] = client.predict(run, api_name="/training_status")
        if status["state"] not in ("queued", "starting", "training", "stopping"):
            return status
        time.sleep(0.3)
    raise AssertionError(f"{run} did not end within {TRAINED_SECONDS} s")


def test_only_the_promised_endpoints_are_public(client: Client) -> None:
    names = set(client.view_api(return_format="dict")["named_endpoints"])
    assert names == {"/start_training", "/training_status", "/stop_training", "/push", "/pull"} | {
        "/predict",
        "/explore_residuals",
        "/check_data",
        "/clean_data",
        "/compare_models",
        "/add_data",
        "/export",
    }


def test_the_page_gets_the_scripts_that_replace_gradios(app: App) -> None:
    routes = replaced_scripts()
    assert len(routes) == 3
    for route in routes:
        served = httpx.get(app.url + route.path).text
        assert served != (ASSETS / route.path.removeprefix("/assets/")).read_text(encoding="utf-8")
        assert ("componentPlaces" in served) == ("core-" in route.path)


def test_the_page_is_sent_compressed_to_who_can_read_it_so(app: App) -> None:
    plain, small = (httpx.get(app.url, headers={"Accept-Encoding": encoding}) for encoding in ("identity", "gzip"))
    assert "content-encoding" not in plain.headers
    assert small.headers["content-encoding"] == "gzip"
    assert 5 * int(small.headers["content-length"]) < int(plain.headers["content-length"]) == len(plain.content)
    assert small.text == plain.text
    assert "content-security-policy" in small.headers


def test_a_training_is_started_another_waits_and_both_finish(client: Client, app: App) -> None:
    started = client.predict(dataset=TINY, epochs=2, seed=3, api_name="/start_training")
    second = client.predict(dataset=TINY, epochs=1, name="my-pets", api_name="/start_training")
    assert (second["run"], second["state"], second["place"]) == ("my-pets", "queued", 1)
    with pytest.raises(AppError, match="my-pets"):  # is taken
        client.predict(dataset=TINY, epochs=1, name="my-pets", api_name="/start_training")
    adapted = {"objective": "coral", "target": TINY, "domain_weight": 100}
    third = client.predict(epochs=2, more=adapted, api_name="/start_training")
    assert third["place"] == 2
    training = app.run(third["run"]).config.training
    assert (training.dataset, training.objective, training.target) == ("cifar10-mini", "coral", TINY)
    with pytest.raises(AppError, match="The other settings must be an object such as"):
        client.predict(epochs=1, more=[1], api_name="/start_training")
    client.predict(third["run"], api_name="/stop_training")  # out of the queue
    assert client.predict(third["run"], api_name="/training_status")["state"] == "new"
    status = wait_until_ended(client, started["run"])
    assert status["state"] == "finished"
    assert status["epoch"]["epoch"] == 2
    run = app.run(started["run"])
    assert run.config.training.start == started["proposal"]["start"] == BACKBONE
    assert run.config.training.strategy == started["proposal"]["strategy"] == "probe-then-fine-tune"
    assert 0 < started["proposal"]["seconds"] < 60
    assert started["proposal"]["reason"].startswith(
        "320 images of 32 pixels, 10 classes: fit a new head on ResNet-20, "
    )
    assert run.config.training.seed == 3
    assert status["test"] == last_metric(run.metrics(), "test")

    answer, *_ = client.predict(handle_file(EXAMPLE), run.name, api_name="/predict")
    assert len(answer["confidences"]) == 5
    folder, about = client.predict(run.name, "safetensors", api_name="/export")
    assert (about["run"], about["format"]) == (run.name, "safetensors")
    with zipfile.ZipFile(folder) as archive:
        assert archive.read(f"{run.name}/{WEIGHTS}") == (run.path / WEIGHTS).read_bytes()
    with pytest.raises(AppError, match="The format must be one of safetensors, onnx, onnx-int8, page, page-int8, not"):
        client.predict(run.name, "pickle", api_name="/export")
    with pytest.raises(AppError, match="There is no run named gone"):
        client.predict("gone", api_name="/export")
    assert wait_until_ended(client, second["run"])["state"] == "finished"


@pytest.mark.long
def test_networks_are_compared_and_a_comparison_is_known_by_its_name(client: Client, app: App) -> None:
    found = client.predict(
        dataset=TINY, networks=[SHOWPIECE, BACKBONE], images=100, key="mine", api_name="/compare_models"
    )
    assert found["state"] == "finished"
    rows = {row["name"]: row for row in found["rows"]}
    assert set(rows) == {SHOWPIECE, BACKBONE}
    assert (rows[SHOWPIECE]["seen"], rows[BACKBONE]["seen"]) == (True, False)
    assert rows[BACKBONE]["images"] == 100
    assert 0.2 < rows[BACKBONE]["accuracy"] < rows[SHOWPIECE]["accuracy"]  # which was trained on these classes
    assert found["take"] == BACKBONE
    assert f"{SHOWPIECE} has learned these classes before" in found["words"]
    assert client.predict(comparison=found["comparison"], key="mine", api_name="/compare_models") == found
    with pytest.raises(AppError, match="There is no run named gone"):
        client.predict(dataset=TINY, networks=["gone"], api_name="/compare_models")
    with pytest.raises(AppError, match="There is no such comparison"):
        client.predict(comparison="gone", api_name="/compare_models")


@pytest.mark.long
def test_data_are_checked_and_a_check_is_known_by_its_name(client: Client, app: App) -> None:
    found = client.predict(dataset=TINY, key="mine", api_name="/check_data")
    assert (found["state"], found["backbone"]) == ("finished", BACKBONE)
    for name in ("label_issues", "near_duplicates", "outliers", "classes"):
        scores = [one["score"] for one in found[name]]
        assert scores == sorted(scores, reverse=True) or name == "near_duplicates"  # contradictions, other splits first
        assert all({"split", "index", "file", "score", "words"} <= set(one) for one in found[name])
    assert client.predict(check=found["check"], key="mine", api_name="/check_data") == found
    with pytest.raises(AppError, match="There is no run named gone"):
        client.predict(dataset=TINY, backbone="gone", api_name="/check_data")
    with pytest.raises(AppError, match="There is no such check"):
        client.predict(check="gone", api_name="/check_data")

    issue = found["label_issues"][0] | {"action": "relabel"}
    issue |= {"label": issue["suggested"], "finding": issue["words"]}
    made = client.predict(dataset=TINY, decisions=[issue], compare=True, key="mine", api_name="/clean_data")
    assert made["dataset"] == f"{TINY}-v2"
    change = made["manifest"]["changes"][0]
    assert (change["index"], change["label"], change["finding"]) == (issue["index"], issue["suggested"], issue["words"])
    compared = made["comparison"]
    assert (compared["state"], compared["images"]) == ("finished", 200)
    assert compared["after"] - compared["before"] == compared["gained"] - compared["lost"]


def test_a_version_is_made_from_decisions(client: Client, app: App) -> None:
    decisions = [{"split": "train", "index": 3, "action": "relabel", "label": "cat"}]
    made = client.predict(TINY, decisions, "cats", api_name="/clean_data")
    assert (made["dataset"], made["manifest"]["source"], made["manifest"]["by"]) == ("cats", TINY, "a visitor")
    assert (app.checkpoints.parent / "data" / "cats" / "version.json").exists()
    with pytest.raises(AppError, match="'dodo' is not one of the 10 classes"):
        client.predict(TINY, [decisions[0] | {"label": "dodo"}], api_name="/clean_data")
    with pytest.raises(AppError, match="is no decision"):
        client.predict(TINY, ["drop"], api_name="/clean_data")


def test_a_training_from_random_initialisation_is_stopped(client: Client, app: App) -> None:
    started = client.predict(
        dataset=TINY,
        start="random initialisation",
        architecture="resnet32",
        cbam="none",
        epochs=500,
        api_name="/start_training",
    )
    while client.predict(started["run"], api_name="/training_status")["state"] == "starting":
        time.sleep(0.2)
    client.predict(started["run"], api_name="/stop_training")
    assert wait_until_ended(client, started["run"])["state"] == "stopped"
    config = app.run(started["run"]).config
    assert (config.model.architecture, config.model.options["cbam"], config.training.start) == ("resnet32", None, None)

    _, maps, _ = client.predict(handle_file(EXAMPLE), started["run"], api_name="/predict")
    assert "has no CBAM" in maps


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"backbone_lr": 0}, "The backbone's learning rate must be above 0 and at most 10, not 0."),
        ({"head_lr": -1}, "The head's learning rate must be above 0 and at most 10, not -1."),
        ({"epochs": 0}, "The number of epochs must be a whole number from 1 to 1,000, not 0."),
        ({"epochs": 1.5}, "The number of epochs must be a whole number from 1 to 1,000, not 1.5."),
        ({"batch_size": 1}, "The batch size must be a whole number from 2 to 4,096, not 1."),
        ({"start": "random initialisation", "architecture": "resnet19"}, "The architecture must be one of resnet20"),
        ({"start": "../../etc"}, "Choose a run first."),
        ({"start": "gone"}, "There is no run named gone, or it has been deleted"),
        ({"dataset": "mnist"}, "There is no dataset named 'mnist'"),
        ({"dataset": "no/such"}, "The dataset no/such does not exist on the Hub"),
        ({"strategy": "magic"}, "The strategy must be one of full, scratch"),
        ({"more": {"rocket": 1}}, "There is no setting named rocket."),
        ({"more": {"image_size": 7}}, "The image size must be a whole number from 8 to 1,024, not 7."),
        ({"cbam": "none"}, "already has CBAM"),
    ],
)
def test_bad_training_values_are_refused_and_nothing_is_created(
    client: Client, app: App, values: dict[str, Any], sentence: str
) -> None:
    before = sorted(app.checkpoints.iterdir())
    with pytest.raises(AppError) as refused:
        client.predict(**values, api_name="/start_training")
    assert sentence in str(refused.value)
    assert sorted(app.checkpoints.iterdir()) == before


def test_the_horse_is_a_horse_in_every_kind_of_file(client: Client, tmp_path: Path) -> None:
    horse = Image.open(EXAMPLE).convert("RGB").resize((256, 256), Image.Resampling.BICUBIC)
    rotated = Image.Exif()
    rotated[0x0112] = 6  # to be turned by 90 degrees to the right
    transparent = horse.copy()
    transparent.putalpha(255)
    sixteen = Image.fromarray(np.asarray(horse.convert("L")).astype(np.uint16) * 257)
    files: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "plain.png": (horse, {}),
        "palette.png": (horse.quantize(256), {}),
        "cmyk.jpg": (horse.convert("CMYK"), {}),
        "transparent.webp": (transparent, {}),
        "rotated.jpg": (horse.transpose(Image.Transpose.ROTATE_90), {"exif": rotated.tobytes()}),
    }
    for name, (image, options) in files.items():
        image.save(tmp_path / name, **options)
        answer, *_ = client.predict(handle_file(tmp_path / name), SHOWPIECE, api_name="/predict")
        assert answer["label"] == "horse", name
    for name, grey in {"grey.png": horse.convert("L"), "16-bit.png": sixteen}.items():
        grey.save(tmp_path / name)
    eight, *_ = client.predict(handle_file(tmp_path / "grey.png"), SHOWPIECE, api_name="/predict")
    deep, *_ = client.predict(handle_file(tmp_path / "16-bit.png"), SHOWPIECE, api_name="/predict")
    assert eight == deep


def test_the_answer_names_the_run_and_carries_what_the_page_warns_of(client: Client, app: App, tmp_path: Path) -> None:
    def answered(picture: Path, *run: str) -> dict[str, Any]:
        _, maps, found = client.predict(handle_file(picture), *run, api_name="/predict")
        warnings = [escape(warning) for warning in found["warnings"]]
        assert re.findall(r'<p class="caution">(.*?)</p>', maps) == warnings
        return dict(found)

    assert answered(EXAMPLE) == {"run": SHOWPIECE, "warnings": []}
    ramp = np.arange(256, dtype=np.uint16)[None].repeat(32, axis=0) * 16
    Image.fromarray(ramp).save(tmp_path / "twelve-bits.png")
    scaled, unlike = answered(tmp_path / "twelve-bits.png", SHOWPIECE)["warnings"]
    assert scaled == "The picture uses 12 of its 16 bits and was scaled accordingly."
    assert unlike.startswith("This picture is unlike the training images")

    name = "never-calibrated"
    shutil.copytree(app.checkpoints / SHOWPIECE, app.checkpoints / name, ignore=shutil.ignore_patterns(RESUME))
    (app.checkpoints / name / FEATURE_STATISTICS).unlink()
    config = json.loads((app.checkpoints / name / CONFIG).read_text())
    config["model"]["temperature"] = 1.0
    (app.checkpoints / name / CONFIG).write_text(json.dumps(config))
    (uncalibrated,) = answered(EXAMPLE, name)["warnings"]
    assert uncalibrated.startswith("The probabilities are not calibrated")
    shutil.rmtree(app.checkpoints / name)


def test_unusable_pictures_get_a_sentence(client: Client, tmp_path: Path) -> None:
    jpeg = io.BytesIO()
    Image.open(EXAMPLE).resize((256, 256)).save(jpeg, "JPEG")
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "cut.jpg").write_bytes(jpeg.getvalue()[: len(jpeg.getvalue()) // 2])
    Image.new("1", (20_000, 20_000)).save(tmp_path / "huge.png")
    for name, sentence in {
        "text.png": "This file is not an image",
        "empty.png": "This file is not an image, or is empty",
        "cut.jpg": "The image is damaged",
        "huge.png": "million",
    }.items():
        with pytest.raises(AppError) as refused:
            client.predict(handle_file(tmp_path / name), SHOWPIECE, api_name="/predict")
        assert sentence in str(refused.value), name
    with pytest.raises(AppError, match="There is no image yet"):
        client.predict(None, SHOWPIECE, api_name="/predict")


def test_a_picture_comes_as_a_data_url_by_plain_http(app: App) -> None:
    def asked(image: object) -> str:
        call = f"{app.url}/gradio_api/call/predict"
        event = httpx.post(call, json={"data": [image, SHOWPIECE]}).json()["event_id"]
        return httpx.get(f"{call}/{event}", timeout=SHOWN_MS / 1000).text

    encoded = base64.b64encode(EXAMPLE.read_bytes()).decode()
    for name in ("url", "path"):
        assert '"label": "horse"' in asked({name: f"data:image/jpeg;base64,{encoded}"})
    for wrong in ("data:image/jpeg;base64,&&&", "data:image/jpeg,plain", "data:"):
        assert "The data: URL cannot be read" in asked({"url": wrong})
    assert "This file has not been uploaded" in asked({"path": "/etc/passwd"})


def test_residuals_are_measured_on_test_images_and_on_ones_own(client: Client) -> None:
    *_, table, _, values = client.predict(
        SHOWPIECE, "test images of cifar10-mini", 12, None, api_name="/explore_residuals"
    )
    assert [row[0] for row in table["data"]] == [f"layer{i}.{j}" for i in (1, 2, 3) for j in range(3)]
    assert len(Path(values).read_text().splitlines()) == 1 + 9 * 12
    *_, values = client.predict(
        SHOWPIECE, "one picture of your own", 12, handle_file(EXAMPLE), api_name="/explore_residuals"
    )
    assert len(Path(values).read_text().splitlines()) == 1 + 9
    with pytest.raises(AppError, match="The number of images is 0, but must be a whole number from 1 to 10,000"):
        client.predict(SHOWPIECE, "test images of cifar10-mini", 0, None, api_name="/explore_residuals")
    for source, sentence in {
        "train images of mnist": "There is no dataset named 'mnist': choose one of cifar10-mini, ",
        "train images of owner/name": "There is no dataset 'owner/name' here",  # and none is downloaded
        "validation images of cifar10-mini": "The split is 'validation', but must be one of train, test.",
        "some images": "The source is 'some images', but must be 'one picture of your own', or such as",
    }.items():
        with pytest.raises(AppError) as refused:
            client.predict(SHOWPIECE, source, 1, None, api_name="/explore_residuals")
        assert sentence in str(refused.value)
    with pytest.raises(AppError, match="This AlexNet has no residual blocks"):
        client.predict(
            "torchvision alexnet (random weights)",
            "test images of cifar10-mini",
            1,
            None,
            api_name="/explore_residuals",
        )


def test_a_broken_run_is_left_out_or_refused_with_the_reason(client: Client, app: App) -> None:
    from safetensors.torch import load_file, save_file

    source = app.run(SHOWPIECE)
    weights = load_file(source.path / "model.safetensors")
    cases = {
        "missing": ({k: v for k, v in weights.items() if k != "fc.bias"}, "fc.bias is missing"),
        "extra": (weights | {"rogue": weights["fc.bias"].clone()}, "rogue is unexpected"),
        "misshaped": (weights | {"fc.bias": weights["fc.bias"][:3].clone()}, "instead of (10,)"),
    }
    for name, (tensors, reason) in cases.items():
        (app.checkpoints / name).mkdir()
        (app.checkpoints / name / "config.json").write_text((source.path / "config.json").read_text())
        save_file(tensors, app.checkpoints / name / "model.safetensors")
        with pytest.raises(AppError) as refused:
            client.predict(handle_file(EXAMPLE), name, api_name="/predict")
        assert reason in str(refused.value)
    (app.checkpoints / "broken").mkdir()
    (app.checkpoints / "broken" / "config.json").write_text("{")
    with pytest.raises(AppError, match=r"The config\.json of broken cannot be read"):
        client.predict(handle_file(EXAMPLE), "broken", api_name="/predict")


def packed(tmp_path: Path, names: Sequence[str]) -> Path:
    """A zip of different pictures."""
    with zipfile.ZipFile(tmp_path / "two cameras.zip", "w") as archive:
        for i, name in enumerate(names):
            file = io.BytesIO()
            Image.new("RGB", (8, 8), (i * 9, 0, 99)).save(file, "PNG")
            archive.writestr(name, file.getvalue())
    return tmp_path / "two cameras.zip"


def test_an_archive_is_brought_and_told_of_and_can_be_read_otherwise(client: Client, tmp_path: Path) -> None:
    names = [f"cam{camera}/{name}/{i}.png" for camera in (1, 2) for name in ("cat", "dog") for i in range(4)]
    archive = handle_file(packed(tmp_path, names))
    added = client.predict(archive, api_name="/add_data")
    assert added["dataset"] == added["name"] == "two-cameras"
    assert added["counts"] == {"train": {"cat": 8, "dog": 8}}
    assert (added["left_out"], added["left_out_count"], added["warnings"]) == ([], 0, [])
    assert [decision["what"] for decision in added["decisions"]] == ["merged"]
    kept = client.predict(archive, folders="keep", api_name="/add_data")
    assert (kept["dataset"], kept["classes"]) == ("two-cameras-2", ["cam1", "cam2"])
    for wrong, sentence in (
        ({"archive": None}, "Send either an archive or the id of a dataset on the Hub."),
        ({"archive": None, "repo_id": "no/such"}, "The dataset no/such does not exist on the Hub"),
        ({"archive": archive, "folders": "burn"}, "folders is 'burn', but must be 'merge' or 'keep'."),
        ({"archive": archive, "label_column": "x"}, "No table lists the images: leave the columns empty."),
    ):
        with pytest.raises(AppError) as refused:
            client.predict(**wrong, api_name="/add_data")
        assert sentence in str(refused.value)


def test_a_hub_set_is_brought_with_the_columns_that_were_asked_for(client: Client, app: App) -> None:
    features: dict[str, Any] = {"image": {"_type": "Image"}}
    features |= {name: {"_type": "ClassLabel", "names": names} for name, names in FACES.items()}
    file = io.BytesIO()
    table = pq.read_table(next((app.checkpoints.parent / "data" / TINY).glob("train-*"))).slice(0, 40)
    table = pa.table(
        {"image": table["img"], **{name: [i % len(names) for i in range(40)] for name, names in FACES.items()}}
    )
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(metadata), file)
    app.hub.add_dataset("u/faces", {"data/train.parquet": file.getvalue()})
    address = "https://huggingface.co/datasets/u/faces"
    added = client.predict(None, address, label_column="gender", api_name="/add_data")
    assert added["classes"] == FACES["gender"]
    assert added["counts"] == {"train": {"f": 20, "m": 20}}
    assert added["dataset"].endswith("#default?label=gender")
    assert "'age' could be used instead" in json.dumps(added["decisions"])
    started = client.predict(dataset=added["dataset"], epochs=1, api_name="/start_training")
    assert wait_until_ended(client, started["run"])["state"] == "finished"
    config = app.run(started["run"]).config
    assert (config.model.classes, config.training.dataset_label) == (("f", "m"), "gender")
