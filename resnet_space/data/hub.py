"""Image-classification datasets of the Hugging Face Hub: search, describe without downloading, download, find again.

Only parquet files are read, of the repository itself or else of the Hub's own conversion (a branch with commits of its
own). Everything is pinned to a commit. Covered are the layouts that `datasets` writes and that most repositories have;
a README that maps other file names to splits is not looked at. Of a README only the columns' types are read, where the
files have none.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import cached_assets_path, hf_hub_url
from huggingface_hub.errors import RevisionNotFoundError

from resnet_space.common.errors import UserError
from resnet_space.common.hub_client import (
    COMMIT,
    TIMEOUT,
    HubRequest,
    Progress,
    download_files,
    endpoint,
    hub_api,
    is_repo_id,
    is_revision,
    search_repositories,
    translated_errors,
)
from resnet_space.common.records import read_record, write_record
from resnet_space.common.tokens import masked
from resnet_space.data.archives.report import Decision
from resnet_space.data.columns import (
    Columns,
    Features,
    classification_columns,
    features_of,
    readable,
)
from resnet_space.data.reference import DatasetRef
from resnet_space.data.remote import RemoteFile, parquet_files, read_range, readme_features

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

_ADDRESS = re.compile(r"(https?://)?([a-z0-9.-]+\.)?(huggingface\.co|hf\.co)/", re.I)

_TAIL = 64 * 1024  # bytes; holds the footer of most parquet files
_MOST_TRIED = 12  # configurations, each with two requests
_MOST_LABEL_BYTES = 64_000_000  # of a column that is searched before a download
_MOST_LABEL_ROWS = 10_000_000
_MOST_LABEL_FILES = 200
_README_BYTES = 1_000_000


@dataclass(frozen=True)
class HubDataset:
    """A Hub dataset at one commit, with the files and columns that a training reads.

    Attributes:
        config: the one of `configs` that is described.
        ref: origin of the files: the requested revision, "main" or the Hub's conversion.
        revision: the commit, 40 hexadecimal digits.
        files: the parquet files of each split ("train", "validation", "test"), in order.
        bytes: of all these files.
        partial: whether the Hub truncated the dataset when it converted it, as it does after some gigabytes.
        values: what the label column holds for each class; None where it numbers them.
        image_columns: all that could be taken.
        label_columns: all that could be taken.
        asked_label: the requested label column, if any.
        asked_image: the requested image column, if any.
        is_default: whether it is the default configuration.
        decisions: the automatic decisions about it.
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
    values: tuple[str | int, ...] | None = field(default=None, compare=False)
    image_columns: tuple[str, ...] = field(default=(), compare=False)
    label_columns: tuple[str, ...] = field(default=(), compare=False)
    asked_label: str | None = field(default=None, compare=False)
    asked_image: str | None = field(default=None, compare=False)
    is_default: bool = field(default=False, compare=False)
    decisions: list[Decision] = field(default_factory=list, compare=False)

    @property
    def columns(self) -> Columns:
        """As the rest of the code reads its files."""
        return Columns(
            self.image_column, self.label_column, self.classes, self.values, self.image_columns, self.label_columns
        )

    @property
    def reference(self) -> DatasetRef:
        """The reference stored in a run's configuration."""
        return DatasetRef(self.repo_id, self.config, self.revision, self.asked_label, self.asked_image)


def search_datasets(query: str, limit: int = 20) -> list[str]:
    """Ids of image-classification datasets, those downloaded most first; for an empty query the well-known ones.

    Without the Hub, the well-known ones that match.

    Raises:
        UserError: where the Hub is not available and none of them matches.
    """
    query = query.strip()
    known = [repo_id for repo_id in WELL_KNOWN if query.lower() in repo_id.lower()]
    if not query:
        return known[:limit]
    try:
        with translated_errors(HubRequest("The list of datasets", "datasets"), UserError):
            # Many datasets do not declare a task: rather than nothing, offer those of any task.
            tagged = search_repositories("datasets", query, limit, filter="task_categories:image-classification")
            return tagged or search_repositories("datasets", query, limit)
    except UserError:
        if known:
            return known[:limit]
        raise


