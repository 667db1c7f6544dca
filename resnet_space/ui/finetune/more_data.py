"""The choice of data: the built-in dataset, a visitor's archive, the Hub, or a folder of this machine."""

import itertools
import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr

from resnet_space.common.errors import UserError
from resnet_space.data.archives import Decision, ImportReport, import_archive, import_folder
from resnet_space.data.hub import HubDataset, describe_dataset, fetch_dataset, search_datasets
from resnet_space.data.sources import DATASET_OWNER, data_folder, dataset_folders
from resnet_space.serve import temporary
from resnet_space.serve.context import AppContext
from resnet_space.serve.datasets import HUB_DATASETS
from resnet_space.serve.handlers import costly
from resnet_space.serve.inventory import IN_USE
from resnet_space.serve.uploads import uploaded_file
from resnet_space.ui.events import PRIVATE, PROGRESS, Payload, Update, reporter
from resnet_space.ui.html import cautions_html, place_html, place_note
from resnet_space.ui.reports import left_out_html
from resnet_space.ui.subject import Shared

T = TypeVar("T")

ARCHIVES = [".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz"]
UPLOAD, FOLDER = "upload", "folder"  # where a dataset came from
NO_OPTIONS: Mapping[str, Any] = {}  # of an import
DATASET = "cifar10-mini"
LAYOUT = (
    "Your archive: a zip or tar with one folder per class, with or without train / val / test folders, or pictures "
    "with a table of labels (metadata.csv, train.csv)."
)
CHOICES = {"label_column": "label column", "image_column": "file name column", "folders": "repeated folders"}


def free_dataset_name(title: str, *, secret: bool = False) -> str:
    """A name for a new dataset's folder: letters, digits, '.', '_' and '-', not taken yet.

    A secret one ends in what nobody can guess: whoever knows it can learn from it.
    """
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", re.sub(r"(\.(zip|tar|gz|tgz|bz2|xz))+$", "", title, flags=re.I))
    plain = plain.strip("-._")[:60] or "images"
    if secret:
        return f"{plain}-{secrets.token_hex(5)}"
    bundled, folder = dataset_folders(), data_folder()

    def taken(name: str) -> bool:
        return name in bundled or name == HUB_DATASETS or (folder is not None and (folder / name).exists())

    names = itertools.chain([plain], (f"{plain}-{i}" for i in itertools.count(2)))
    return next(name for name in names if not taken(name))


def report_html(name: str, report: ImportReport) -> str:
    """What came of an archive: how many images of which classes, what was left out and why."""
    total = sum(count for counts in report.counts.values() for count in counts.values())
    words = ", ".join(f"{sum(counts.values()):,} {split}" for split, counts in report.counts.items())
    left_out = left_out_html(report.skipped, report.skipped_count)
    return (
        f'<div class="report"><p><b>{escape(name)}</b> is ready: {total:,} images in {len(report.classes)} classes '
        f"({words}).</p>{cautions_html(*report.warnings)}{decisions_html(report.decisions)}{left_out}</div>"
    )


def decisions_html(decisions: Sequence[Decision]) -> str:
    """What was decided about a dataset, in one fold."""
    if not decisions:
        return ""
    rows = "".join(f"<li>{escape(decision.sentence)}</li>" for decision in decisions)
    return f"<details><summary>How it was read ({len(decisions)})</summary><ul>{rows}</ul></details>"


def other_choices(report: ImportReport) -> list[tuple[str, str]]:
    """(words, value) of what can be decided otherwise; the value is one parameter of `import_archive` as JSON."""
    return [
        (f"{CHOICES.get(name, name)}: {value}", json.dumps({name: value}))
        for name, values in report.choices.items()
        for value in values
    ]


def chosen_otherwise(value: str | None) -> Mapping[str, Any]:
    """The parameter of `import_archive` that a value of `other_choices` stands for. Raises UserError."""
    chosen: Any
    try:
        chosen = json.loads(value or "{}")
    except ValueError:
        chosen = None
    if isinstance(chosen, dict) and set(chosen) <= set(CHOICES) and all(isinstance(v, str) for v in chosen.values()):
        return chosen
    raise UserError(f"{value!r} is not an option: choose one from the list.")


def described(repo_id: str, config: str | None, label: str | None = None, image: str | None = None) -> HubDataset:
    """A dataset of the Hub with what was chosen of it; only what is not its own choice is kept in its reference.

    Raises:
        UserError: as `describe_dataset`.
    """
    try:
        dataset = describe_dataset(repo_id, config)
    except UserError:
        known = describe_dataset(repo_id)
        if config is None or config in known.configs:
            raise
        dataset = known  # the page's choice was an earlier dataset's
    label = None if label == dataset.label_column else label
    image = None if image == dataset.image_column else image
    return describe_dataset(repo_id, dataset.config, label, image) if label or image else dataset


