import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants
from PIL import Image

from resnet_space.common import hub_client as client
from resnet_space.common.errors import UserError
from resnet_space.config import TrainConfig
from resnet_space.data import hub
from resnet_space.data.hub import (
    CONVERTED,
    MAX_GB_VARIABLE,
    WELL_KNOWN,
    describe_dataset,
    fetch_dataset,
    known_dataset,
    search_datasets,
)
from resnet_space.data.reference import DatasetRef
from resnet_space.data.sources import open_dataset
from resnet_space.data.splits import load_split, load_splits
from tests.hub_stub import HubStub, isolate_client

TOKEN = "hf_reader0123456789"
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TRAIN = "plain_text/train-00000-of-00001.parquet"
TEST = "plain_text/test-00000-of-00001.parquet"
INSTEAD = "choose a dataset on this machine"


def parquet(images: int = 6, *, features: Mapping[str, Any] | None = None, seed: int = 0) -> bytes:
    """A few images as the Hub keeps them, in columns of the given features (those of CIFAR-10 by default)."""
    features = features or {"img": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": list(CIFAR10)}}
    noise = np.random.default_rng(seed).integers(256, size=(images, 32, 32, 3), dtype=np.uint8)
    columns: dict[str, pa.Array] = {}
    for name, feature in features.items():
        match feature["_type"]:
            case "Image":
                encoded = []
                for pixels in noise:
                    file = io.BytesIO()
                    Image.fromarray(pixels).save(file, "PNG")
                    encoded.append({"bytes": file.getvalue(), "path": None})
                columns[name] = pa.array(encoded, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
            case "ClassLabel":
                columns[name] = pa.array([i % len(feature["names"]) for i in range(images)], pa.int64())
            case _:
                columns[name] = pa.array([f"text {i}" for i in range(images)], pa.string())
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    file = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), file)
    return file.getvalue()


def dataset_files(repo_id: str, config: str | None, revision: str | None) -> dict[str, list[Path]]:
    """As a run's configuration names them."""
    return fetch_dataset(known_dataset(DatasetRef(repo_id, config, revision)))


@pytest.fixture(scope="session")
def cifar10() -> dict[str, bytes]:
    return {TRAIN: parquet(20), TEST: parquet(8, seed=1), "README.md": b"# CIFAR-10"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    isolate_client(monkeypatch, tmp_path)
    monkeypatch.delenv(MAX_GB_VARIABLE, raising=False)
    return tmp_path / "hub"


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStub]:
    with HubStub() as stub:
        monkeypatch.setenv("HF_ENDPOINT", stub.url)
        yield stub


def refusal(action: Any, *arguments: Any, **options: Any) -> str:
    """The sentence with which an action is refused."""
    with pytest.raises(UserError) as caught:
        action(*arguments, **options)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert "hf_" not in sentence.replace("hf_***", "")
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return sentence


def bodies(stub: HubStub) -> list[str | None]:
    """The ranges of the files' bodies that were asked for, None being all of a file."""
    return [asked.range for asked in stub.asked("GET", "/storage/")]


# Description


def test_a_data_set_is_described_without_downloading_it(stub: HubStub, cifar10: dict[str, bytes]) -> None:
    large = cifar10 | {TRAIN: parquet(400)}
    assert len(large[TRAIN]) > 1_000_000
    commit = stub.add_dataset("uoft-cs/cifar10", large)
    dataset = describe_dataset("uoft-cs/cifar10")
    assert dataset == hub.HubDataset(
        repo_id="uoft-cs/cifar10",
        config="plain_text",
        configs=("plain_text",),
        ref="main",
        revision=commit,
        files={"train": (TRAIN,), "test": (TEST,)},
        bytes=len(large[TRAIN]) + len(large[TEST]),
        classes=CIFAR10,
        image_column="img",
        label_column="label",
        partial=False,
    )
    assert bodies(stub) == [f"bytes={len(large[TRAIN]) - 65536}-{len(large[TRAIN]) - 1}"]
    assert len(stub.requests) == 3  # the list of files, and a redirect to the end of one


def test_a_footer_larger_than_usual_is_read_whole(stub: HubStub) -> None:
    names = [f"{i} {'a very long name ' * 20}" for i in range(1_000)]
    features = {"img": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}
    stub.add_dataset("a/b", {"data/train.parquet": parquet(100, features=features)})
    assert describe_dataset("a/b").classes == tuple(names)
    assert len(bodies(stub)) == 2


