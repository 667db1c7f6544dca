"""Image-classification data sets of the Hugging Face Hub: search, describe without downloading, download, find again.

Only parquet files are read, of the repository itself or else of the Hub's own conversion (a branch with commits of its
own). Everything is pinned to a commit. Covered are the layouts that `datasets` writes and that most repositories have;
a README that maps other file names to splits is not looked at.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import cached_assets_path, get_session, hf_hub_url, hf_raise_for_status
from huggingface_hub.errors import RevisionNotFoundError
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # documented, but not in its __all__

from resnet_space.data.sources import SPLIT_NAMES, SPLITS, DataError, classification_columns
from resnet_space.hub.client import (
    COMMIT,
    TIMEOUT,
    Progress,
    Wanted,
    cached_file,
    download_files,
    endpoint,
    hub_api,
    is_repo_id,
    is_revision,
    search_repositories,
    sent_token,
    translated_errors,
)
from resnet_space.tokens import masked

WELL_KNOWN = (
    "uoft-cs/cifar10",
    "uoft-cs/cifar100",
    "zh-plus/tiny-imagenet",
    "ylecun/mnist",
    "zalando-datasets/fashion_mnist",
    "ufldl-stanford/svhn",
    "ethz/food101",
    "timm/oxford-iiit-pet",
    "AI-Lab-Makerere/beans",
    "microsoft/cats_vs_dogs",
    "blanchon/EuroSAT_RGB",
)

MAX_GB = 10.0
MAX_GB_VARIABLE = "RESNET_SPACE_MAX_DATASET_GB"

CONVERTED = "refs/convert/parquet"  # the branch to which the Hub converts other formats

_SPLIT_FILE = re.compile(rf"({'|'.join(SPLIT_NAMES)})([-_.]\d+([-_.].*)?)?\.parquet")
_SPLIT_FOLDER = re.compile(rf"(partial-)?({'|'.join(SPLIT_NAMES)})")

_TAIL = 64 * 1024  # bytes; holds the footer of most parquet files


@dataclass(frozen=True)
class HubDataset:
    """A data set of the Hub at one commit, and what of it a training reads.

    Attributes:
        config: the one of `configs` that is described.
        ref: where the files are from: the revision that was asked for, "main" or the Hub's conversion.
        revision: the commit, 40 hexadecimal digits.
        files: the parquet files of each split ("train", "validation", "test"), in order.
        bytes: of all these files.
        partial: whether the Hub cut the data set off when it converted it, as it does after some gigabytes.
    """

    repo_id: str
    config: str
    configs: tuple[str, ...]
    ref: str
    revision: str
    files: dict[str, tuple[str, ...]]
    bytes: int
    classes: tuple[str, ...]
    image_column: str
    label_column: str
    partial: bool


def search_datasets(query: str, limit: int = 20) -> list[str]:
    """Ids of image-classification data sets, those downloaded most first; for an empty query the well-known ones.

    Without the Hub, the well-known ones that match.

    Raises:
        DataError: where the Hub is not available and none of them matches.
    """
    query = query.strip()
    known = [repo_id for repo_id in WELL_KNOWN if query.lower() in repo_id.lower()]
    if not query:
        return known[:limit]
    try:
        with translated_errors(Wanted("The list of data sets", "datasets"), DataError):
            # Many data sets do not say what they are for: rather than nothing, offer those of any task.
            tagged = search_repositories("datasets", query, limit, filter="task_categories:image-classification")
            return tagged or search_repositories("datasets", query, limit)
    except DataError:
        if known:
            return known[:limit]
        raise


def describe_dataset(
    repo_id: str,
    *,
    config: str | None = None,
    revision: str | None = None,
    token: str | None = None,
) -> HubDataset:
    """What a data set holds, from its file list and the end of one of its files; no image is downloaded.

    Args:
        repo_id: "owner/name".
        config: one of its configurations; by default "default", or else the first.
        revision: branch, tag or commit to read instead of main and the Hub's conversion.
        token: of who asks.

    Raises:
        DataError: if it cannot be used for image classification, or not be read.
    """
    repo_id = _checked_id(repo_id)
    if revision is not None and not is_revision(revision):
        raise DataError(masked(f"{revision!r} cannot be a revision: use a branch, a tag or a commit's 40 digits."))
    with translated_errors(_wanted(repo_id, revision), DataError):
        if revision is not None:
            dataset = _described(repo_id, revision, config, token)
        else:
            dataset = _described_somewhere(repo_id, config, token)
    return dataset


def _described_somewhere(repo_id: str, config: str | None, token: str | None) -> HubDataset:
    try:
        return _described(repo_id, "main", config, token)
    except _UnusableFilesError as error:
        unusable = error
    try:
        return _described(repo_id, CONVERTED, config, token)
    except RevisionNotFoundError:
        raise unusable from None  # no conversion: what is wrong with the repository's own files is the answer


class _UnusableFilesError(DataError):
    """Raised for files that are not usable as they are; the Hub's conversion of them may be."""