def describe_dataset(
    repo_id: str,
    config: str | None = None,
    label_column: str | None = None,
    image_column: str | None = None,
    *,
    revision: str | None = None,
    token: str | None = None,
) -> HubDataset:
    """Describe a dataset from its file list and the end of one of its files; no image is downloaded.

    Args:
        repo_id: "owner/name", the address of its page, or just the name of a well-known one.
        config: one of its configurations; by default "default", or else the first that can be used.
        label_column: the column of the labels; by default as `classification_columns` chooses.
        image_column: the column of the images, likewise.
        revision: branch, tag or commit to read instead of main and the Hub's conversion.
        token: of the user.

    Raises:
        UserError: if it cannot be read or used for image classification.
    """
    repo_id = _checked_id(clean_id(str(repo_id)))
    if revision is not None and not is_revision(revision):
        raise UserError(
            masked(f"{revision!r} is not a valid revision: use a branch, a tag or a full commit hash of 40 digits.")
        )
    asked = DatasetRef(repo_id, config or None, revision, label_column or None, image_column or None)
    with translated_errors(_request(repo_id, revision), UserError):
        if revision is not None:
            return _described(asked, revision, token)
        try:
            return _described(asked, "main", token)
        except _UnusableFilesError as error:
            unusable = error
        try:
            return _described(asked, CONVERTED, token)
        except RevisionNotFoundError:
            raise unusable from None  # no conversion: report the problem with the repository's own files


def clean_id(text: str) -> str:
    """The id that an address, a trailing slash or a well-known name stands for; anything else as it is."""
    cleaned = text.strip(" ")
    if found := _ADDRESS.match(cleaned):
        cleaned = re.split(r"[?#]", cleaned[found.end() :])[0]
        cleaned = "/".join(cleaned.removeprefix("datasets/").split("/")[:2])
    cleaned = cleaned.removeprefix("datasets/") if cleaned.count("/") > 1 else cleaned
    cleaned = cleaned.rstrip("/") if cleaned.strip("/") else cleaned
    known = [repo_id for repo_id in WELL_KNOWN if repo_id.split("/")[1].lower() == cleaned.lower()]
    return known[0] if known else cleaned


class _UnusableFilesError(UserError):
    """The files are not usable as they are, but the Hub's conversion of them may be."""


def _described(asked: DatasetRef, ref: str, token: str | None) -> HubDataset:
    repo_id, config = asked.name, asked.config
    what = _request(repo_id).what
    info = hub_api(token).dataset_info(
        repo_id, revision=None if ref == "main" else ref, files_metadata=True, timeout=TIMEOUT
    )
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    found, only = parquet_files(sizes)
    if not found:
        converted = "and the Hub has not converted it to parquet, as is the case for unusual or very large datasets"
        raise _UnusableFilesError(
            f"{what} has no parquet files with training images "
            f"{converted if ref in ('main', CONVERTED) else f'at the revision {ref!r}'}: choose another one."
        )
    if config is not None and config not in found:
        raise UserError(
            f"{what} has no configuration {masked(config)!r} with training images: choose one of {', '.join(found)}."
        )
    assert info.sha is not None  # the Hub always says which commit it answered for
    nominal = "default" if "default" in found else next(iter(found))
    order = [config] if config is not None else [nominal, *(name for name in found if name != nominal)][:_MOST_TRIED]
    unusable: dict[str, UserError] = {}
    for name in order:
        splits = found[name]
        total = sum(sizes[file] for files in splits.values() for file in files)
        if total > max_bytes():
            raise UserError(
                f"{what} has {total / 1e9:.3g} GB, above the limit of {max_bytes() / 1e9:g} GB: "
                f"choose a smaller one, or set {MAX_GB_VARIABLE}."
            )
        several = f"The configuration {name!r} of the dataset {repo_id}" if len(found) > 1 else what
        try:
            columns, from_readme = _columns(asked, info.sha, name, splits["train"], sizes, token, several)
        except _UnusableFilesError as error:
            unusable[name] = error
            continue
        return HubDataset(
            repo_id=repo_id,
            config=name,
            configs=tuple(found),
            ref=ref,
            revision=info.sha,
            files=splits,
            bytes=total,
            classes=columns.classes,
            image_column=columns.image,
            label_column=columns.label,
            partial=any("/partial-" in file for files in splits.values() for file in files),
            values=columns.values,
            image_columns=columns.images,
            label_columns=columns.labels,
            asked_label=asked.label,
            asked_image=asked.image,
            is_default=config is None or config == nominal,
            decisions=_decisions(columns, name, tuple(found), tuple(unusable), only.get(name), from_readme),
        )
    first = str(unusable[order[0]])
    others = [name for name in found if name not in unusable]
    if config is not None and others:
        first = f"{first.removesuffix('.')}; other configurations: {', '.join(others)}."
    elif len(unusable) > 1:
        first = (
            f"None of the configurations {', '.join(unusable)} of the dataset {repo_id} can be used for image "
            f"classification; the first: {first}"
        )
    raise _UnusableFilesError(first)