@pytest.mark.parametrize(
    ("paths", "files"),
    [
        (("data/train-00000-of-00001.parquet",), {"train": ("data/train-00000-of-00001.parquet",)}),
        (
            ("data/valid-00000-of-00001-0a1b2c.parquet", "data/train-00000-of-00001-0a1b2c.parquet"),
            {
                "train": ("data/train-00000-of-00001-0a1b2c.parquet",),
                "validation": ("data/valid-00000-of-00001-0a1b2c.parquet",),
            },
        ),
        (
            ("train.parquet", "val.parquet", "test.parquet", "unsupervised.parquet", "train_10k.parquet"),
            {"train": ("train.parquet",), "validation": ("val.parquet",), "test": ("test.parquet",)},
        ),
        (
            ("default/train/0001.parquet", "default/train/0000.parquet", "default/testing/0000.parquet"),
            {
                "train": ("default/train/0000.parquet", "default/train/0001.parquet"),
                "test": ("default/testing/0000.parquet",),
            },
        ),
    ],
)
def test_the_usual_layouts_are_understood(
    stub: HubStub, paths: Sequence[str], files: dict[str, tuple[str, ...]]
) -> None:
    stub.add_dataset("a/b", {path: parquet() for path in paths} | {"notes/train.csv": b"1"})
    dataset = describe_dataset("a/b")
    assert dataset.files == files
    assert dataset.configs == ("default",)


def test_every_configuration_can_be_chosen(stub: HubStub) -> None:
    stub.add_dataset("a/b", {f"{name}/train-00000-of-00001.parquet": parquet() for name in ("small", "full")})
    assert describe_dataset("a/b").configs == ("full", "small")
    assert describe_dataset("a/b").config == "full"
    assert describe_dataset("a/b", config="small").files == {"train": ("small/train-00000-of-00001.parquet",)}
    assert refusal(describe_dataset, "a/b", config="large") == (
        "The dataset a/b has no configuration 'large' with training images: choose one of full, small."
    )


def test_without_parquet_of_its_own_the_hubs_conversion_is_described_and_pinned(stub: HubStub) -> None:
    main = stub.add_dataset("a/folders", {"images/cat/1.jpg": b"jpg"})
    converted = stub.add_dataset("a/folders", {"default/train/0000.parquet": parquet()}, CONVERTED)
    dataset = describe_dataset("a/folders")
    assert (dataset.ref, dataset.revision) == ("refs/convert/parquet", converted)
    assert converted != main
    assert dataset.files == {"train": ("default/train/0000.parquet",)}
    assert not dataset.partial
    assert fetch_dataset(dataset)["train"][0].read_bytes() == parquet()


def test_parquet_without_types_is_read_from_the_hubs_conversion(stub: HubStub) -> None:
    file = io.BytesIO()
    pq.write_table(pa.table({"img": [b"1"], "label": [1]}), file)
    stub.add_dataset("a/b", {"train.parquet": file.getvalue()})
    converted = stub.add_dataset("a/b", {"default/train/0000.parquet": parquet()}, CONVERTED)
    assert describe_dataset("a/b").revision == converted


def test_a_truncated_conversion_says_so(stub: HubStub) -> None:
    stub.add_dataset("a/large", {"images.tar": b"tar"})
    stub.add_dataset("a/large", {"default/partial-train/0000.parquet": parquet()}, CONVERTED)
    dataset = describe_dataset("a/large")
    assert dataset.partial
    assert dataset.files == {"train": ("default/partial-train/0000.parquet",)}


def test_of_several_labels_the_finest_is_taken_and_another_can_be_chosen(stub: HubStub) -> None:
    features = {
        "img": {"_type": "Image"},
        "thumbnail": {"_type": "Image"},
        "coarse_label": {"_type": "ClassLabel", "names": [f"coarse {i}" for i in range(20)]},
        "fine_label": {"_type": "ClassLabel", "names": [f"fine {i}" for i in range(100)]},
    }
    stub.add_dataset("uoft-cs/cifar100", {"cifar100/train-00000-of-00001.parquet": parquet(features=features)})
    dataset = describe_dataset("uoft-cs/cifar100")
    assert (dataset.image_column, dataset.label_column, len(dataset.classes)) == ("img", "fine_label", 100)


def test_columns_are_found_by_their_types_not_by_their_names(stub: HubStub) -> None:
    features = {
        "label": {"_type": "Value", "dtype": "string"},
        "image": {"_type": "Value", "dtype": "string"},
        "bild": {"_type": "Image"},
        "klasse": {"_type": "ClassLabel", "names": ["Hund", "Katze"]},
    }
    stub.add_dataset("a/b", {"train.parquet": parquet(features=features)})
    dataset = describe_dataset("a/b")
    assert (dataset.image_column, dataset.label_column, dataset.classes) == ("bild", "klasse", ("Hund", "Katze"))