def hub_html(dataset: HubDataset) -> str:
    """What was downloaded, and how it is read."""
    cut = " The Hub converted only the first part of it." if dataset.partial else ""
    return (
        f'<div class="report"><p><b>{escape(dataset.repo_id)}</b> is here: {len(dataset.classes)} classes, '
        f"{dataset.bytes / 1e6:,.0f} MB, commit {dataset.revision[:7]}.{cut}</p>"
        f"{decisions_html(dataset.decisions)}</div>"
    )


def bring(context: AppContext, title: str, key: str | None, bringing: Callable[[Path], T]) -> tuple[str, T]:
    """Make a visitor's dataset under a free name like the one that is wanted. Raises UserError."""
    key = context.writer(key)
    name = free_dataset_name(title, secret=context.public)
    report = bringing(context.datasets.folder / name)
    if key:
        context.claim(context.datasets.folder / name / DATASET_OWNER, key)
    return name, report


def bring_archive(
    context: AppContext, path: Path, title: str, key: str | None, **options: Any
) -> tuple[str, ImportReport]:
    """The same of an uploaded archive; the options are those of `import_archive`."""
    limits = context.storage.import_limits(path)
    made = bring(context, title, key, lambda to: import_archive(path, to, limits=limits, **options))
    temporary.used(path, IN_USE)  # no longer
    return made


def download(
    context: AppContext,
    repo_id: str,
    config: str | None,
    label: str | None,
    image: str | None,
    progress: Callable[[int, int, float], None],
) -> HubDataset:
    """Fetch a dataset of the Hub and offer it from now on; progress is told (done, all, MB). Raises UserError."""
    dataset = described(repo_id, config, label, image)
    megabytes = dataset.bytes / 1e6
    context.storage.room_for_download(dataset.reference, dataset.bytes)
    fetch_dataset(dataset, progress=lambda done, total: progress(done, total, megabytes))
    context.datasets.remember(dataset.reference)
    return dataset


@dataclass(frozen=True)
class Data:
    """The components that choose a dataset; `added` changes to the reference of one that was just brought here."""

    dataset: gr.Dropdown
    added: gr.State
    built_in: gr.Button
    view: gr.HTML
    teach: gr.Button