def _decisions(
    columns: Columns,
    config: str,
    configs: Sequence[str],
    unusable: Sequence[str],
    only: str | None,
    from_readme: bool,
) -> list[Decision]:
    """The decisions to show about how a dataset is read."""
    made = []
    if len(configs) > 1:
        why = f", because {', '.join(unusable)} cannot be used" if unusable else ""
        others = ", ".join(name for name in configs if name != config)
        made.append(Decision("configuration", f"The configuration is {config!r}{why}; other configurations: {others}."))
    if only is not None:
        said = f"There is only one split, {only!r}: its images are divided into training and test images."
        made.append(Decision("splits", said))

    def others_than(name: str, there: Sequence[str]) -> str:
        others = ", ".join(repr(other) for other in there if other != name)
        return f"; {others} could be used instead" if others else ""

    labels, images = others_than(columns.label, columns.labels), others_than(columns.image, columns.images)
    made.append(Decision("label column", f"The labels come from the column {columns.label!r}{labels}."))
    made.append(Decision("image column", f"The images come from the column {columns.image!r}{images}."))
    if columns.values is not None:
        kind = "texts" if isinstance(columns.values[0], str) else "numbers"
        said = (
            f"The column {columns.label!r} contains {kind} without class names: its {len(columns.values)} sorted "
            "values are "
        )
        made.append(Decision("classes", said + "the classes."))
    if from_readme:
        made.append(Decision("classes", "The files do not declare their column types: the types come from the README."))
    return made


def _columns(
    asked: DatasetRef,
    revision: str,
    config: str,
    files: Sequence[str],
    sizes: Mapping[str, int],
    token: str | None,
    what: str,
) -> tuple[Columns, bool]:
    """The columns of a configuration, and whether their types are the README's. Raises _UnusableFilesError."""
    schema = _read_schema(asked.name, revision, files[0], sizes[files[0]], token)
    features: Features = {}
    if not features_of(schema) and 0 < sizes.get("README.md", 0) <= _README_BYTES:
        url = hf_hub_url(asked.name, "README.md", repo_type="dataset", revision=revision, endpoint=endpoint())
        features = readme_features(read_range(url, 0, sizes["README.md"], token, whole=True), config)

    def read(name: str) -> pa.ChunkedArray:
        if len(files) > _MOST_LABEL_FILES:
            raise UserError(f"is spread over {len(files):,} files, too many to search for its values")
        chunks, total, rows = list[pa.Array](), 0, 0
        for file in files:
            url = hf_hub_url(asked.name, file, repo_type="dataset", revision=revision, endpoint=endpoint())
            with pq.ParquetFile(RemoteFile(url, sizes[file], token)) as parquet:
                groups = [parquet.metadata.row_group(i) for i in range(parquet.metadata.num_row_groups)]
                total += sum(
                    group.column(i).total_compressed_size
                    for group in groups
                    for i in range(group.num_columns)
                    if group.column(i).path_in_schema.split(".")[0] == name
                )
                rows += parquet.metadata.num_rows
                if total > _MOST_LABEL_BYTES or rows > _MOST_LABEL_ROWS:  # a row may take less than a bit
                    raise UserError(f"has {total / 1e6:,.0f} MB and {rows:,} rows, too many to search for its values")
                chunks += parquet.read(columns=[name], use_threads=False)[name].chunks
        return pa.chunked_array(chunks)

    try:
        with readable(f"The files of {asked.name}"):
            return classification_columns(
                schema, what, label=asked.label, image=asked.image, features=features, read=read
            ), bool(features)
    except UserError as error:
        raise _UnusableFilesError(masked(str(error))) from None