def test_a_revision_can_be_asked_for(stub: HubStub) -> None:
    first = stub.add_dataset("a/b", {"train.parquet": parquet()})
    stub.add_dataset("a/b", {"train.parquet": parquet(seed=1), "test.parquet": parquet(seed=2)})
    assert set(describe_dataset("a/b").files) == {"train", "test"}
    assert set(describe_dataset("a/b", revision=first).files) == {"train"}
    converted = stub.add_dataset("a/b", {"default/train/0000.parquet": parquet()}, CONVERTED)
    assert describe_dataset("a/b", revision=converted).revision == converted
    assert describe_dataset("a/b", revision=CONVERTED).revision == converted


# Download


def test_a_download_brings_the_described_files_and_tells_how_far_it_is(
    stub: HubStub, cifar10: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)
    stub.add_dataset("uoft-cs/cifar10", cifar10)
    dataset = describe_dataset("uoft-cs/cifar10")
    told: list[tuple[int, int]] = []
    files = fetch_dataset(dataset, progress=lambda done, total: told.append((done, total)))
    assert {split: [file.read_bytes() for file in found] for split, found in files.items()} == {
        "train": [cifar10[TRAIN]],
        "test": [cifar10[TEST]],
    }
    assert all(total == dataset.bytes for _, total in told)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert len({done for done, _ in told}) > 5
    assert told[-1] == (dataset.bytes, dataset.bytes)
    assert not stub.asked("GET", "README")


def test_what_was_downloaded_is_found_again_without_a_request(stub: HubStub, cifar10: dict[str, bytes]) -> None:
    stub.add_dataset("uoft-cs/cifar10", cifar10)
    dataset = describe_dataset("uoft-cs/cifar10")
    files = fetch_dataset(dataset)
    stub.requests.clear()
    told: list[tuple[int, int]] = []
    assert fetch_dataset(dataset, progress=lambda *where: told.append(where)) == files
    assert told[-1] == (dataset.bytes, dataset.bytes)
    for config in ("plain_text", None):
        assert dataset_files("uoft-cs/cifar10", config, dataset.revision) == files
        assert known_dataset(DatasetRef("uoft-cs/cifar10", config, dataset.revision)) == dataset
    assert stub.requests == []


def test_a_machine_that_has_only_the_ids_downloads_what_is_missing(stub: HubStub, cifar10: dict[str, bytes]) -> None:
    commit = stub.add_dataset("uoft-cs/cifar10", cifar10)
    stub.add_dataset("uoft-cs/cifar10", {TRAIN: parquet(3, seed=9)})  # main has moved on
    files = dataset_files("uoft-cs/cifar10", "plain_text", commit)
    assert files["train"][0].read_bytes() == cifar10[TRAIN]
    files["test"][0].unlink()  # as after a clean-up of the cache
    assert dataset_files("uoft-cs/cifar10", "plain_text", commit)["test"][0].read_bytes() == cifar10[TEST]
    now = dataset_files("uoft-cs/cifar10", None, None)
    assert now["train"][0].read_bytes() == parquet(3, seed=9)


def test_the_described_commit_is_fetched_even_when_main_has_moved_on(stub: HubStub) -> None:
    stub.add_dataset("a/b", {"train.parquet": parquet(4)})
    dataset = describe_dataset("a/b")
    stub.add_dataset("a/b", {"train.parquet": parquet(5)})
    assert fetch_dataset(dataset)["train"][0].read_bytes() == parquet(4)