def _described(repo_id: str, ref: str, config: str | None, token: str | None) -> HubDataset:
    what = _wanted(repo_id).what
    info = hub_api(token).dataset_info(
        repo_id, revision=None if ref == "main" else ref, files_metadata=True, timeout=TIMEOUT
    )
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    found = _parquet_files(sizes)
    if not found:
        converted = "and the Hub has not converted it to any, as it does not for unusual or very large ones"
        raise _UnusableFilesError(
            f"{what} has no parquet files with training images "
            f"{converted if ref in ('main', CONVERTED) else f'at the revision {ref!r}'}: choose another."
        )
    if config is None:
        config = "default" if "default" in found else next(iter(found))
    elif config not in found:
        raise DataError(
            f"{what} has no configuration {masked(config)!r} with training images: choose one of {', '.join(found)}."
        )
    splits = found[config]
    total = sum(sizes[file] for files in splits.values() for file in files)
    if total > max_bytes():
        raise DataError(
            f"{what} has {total / 1e9:.3g} GB, but at most {max_bytes() / 1e9:g} GB are allowed: "
            f"choose a smaller one, or set {MAX_GB_VARIABLE}."
        )
    assert info.sha is not None  # the Hub always says which commit it answered for
    first = splits["train"][0]
    schema = _read_schema(repo_id, info.sha, first, sizes[first], token)
    try:
        columns = classification_columns(schema, what)
    except DataError as error:
        raise _UnusableFilesError(str(error)) from None
    return HubDataset(
        repo_id=repo_id,
        config=config,
        configs=tuple(found),
        ref=ref,
        revision=info.sha,
        files=splits,
        bytes=total,
        classes=columns.classes,
        image_column=columns.image,
        label_column=columns.label,
        partial=any("/partial-" in file for files in splits.values() for file in files),
    )


def _parquet_files(paths: Sequence[str] | Mapping[str, int]) -> dict[str, dict[str, tuple[str, ...]]]:
    """Config -> split -> files, of those configs that have training images.

    The layouts are `data/train-00000-of-00001.parquet`, the same in a folder named after the config, and
    `config/train/0000.parquet`.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for path in sorted(paths):
        *folders, file = path.split("/")
        if match := _SPLIT_FILE.fullmatch(file):
            split = match[1]
        elif folders and file.endswith(".parquet") and (match := _SPLIT_FOLDER.fullmatch(folders[-1])):
            split = match[2]
            folders.pop()
        else:
            continue
        if folders and folders[0] == "data":
            folders.pop(0)
        found.setdefault("/".join(folders) or "default", {}).setdefault(SPLIT_NAMES[split], []).append(path)
    return {
        config: {split: tuple(splits[split]) for split in SPLITS if split in splits}
        for config, splits in found.items()
        if "train" in splits
    }


def _read_schema(repo_id: str, revision: str, file: str, size: int, token: str | None) -> pa.Schema:
    """A parquet file's schema, from the last bytes of the file alone."""
    url = hf_hub_url(repo_id, file, repo_type="dataset", revision=revision, endpoint=endpoint())
    tail = _read_range(url, max(size - _TAIL, 0), size, token) if size else b""
    footer = int.from_bytes(tail[-8:-4], "little") + 12  # with its length and the magic words at both ends
    if len(tail) < footer <= size:
        tail = _read_range(url, size - footer, size, token)
    try:
        return pq.read_schema(pa.BufferReader(tail))
    except (pa.ArrowException, OSError):
        raise _UnusableFilesError(f"The file {file} of {repo_id} is not a parquet file: choose another.") from None