def build_data(shared: Shared) -> Data:
    """Place the two cards and what is behind them, and wire its events."""
    context, visitor = shared.context, shared.visitor
    added = gr.State(None)
    with gr.Row(elem_id="cards", equal_height=True):
        built_in = gr.Button("Try 2,000 built-in photos", elem_id="built-in", min_width=130)
        upload = gr.File(
            label="Use my photos",
            file_types=ARCHIVES,
            file_count="single",
            height=104,
            elem_id="archive",
            min_width=160,
        )
    with gr.Row(elem_id="ways"):
        place_note("Zip or tar, one folder per class.", min_width=10)
        teach = gr.Button("No archive? Teach by showing", size="sm", elem_classes="link", min_width=10)
    report = place_html(elem_classes="told")
    otherwise = gr.Dropdown([], label="Read it differently", info="as another dataset", visible=False)
    view = place_html(elem_id="data-view")
    with gr.Accordion("Other data: on this machine, from the Hugging Face Hub", open=False, elem_id="other-data"):
        place_note(LAYOUT)
        dataset = gr.Dropdown(
            context.datasets.choices(), value=DATASET, label="Dataset", info="cifar10-mini is built in"
        )
        with gr.Tabs():
            with gr.Tab("Hugging Face Hub"):
                query = gr.Textbox(label="Search", placeholder="food, cifar100, x-ray ...", info="press Enter")
                found = gr.Dropdown(
                    search_datasets(""),
                    label="Dataset on the Hub",
                    allow_custom_value=True,
                    info="or its id: owner/name",
                    value=None,
                )
                config = gr.Dropdown([], label="Configuration", visible=False)
                label = gr.Dropdown([], label="Label column", visible=False)
                image = gr.Dropdown([], label="Image column", visible=False)
                load = gr.Button("Download", variant="secondary")
            if not context.public:
                with gr.Tab("Folder"):
                    folder = gr.Textbox(
                        label="Folder on this machine", placeholder="/home/me/pictures", info="press Enter"
                    )
        source = gr.State("")  # by which of the ways it was brought

    def shown(kind: str, brought: tuple[str, ImportReport]) -> Update:
        name, result = brought
        choices = other_choices(result)
        return {
            added: name,
            report: report_html(name, result),
            otherwise: gr.update(choices=choices, value=None, visible=bool(choices)),
            source: kind,
        }

    @costly
    def on_upload(
        payload: Payload, key: str | None, progress: gr.Progress = PROGRESS, options: Mapping[str, Any] = NO_OPTIONS
    ) -> Update:
        context.require_writable()
        if not payload or not payload.get("path"):
            return {report: "", otherwise: gr.update(visible=False), source: ""}
        path = uploaded_file(payload)
        name = str(payload.get("orig_name") or path.name)
        reading = reporter(progress, "Reading the archive")
        return shown(UPLOAD, bring_archive(context, path, name, key, progress=reading, **options))

    @costly
    def on_folder(
        text: str, key: str | None, progress: gr.Progress = PROGRESS, options: Mapping[str, Any] = NO_OPTIONS
    ) -> Update:
        context.require_writable()
        path = machine_folder(context, text)
        if path is None:
            raise UserError("Enter the path of a folder on this machine first.")
        reading = reporter(progress, "Reading the folder")
        return shown(
            FOLDER, bring(context, path.name, key, lambda to: import_folder(path, to, progress=reading, **options))
        )

    @costly
    def on_otherwise(
        value: str | None, kind: str, key: str | None, payload: Payload, *text: str, progress: gr.Progress = PROGRESS
    ) -> Update:
        options = chosen_otherwise(value)
        if kind == FOLDER and text:
            return on_folder(text[0], key, progress, options)
        return on_upload(payload, key, progress, options)

    @costly
    def on_search(text: str) -> Any:
        ids = search_datasets(text or "")
        if not ids:
            raise UserError(f"The Hub has no dataset for {text!r}: try other words.")
        return gr.update(choices=ids, value=ids[0])

    def on_chosen(repo_id: str | None, chosen: str | None = None) -> Update:
        if not repo_id:
            return dict.fromkeys(columns, gr.update(visible=False))
        dataset = described(repo_id.strip(), chosen)

        def offered(choices: Sequence[str], value: str) -> Any:
            return gr.update(choices=list(choices), value=value, visible=len(choices) > 1)

        return {
            config: offered(dataset.configs, dataset.config),
            label: offered(dataset.label_columns, dataset.label_column),
            image: offered(dataset.image_columns, dataset.image_column),
        }

    @costly
    def on_load(
        repo_id: str | None, chosen: str | None, label: str | None, image: str | None, progress: gr.Progress = PROGRESS
    ) -> Update:
        context.require_writable()
        if not repo_id:
            raise UserError("Choose a dataset first, or type its id: owner/name.")

        def downloading(done: int, total: int, megabytes: float) -> None:
            progress(done / max(total, 1), desc=f"Downloading {megabytes:,.0f} MB")

        dataset = download(context, repo_id.strip(), chosen or None, label or None, image or None, downloading)
        return {added: str(dataset.reference), report: hub_html(dataset)}

    columns = [config, label, image]
    waiting: Any = PRIVATE | {"show_progress": "full", "show_progress_on": report, "concurrency_limit": 2}
    views = [added, report, otherwise, source]
    upload.upload(on_upload, [upload, visitor], views, **waiting)
    query.submit(on_search, query, found, **PRIVATE)
    found.change(on_chosen, found, columns, show_progress="minimal", **PRIVATE)
    config.input(on_chosen, [found, config], columns, show_progress="minimal", **PRIVATE)
    load.click(on_load, [found, *columns], [added, report], **waiting)
    sources: list[Any] = [otherwise, source, visitor, upload]
    if not context.public:
        folder.submit(on_folder, [folder, visitor], views, **waiting)  # pyrefly: ignore[unbound-name]
        sources.append(folder)
    otherwise.input(on_otherwise, sources, views, **waiting)
    return Data(dataset, added, built_in, view, teach)


def machine_folder(context: AppContext, text: str | None) -> Path | None:
    """The folder of this machine that a visitor named; None for an empty text. Raises UserError."""
    named = (text or "").strip()
    if named and context.public:  # hidden is not protected
        raise UserError("Only the owner of the app can read a folder.")
    path = Path(named).expanduser().resolve()  # which has a name
    if named and not path.is_dir():
        raise UserError(f"There is no folder {named!r} on this machine.")
    return path if named else None