def test_a_dropped_connection_is_taken_up_where_it_broke(stub: HubStub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)
    content = parquet(60)
    stub.add_dataset("a/b", {"train.parquet": content})
    dataset = describe_dataset("a/b")
    stub.requests.clear()
    stub.drop("/storage/", len(content) // 2)
    told: list[int] = []
    files = fetch_dataset(dataset, progress=lambda done, _: told.append(done))
    assert files["train"][0].read_bytes() == content
    there = len(content) // 2 // 10_000 * 10_000
    assert bodies(stub) == [None, f"bytes={there}-"]
    assert told == sorted(told)
    assert told[-1] == len(content)


def test_a_reset_connection_is_tried_again(stub: HubStub, monkeypatch: pytest.MonkeyPatch) -> None:
    stub.add_dataset("a/b", {"train.parquet": parquet()})
    dataset = describe_dataset("a/b")
    monkeypatch.setattr(client.time, "sleep", lambda _: None)
    download, resets = client.hf_hub_download, [1, 1]

    def reset(*arguments: Any, **options: Any) -> Any:
        if resets:
            resets.pop()
            raise httpx2.ReadError("[Errno 104] Connection reset by peer")
        return download(*arguments, **options)

    monkeypatch.setattr(client, "hf_hub_download", reset)
    assert fetch_dataset(dataset)["train"][0].read_bytes() == parquet()
    resets += [1, 1, 1]
    assert refusal(fetch_dataset, replace(dataset, revision=stub.add_dataset("a/b", {"train.parquet": b"1"}))) == (
        "The dataset a/b cannot be fetched because the connection to the Hub was lost: try again."
    )


def test_what_the_progress_raises_ends_the_download(stub: HubStub, own_cache: Path) -> None:
    stub.add_dataset("a/b", {"train.parquet": parquet()})

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_dataset(describe_dataset("a/b"), progress=stop)
    assert not list(own_cache.rglob("*.incomplete"))


# Access


def test_a_gated_data_set_needs_its_conditions_accepted(stub: HubStub) -> None:
    stub.add_dataset("ILSVRC/imagenet-1k", {"data/train.parquet": parquet()}, gated=True)
    stub.tokens = {TOKEN: {"ILSVRC/imagenet-1k"}, "hf_other0123456789": set()}
    page = f"{stub.url}/datasets/ILSVRC/imagenet-1k"
    assert refusal(describe_dataset, "ILSVRC/imagenet-1k") == (
        f"The dataset ILSVRC/imagenet-1k is gated: sign in and accept its conditions at {page}, then try again."
    )
    assert refusal(describe_dataset, "ILSVRC/imagenet-1k", token="hf_other0123456789") == (
        f"The dataset ILSVRC/imagenet-1k is gated: accept its conditions at {page}, then try again."
    )
    dataset = describe_dataset("ILSVRC/imagenet-1k", token=TOKEN)
    assert refusal(fetch_dataset, dataset).startswith("The dataset ILSVRC/imagenet-1k is gated: sign in")
    assert fetch_dataset(dataset, token=TOKEN)["train"][0].read_bytes() == parquet()
    assert {asked.token for asked in stub.asked("GET", "/storage/")} == {None}  # another host


def test_a_private_data_set_reads_like_a_missing_one(stub: HubStub) -> None:
    stub.add_dataset("me/mine", {"train.parquet": parquet()}, private=True)
    stub.tokens = {TOKEN: {"me/mine"}, "hf_other0123456789": set()}
    for repo_id in ("me/mine", "me/none"):
        assert refusal(describe_dataset, repo_id) == (
            f"The dataset {repo_id} does not exist on the Hub, or is private: check the spelling, or sign in with an "
            "account that can read it."
        )
        assert refusal(describe_dataset, repo_id, token="hf_other0123456789") == (
            f"The dataset {repo_id} does not exist on the Hub, or is private: check the spelling, or use an account "
            "that can read it."
        )
    assert describe_dataset("me/mine", token=TOKEN).files == {"train": ("train.parquet",)}


def test_an_expired_token_is_not_taken_for_a_missing_data_set(stub: HubStub) -> None:
    stub.add_dataset("a/b", {"train.parquet": parquet()})
    dataset = describe_dataset("a/b")
    for action, what in ((describe_dataset, "a/b"), (fetch_dataset, dataset)):
        assert refusal(action, what, token="hf_expired0123456789") == (
            "The dataset a/b cannot be fetched because the Hub rejected the token: sign in again."
        )


def test_in_a_space_visitors_do_not_read_with_the_owners_token(stub: HubStub, monkeypatch: pytest.MonkeyPatch) -> None:
    stub.add_dataset("me/mine", {"train.parquet": parquet()}, private=True)
    stub.tokens = {TOKEN: {"me/mine"}}
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert describe_dataset("me/mine").repo_id == "me/mine"  # at home, whoever runs the app is who asks
    monkeypatch.setenv("SYSTEM", "spaces")
    assert "or is private" in refusal(describe_dataset, "me/mine")
    assert describe_dataset("me/mine", token=TOKEN).repo_id == "me/mine"


def test_a_token_in_the_wrong_field_is_not_repeated(stub: HubStub) -> None:
    assert refusal(describe_dataset, "hf_abcdefghijklmnop").startswith("'hf_***' is not a valid name of a Hub dataset")
    assert refusal(describe_dataset, "a/hf_abcdefghijklmnop").startswith(
        "The dataset a/hf_*** does not exist on the Hub"
    )
    stub.add_dataset("a/b", {"train.parquet": parquet()})
    for field in ("config", "revision"):
        assert "'hf_***'" in refusal(describe_dataset, "a/b", **{field: "hf_abcdefghijklmnop"})


# Refusals


@pytest.mark.parametrize(
    "repo_id",
    [
        "",
        "/",
        "nobody-knows-it",
        "a/b/c",
        "../etc",
        "a//b",
        "a b/c",
        "-a/b",
        "a/b.git",
        "a/b--c",
        "a" * 97,
        "café/b",
        "a/b?x=1",
        "a/b\n",
    ],
)
def test_a_malformed_id_is_refused_before_any_request(stub: HubStub, repo_id: str) -> None:
    sentence = f"{repo_id!r} is not a valid name of a Hub dataset: use the form owner/name, such as uoft-cs/cifar10."
    assert refusal(describe_dataset, repo_id) == sentence
    assert refusal(dataset_files, repo_id, None, "0" * 40) == sentence
    assert stub.requests == []


def test_a_malformed_revision_is_refused_before_any_request(stub: HubStub) -> None:
    for revision in ("a b", "../main", "/main", "a..b", "main?x"):
        assert refusal(describe_dataset, "a/b", revision=revision) == (
            f"{revision!r} is not a valid revision: use a branch, a tag or a full commit hash of 40 digits."
        )
    assert refusal(dataset_files, "a/b", None, "main") == (
        "The revision 'main' of a/b is not pinned: use a full commit hash of 40 digits."
    )
    assert stub.requests == []


def test_a_missing_revision_is_named(stub: HubStub) -> None:
    stub.add_dataset("a/b", {"train.parquet": parquet()})
    assert refusal(describe_dataset, "a/b", revision="v2") == (
        f"The dataset a/b has no revision 'v2': leave it empty, or use one of {stub.url}/datasets/a/b/commits/main."
    )


@pytest.mark.parametrize(
    ("features", "reason"),
    [
        (
            {"text": {"_type": "Value"}, "label": {"_type": "ClassLabel", "names": ["a", "b"]}},
            "it has no image column",
        ),
        (
            {"img": {"_type": "Image"}, "label": {"_type": "Value", "dtype": "string"}},
            "it has no column of class labels (the column 'label' has 6 different values in 6 rows)",
        ),
    ],
)
def test_a_data_set_for_something_else_is_refused(stub: HubStub, features: dict[str, Any], reason: str) -> None:
    sentence = f"The dataset a/b is not an image classification dataset because {reason}: choose another one."
    stub.add_dataset("a/b", {"train.parquet": parquet(features=features)})
    assert refusal(describe_dataset, "a/b") == sentence
    stub.add_dataset("a/b", {"default/train/0000.parquet": parquet(features=features)}, CONVERTED)
    assert refusal(describe_dataset, "a/b") == sentence
    stub.add_dataset("a/b", {"train.csv": b"1"})
    assert refusal(describe_dataset, "a/b") == sentence


def test_a_data_set_without_parquet_or_conversion_is_refused(stub: HubStub) -> None:
    commit = stub.add_dataset("a/b", {"images.tar": b"tar", "test.parquet": parquet(), "validation.parquet": b""})
    assert refusal(describe_dataset, "a/b") == (
        "The dataset a/b has no parquet files with training images and the Hub has not converted it to parquet, "
        "as is the case for unusual or very large datasets: choose another one."
    )
    assert refusal(describe_dataset, "a/b", revision=commit) == (
        f"The dataset a/b has no parquet files with training images at the revision {commit!r}: choose another one."
    )


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"not parquet " * 10_000, parquet()[:-100] + b"\0" * 92 + b"    PAR1"]
)
def test_a_file_that_is_not_parquet_is_refused(stub: HubStub, content: bytes) -> None:
    stub.add_dataset("a/b", {"train.parquet": content})
    assert refusal(describe_dataset, "a/b") == (
        "The file train.parquet of a/b is not a parquet file: choose another one."
    )