def _read_schema(repo_id: str, revision: str, file: str, size: int, token: str | None) -> pa.Schema:
    """A parquet file's schema, from the last bytes of the file alone."""
    url = hf_hub_url(repo_id, file, repo_type="dataset", revision=revision, endpoint=endpoint())
    tail = read_range(url, max(size - _TAIL, 0), size, token) if size else b""
    footer = int.from_bytes(tail[-8:-4], "little") + 12  # with its length and the magic words at both ends
    if len(tail) < footer <= size:
        tail = read_range(url, size - footer, size, token)
    try:
        with readable(file):
            return pq.read_schema(pa.BufferReader(tail))
    except UserError:
        raise _UnusableFilesError(f"The file {file} of {repo_id} is not a parquet file: choose another one.") from None


def fetch_dataset(
    dataset: HubDataset, *, token: str | None = None, progress: Progress | None = None
) -> dict[str, list[Path]]:
    """The files of each split, in the client's cache; downloaded where they are not there yet.

    Args:
        dataset: as `describe_dataset` gave it.
        token: of the user.
        progress: called with (bytes received, total bytes); an exception from it ends the download.

    Raises:
        UserError: if a file cannot be downloaded.
    """
    files = [file for files in dataset.files.values() for file in files]
    with translated_errors(_request(dataset.repo_id, dataset.revision), UserError):
        paths = download_files(
            "dataset", dataset.repo_id, dataset.revision, files, total=dataset.bytes, token=token, progress=progress
        )
        _remember(dataset)
    where = dict(zip(files, paths, strict=True))
    return {split: [where[file] for file in files] for split, files in dataset.files.items()}


def known_dataset(ref: DatasetRef) -> HubDataset:
    """A dataset as it was described when it was downloaded, without a request, or as it is described now.

    Raises:
        UserError: as `describe_dataset`, and for a revision that is no commit.
    """
    repo_id, revision = _checked_id(ref.name), ref.revision
    if revision is not None and not COMMIT.fullmatch(revision):
        raise UserError(
            masked(f"The revision {revision!r} of {repo_id} is not pinned: use a full commit hash of 40 digits.")
        )
    recorded = _recorded(ref) if revision else None
    return recorded or describe_dataset(repo_id, ref.config, ref.label, ref.image, revision=revision)


def _recorded(ref: DatasetRef) -> HubDataset | None:
    try:
        return read_record(HubDataset, _record(ref))
    except (OSError, ValueError):  # absent, or written by another version
        return None


def _remember(dataset: HubDataset) -> None:
    """Store the list of files: the cache alone does not show whether it is complete."""
    # Under its name, and as the default if it is what one gets without asking for a config.
    for config in (dataset.config, None) if dataset.is_default else (dataset.config,):
        write_record(dataset, _record(replace(dataset.reference, config=config)))


def _record(ref: DatasetRef) -> Path:
    folder = cached_assets_path("resnet_space", namespace=ref.name, subfolder=str(ref.revision))
    name = "default" if ref.config is None else f"config-{quote(ref.config, safe='')}"
    chosen = [
        f"{what}-{quote(column, safe='')}" for what, column in (("label", ref.label), ("image", ref.image)) if column
    ]
    return Path(folder) / f"{'_'.join((name, *chosen))}.json"


def max_bytes() -> float:
    """Maximum size of a dataset's files in bytes."""
    try:
        return float(os.environ.get(MAX_GB_VARIABLE) or MAX_GB) * 1e9
    except ValueError:
        raise UserError(f"{MAX_GB_VARIABLE} is {os.environ[MAX_GB_VARIABLE]!r}, but it must be a number.") from None


def _checked_id(repo_id: str) -> str:
    if not is_repo_id(repo_id) or "/" not in repo_id:
        raise UserError(
            masked(
                f"{repo_id!r} is not a valid name of a Hub dataset: use the form owner/name, such as uoft-cs/cifar10."
            )
        )
    return repo_id


def _request(repo_id: str, revision: str | None = None) -> HubRequest:
    return HubRequest(f"The dataset {repo_id}", f"datasets/{repo_id}", revision, "choose a dataset on this machine")