def _read_range(url: str, start: int, stop: int, token: str | None) -> bytes:
    headers = build_hf_headers(
        token=sent_token(token), headers={"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
    )
    # The whole file would come from a server that knows no ranges: it is streamed, so that it can be declined.
    with get_session().stream("GET", url, headers=headers, timeout=TIMEOUT) as response:
        hf_raise_for_status(response)
        if response.status_code != 206:
            raise DataError(f"The server {endpoint()} cannot send a part of a file: check the network's proxy.")
        return bytes(response.read())


def fetch_dataset(
    dataset: HubDataset, *, token: str | None = None, progress: Progress | None = None
) -> dict[str, list[Path]]:
    """The files of each split, in the client's cache; downloaded where they are not there yet.

    Args:
        dataset: as `describe_dataset` gave it.
        token: of who asks.
        progress: called with (bytes there, bytes in all); what it raises ends the download.

    Raises:
        DataError: if a file cannot be had.
    """
    files = [file for files in dataset.files.values() for file in files]
    with translated_errors(_wanted(dataset.repo_id, dataset.revision), DataError):
        paths = download_files(
            "dataset", dataset.repo_id, dataset.revision, files, total=dataset.bytes, token=token, progress=progress
        )
        _remember(dataset)
    where = dict(zip(files, paths, strict=True))
    return {split: [where[file] for file in files] for split, files in dataset.files.items()}


def dataset_files(
    repo_id: str,
    config: str | None,
    revision: str | None,
    *,
    local_only: bool = False,
    token: str | None = None,
    progress: Progress | None = None,
) -> dict[str, list[Path]]:
    """The files of each split, by what a run's configuration keeps: without a request if they are in the cache.

    Args:
        repo_id: "owner/name".
        config: as in `HubDataset`; None is its default.
        revision: a commit; None is whatever the Hub has now, which always asks it.
        local_only: never ask the Hub.
        token: of who asks, where something is missing.
        progress: as in `fetch_dataset`.

    Raises:
        DataError: if a file is missing and cannot be had.
    """
    repo_id = _checked_id(repo_id)
    if revision is None and not local_only:
        now = describe_dataset(repo_id, config=config, token=token)
        return fetch_dataset(now, token=token, progress=progress)
    if revision is None or not COMMIT.fullmatch(revision):
        raise DataError(masked(f"The revision {revision!r} of {repo_id} is not pinned: use a commit's 40 digits."))
    dataset = recorded_dataset(repo_id, config, revision)
    if local_only:
        missing = dataset is None or any(
            cached_file("dataset", repo_id, revision, file) is None
            for files in dataset.files.values()
            for file in files
        )
        if missing:
            raise DataError(f"{_wanted(repo_id).what} is not on this machine: download it first.")
    if dataset is None:
        dataset = describe_dataset(repo_id, config=config, revision=revision, token=token)
    return fetch_dataset(dataset, token=token, progress=progress)


def recorded_dataset(repo_id: str, config: str | None, revision: str) -> HubDataset | None:
    """A data set that was downloaded before, as it was described then, without a request; None if there is none."""
    try:
        data = json.loads(_record(repo_id, revision, config).read_text(encoding="utf-8"))
        return HubDataset(
            **{name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
            | {"files": {split: tuple(files) for split, files in data["files"].items()}}
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):  # absent, or written by another version
        return None


def _remember(dataset: HubDataset) -> None:
    """Keep the list of files: what is in the cache does not say whether it is all there is."""
    content = json.dumps(asdict(dataset), indent=2, ensure_ascii=False)
    # Under its name, and as the default if it is what one gets without asking for a config.
    is_default = dataset.config == ("default" if "default" in dataset.configs else dataset.configs[0])
    for config in (dataset.config, None) if is_default else (dataset.config,):
        path = _record(dataset.repo_id, dataset.revision, config)
        beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        beside.write_text(content, encoding="utf-8")
        beside.replace(path)


def _record(repo_id: str, revision: str, config: str | None) -> Path:
    folder = cached_assets_path("resnet_space", namespace=repo_id, subfolder=revision)
    return Path(folder) / ("default.json" if config is None else f"config-{quote(config, safe='')}.json")


def max_bytes() -> float:
    """The most that a data set's files may have."""
    try:
        return float(os.environ.get(MAX_GB_VARIABLE) or MAX_GB) * 1e9
    except ValueError:
        raise DataError(f"{MAX_GB_VARIABLE} is {os.environ[MAX_GB_VARIABLE]!r}, but must be a number.") from None


def _checked_id(repo_id: str) -> str:
    if not is_repo_id(repo_id) or "/" not in repo_id:
        raise DataError(
            masked(f"{repo_id!r} cannot be a data set of the Hub: write owner/name, such as uoft-cs/cifar10.")
        )
    return repo_id


def _wanted(repo_id: str, revision: str | None = None) -> Wanted:
    return Wanted(
        f"The data set {repo_id}", f"datasets/{repo_id}", revision, "choose a data set that is on this machine"
    )