def test_a_data_set_above_the_limit_is_refused_before_anything_of_it_is_read(
    stub: HubStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = parquet(400)
    stub.add_dataset("a/b", {"train.parquet": content, "extra.bin": b"0" * 2_000_000})
    monkeypatch.setenv(MAX_GB_VARIABLE, "0.001")
    assert refusal(describe_dataset, "a/b") == (
        f"The dataset a/b has {len(content) / 1e9:.3g} GB, above the limit of 0.001 GB: "
        "choose a smaller one, or set RESNET_SPACE_MAX_DATASET_GB."
    )
    assert bodies(stub) == []
    monkeypatch.setenv(MAX_GB_VARIABLE, "0.002")  # the file that is not read does not count
    assert describe_dataset("a/b").bytes == len(content)
    monkeypatch.setenv(MAX_GB_VARIABLE, "ten")
    assert refusal(describe_dataset, "a/b") == "RESNET_SPACE_MAX_DATASET_GB is 'ten', but it must be a number."
    monkeypatch.delenv(MAX_GB_VARIABLE)
    assert hub.max_bytes() == 10e9


# Outages. None of these waits: a failed first request is told at once.


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (
            429,
            "because the Hub received too many requests from here: wait a few minutes, or sign in for a higher limit.",
        ),
        (503, f"because the Hub is having problems (error 503): try again later, or {INSTEAD}."),
        (500, f"because the Hub is having problems (error 500): try again later, or {INSTEAD}."),
        (418, "because the Hub refused the request (error 418): try again later."),
    ],
)
def test_an_error_of_the_hub_is_told_at_once(stub: HubStub, status: int, sentence: str) -> None:
    stub.add_dataset("a/b", {"train.parquet": parquet()})
    dataset = describe_dataset("a/b")
    sentence = f"The dataset a/b cannot be fetched {sentence}"
    stub.fail("/resolve/", status)
    stub.requests.clear()
    assert refusal(describe_dataset, "a/b") == sentence
    assert refusal(fetch_dataset, dataset) == sentence
    stub.fail("/api/", status)
    assert refusal(describe_dataset, "a/b") == sentence
    assert len(stub.requests) == 4  # none was tried again


def test_a_forbidden_request_is_told(stub: HubStub) -> None:
    stub.fail("/api/", 403)
    assert refusal(describe_dataset, "a/b") == (
        "The dataset a/b cannot be read with this account: check the token's permissions."
    )


def test_without_a_network_the_sentence_says_what_still_works(
    stub: HubStub, cifar10: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.add_dataset("uoft-cs/cifar10", cifar10)
    dataset = describe_dataset("uoft-cs/cifar10")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    sentence = (
        "The dataset uoft-cs/cifar10 cannot be fetched because the Hub is unreachable: check your network, or "
        f"{INSTEAD}."
    )
    assert refusal(describe_dataset, "uoft-cs/cifar10") == sentence
    assert refusal(fetch_dataset, dataset) == sentence
    assert refusal(dataset_files, "uoft-cs/cifar10", None, dataset.revision) == sentence
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    sentence = (
        "The dataset uoft-cs/cifar10 cannot be fetched because HF_HUB_OFFLINE is set: unset it, or " + INSTEAD + "."
    )
    assert refusal(describe_dataset, "uoft-cs/cifar10") == sentence
    assert refusal(fetch_dataset, dataset) == sentence


def test_what_was_downloaded_can_be_trained_on_without_a_network(
    stub: HubStub, cifar10: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.add_dataset("uoft-cs/cifar10", cifar10)
    dataset = describe_dataset("uoft-cs/cifar10")
    files = fetch_dataset(dataset)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert dataset_files("uoft-cs/cifar10", "plain_text", dataset.revision) == files


def test_a_hub_that_does_not_answer_is_not_waited_for_long(stub: HubStub, monkeypatch: pytest.MonkeyPatch) -> None:
    stub.slow("/api/", 0.5, times=1)
    monkeypatch.setattr(hub, "TIMEOUT", 0.05)
    assert refusal(describe_dataset, "a/b") == (
        f"The dataset a/b cannot be fetched because the Hub did not answer in time: try again later, or {INSTEAD}."
    )


def test_an_answer_that_is_not_the_hubs_is_told(stub: HubStub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"{stub.url}/docs#")  # some page, as a hotel's network shows one
    assert refusal(describe_dataset, "a/b") == (
        f"The dataset a/b cannot be fetched because {stub.url}/docs# did not answer like the Hub: "
        "check HF_ENDPOINT and your network's proxy."
    )


def test_a_full_disk_is_told(stub: HubStub, monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    stub.add_dataset("a/b", {"train.parquet": parquet()})
    dataset = describe_dataset("a/b")

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(client, "hf_hub_download", full)
        assert refusal(fetch_dataset, dataset) == (
            "The dataset a/b does not fit on the disk: free some space, or set HF_HOME to a folder on a larger one."
        )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", "/proc/none")
    assert refusal(fetch_dataset, dataset).startswith("The dataset a/b cannot be stored in /proc/none (")


# Search


def test_without_a_query_the_well_known_data_sets_are_offered(stub: HubStub) -> None:
    assert search_datasets("")[:2] == ["uoft-cs/cifar10", "uoft-cs/cifar100"]
    assert search_datasets("  ", limit=3) == list(WELL_KNOWN[:3])
    assert all(client.is_repo_id(repo_id) for repo_id in WELL_KNOWN)
    assert stub.requests == []


def test_a_search_offers_data_sets_for_image_classification(stub: HubStub) -> None:
    tags = ("task_categories:image-classification",)
    stub.add_dataset("someone/flowers-text", {})
    stub.add_dataset("someone/flowers", {}, tags=tags)
    stub.add_dataset("other/Flowers102", {}, tags=tags)
    stub.add_dataset("me/flowers", {}, tags=tags, private=True)
    assert search_datasets("flowers") == ["someone/flowers", "other/Flowers102"]
    assert search_datasets("flowers", limit=1) == ["someone/flowers"]
    assert search_datasets("flowers-t") == ["someone/flowers-text"]  # rather than none
    assert search_datasets("nothing at all") == []


def test_a_search_without_the_hub_offers_what_is_well_known(stub: HubStub) -> None:
    stub.fail("/api/datasets", 503)
    assert search_datasets("CIFAR") == ["uoft-cs/cifar10", "uoft-cs/cifar100"]
    assert len(stub.requests) == 1
    assert refusal(search_datasets, "flowers").startswith(
        "The list of datasets cannot be fetched because the Hub is having"
    )


# Any schema: see also test_columns


IMAGE = {"_type": "Image"}
TEXT = {"_type": "Value", "dtype": "string"}
README = b"""---
license: mit
dataset_info:
- config_name: default
  features:
  - name: img
    dtype: image
  - name: label
    dtype:
      class_label:
        names:
          '0': cat
          '10': dog
          '2': cow
---
# Pets
"""


def names_of(*names: str) -> dict[str, Any]:
    return {"_type": "ClassLabel", "names": list(names)}


def untyped(content: bytes, **columns: Any) -> bytes:
    """The same file without the Hub's metadata, and with other columns."""
    table = pq.read_table(io.BytesIO(content)).replace_schema_metadata(None)
    for name, values in columns.items():
        table = table.drop_columns(name).append_column(name, pa.array(values))
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def decided(dataset: hub.HubDataset, what: str) -> str:
    return " ".join(decision.sentence for decision in dataset.decisions if decision.what == what)


def test_a_configuration_that_can_be_used_is_found_and_the_others_are_listed(stub: HubStub) -> None:
    captions = parquet(features={"img": IMAGE, "text": TEXT})
    files = {"bbox/train.parquet": captions, "classes/train.parquet": parquet(), "more/train.parquet": parquet()}
    stub.add_dataset("u/cfg", files)
    dataset = describe_dataset("u/cfg")
    assert (dataset.config, dataset.configs) == ("classes", ("bbox", "classes", "more"))
    assert decided(dataset, "configuration") == (
        "The configuration is 'classes', because bbox cannot be used; other configurations: bbox, more."
    )
    stub.requests.clear()
    assert describe_dataset("u/cfg", "more").config == "more"
    assert len(stub.requests) == 3  # it is described directly
    assert refusal(describe_dataset, "u/cfg", config="bbox").endswith(
        "choose another one; other configurations: classes, more."
    )
    fetch_dataset(dataset)
    assert known_dataset(DatasetRef("u/cfg", None, dataset.revision)) == dataset  # the one that one gets without asking
    stub.add_dataset("u/none", {"a/train.parquet": captions, "b/train.parquet": captions})
    assert refusal(describe_dataset, "u/none").startswith(
        "None of the configurations a, b of the dataset u/none can be used for image classification; the first: "
    )


def test_the_label_and_the_image_column_can_be_chosen_and_are_remembered(stub: HubStub) -> None:
    features = {"mask": IMAGE, "image": IMAGE, "age": names_of(*"123456"), "gender": names_of("f", "m")}
    stub.add_dataset("u/faces", {"data/train.parquet": parquet(12, features=features)})
    first = describe_dataset("u/faces")
    assert (first.image_column, first.label_column) == ("image", "age")
    assert (first.image_columns, first.label_columns) == (("image", "mask"), ("age", "gender"))
    assert decided(first, "label column") == "The labels come from the column 'age'; 'gender' could be used instead."
    assert decided(first, "image column") == "The images come from the column 'image'; 'mask' could be used instead."
    other = describe_dataset("u/faces", None, "gender", "mask")
    assert (other.image_column, other.label_column, other.classes) == ("mask", "gender", ("f", "m"))
    assert str(other.reference) == f"u/faces@{other.revision}#default?label=gender&image=mask"
    for dataset in (first, other):
        fetch_dataset(dataset)
    stub.requests.clear()
    for dataset in (first, other):
        opened = open_dataset(dataset.reference)
        assert opened.columns == dataset.columns
        labels = load_split(opened.files["train"], 8, opened.columns).labels.tolist()
        assert labels == [i % len(dataset.classes) for i in range(12)]
    assert stub.requests == []
    assert refusal(describe_dataset, "u/faces", label_column="race") == (
        "The dataset u/faces has no label column 'race': choose one of age, gender."
    )


@pytest.mark.parametrize("values", [["dog", "cat"] * 6, [3, 1] * 6, [True, False] * 6])
@pytest.mark.parametrize("typed", [True, False])
def test_labels_without_names_become_classes_before_a_download(stub: HubStub, values: list[Any], typed: bool) -> None:
    content = untyped(parquet(12, features={"img": IMAGE, "label": TEXT}), label=values)
    if typed:
        table = pq.read_table(io.BytesIO(content))
        features = {"img": IMAGE, "label": {"_type": "Value", "dtype": "x"}}
        file = io.BytesIO()
        pq.write_table(
            table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})}), file
        )
        content = file.getvalue()
    stub.add_dataset("a/b", {"train-00000-of-00002.parquet": content, "train-00001-of-00002.parquet": content})
    dataset = describe_dataset("a/b")
    assert dataset.classes == tuple(map(str, sorted(set(values))))
    assert "its 2 sorted values are the classes" in decided(dataset, "classes")
    files = fetch_dataset(dataset)
    assert open_dataset(dataset.reference).columns == dataset.columns
    data = load_split(files["train"], 8, dataset.columns)
    assert [dataset.classes[i] for i in data.labels.tolist()] == list(map(str, values)) * 2


def test_types_that_only_the_readme_has_are_read(stub: HubStub) -> None:
    content = untyped(parquet(6, features={"img": IMAGE, "label": names_of("a", "b", "c")}))
    stub.add_dataset("a/b", {"train.parquet": content, "README.md": README})
    dataset = describe_dataset("a/b")
    assert dataset.classes == ("cat", "cow", "dog")  # in the order of their numbers
    assert "the types come from the README" in decided(dataset, "classes")
    fetch_dataset(dataset)
    assert open_dataset(dataset.reference).columns.classes == ("cat", "cow", "dog")
    bomb = b"".join(b"%c: &%c [%s]\n" % (c + 1, c + 1, b", ".join([b"*%c" % c] * 9)) for c in range(97, 107))
    bomb = (
        b"---\na: &a [x]\n"
        + bomb
        + b"dataset_info: {features: [{name: label, dtype: {class_label: {names: *k}}}]}\n---\n"
    )
    for readme in (bomb, b"", b"---\n: [\n---\n", b"---\ndataset_info: 3\n---\n", b"no front matter", b"\xff\xfe"):
        stub.add_dataset("a/b", {"train.parquet": content, "README.md": readme})
        assert describe_dataset("a/b").classes == ("0", "1", "2")


@pytest.mark.parametrize(
    "path",
    [
        "test.parquet",
        "data/test-00000-of-00001.parquet",
        "data/full-00000-of-00001.parquet",
        "default/full/0000.parquet",
    ],
)
def test_a_data_set_with_one_part_is_split_here(stub: HubStub, path: str, tmp_path: Path) -> None:
    stub.add_dataset("a/b", {path: parquet(40)})
    dataset = describe_dataset("a/b")
    assert (dataset.files, dataset.config) == ({"train": (path,)}, "default")
    part = "test" if "test" in path else "full"
    assert decided(dataset, "splits").startswith(f"There is only one split, {part!r}: its images are divided")
    fetch_dataset(dataset)
    splits = load_splits(TrainConfig("a/b", "default", dataset.revision), 8)
    assert splits.test_name == "train"
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 40


@pytest.mark.parametrize(
    ("text", "repo_id"),
    [
        ("mnist", "ylecun/mnist"),
        ("CIFAR10", "uoft-cs/cifar10"),
        ("a/b/", "a/b"),
        (" a/b ", "a/b"),
        ("datasets/a/b", "a/b"),
        ("https://huggingface.co/datasets/a/b", "a/b"),
        ("https://huggingface.co/datasets/a/b/viewer/default/train?p=1", "a/b"),
        ("huggingface.co/datasets/a/b/tree/main#readme", "a/b"),
        ("hf.co/datasets/a/b", "a/b"),
    ],
)
def test_what_people_paste_is_an_id(stub: HubStub, text: str, repo_id: str) -> None:
    stub.add_dataset(repo_id, {"train.parquet": parquet()})
    assert describe_dataset(text).repo_id == repo_id
