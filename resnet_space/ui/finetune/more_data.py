"""Data sets beyond the bundled one: from the Hub, from a visitor's archive, from a folder of this machine."""

import itertools
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from resnet_space.data.archives import ImportReport, import_archive, import_folder
from resnet_space.data.hub import describe_dataset, fetch_dataset, search_datasets
from resnet_space.data.sources import DATASET_OWNER, DatasetRef, data_folder, dataset_folders
from resnet_space.serve import temporary, visitors
from resnet_space.serve.handlers import costly
from resnet_space.serve.kept import IN_USE
from resnet_space.serve.refusals import refusal
from resnet_space.serve.uploads import uploaded_file
from resnet_space.ui.workshop import HUB_DATASETS, Workshop

ARCHIVES = [".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz"]
SHOWN_SKIPPED = 20
LAYOUT = "A zip or tar of one folder per class, with or without train / val / test folders around or inside them."


@dataclass(frozen=True)
class MoreData:
    """`added` changes to the reference of a data set that was just brought here."""

    added: gr.State


def free_dataset_name(wanted: str, *, secret: bool = False) -> str:
    """A name for a new data set's folder: letters, digits, '.', '_' and '-', not taken yet.

    A secret one ends in what nobody can guess: whoever knows it can learn from it.
    """
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", re.sub(r"(\.(zip|tar|gz|tgz|bz2|xz))+$", "", wanted, flags=re.I))
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
    warnings = "".join(f'<p class="caution">{escape(warning)}</p>' for warning in report.warnings)
    skipped = ""
    if report.skipped_count:
        rows = "".join(f"<li>{escape(s.name)}: {escape(s.reason)}</li>" for s in report.skipped[:SHOWN_SKIPPED])
        rest = report.skipped_count - min(len(report.skipped), SHOWN_SKIPPED)
        more = f"<li>and {rest:,} more</li>" if rest else ""
        skipped = (
            f"<details><summary>{report.skipped_count:,} files were left out</summary><ul>{rows}{more}</ul></details>"
        )
    return (
        f'<div class="report"><p><b>{escape(name)}</b> is ready: {total:,} images of {len(report.classes)} classes '
        f"({words}).</p>{warnings}{skipped}</div>"
    )


def build_more_data(workshop: Workshop, visitor: gr.BrowserState) -> MoreData:
    """Place the panel's components and wire its events."""
    added = gr.State(None)
    with gr.Accordion("Other images: your own, or the Hub's", open=False):
        with gr.Tabs():
            with gr.Tab("Upload"):
                upload = gr.File(label=LAYOUT, file_types=ARCHIVES, file_count="single", height=130, elem_id="archive")
            with gr.Tab("Hugging Face Hub"):
                query = gr.Textbox(label="Search", placeholder="food, cifar100, x-ray ...", info="press Enter")
                found = gr.Dropdown(
                    search_datasets(""),
                    label="Data set",
                    allow_custom_value=True,
                    info="or its id: owner/name",
                    value=None,
                )
                config = gr.Dropdown([], label="Configuration", visible=False)
                load = gr.Button("Download", variant="secondary")
            if not workshop.public:
                with gr.Tab("Folder"):
                    folder = gr.Textbox(
                        label="Folder on this machine", placeholder="/home/me/pictures", info="press Enter"
                    )
        report = gr.HTML("", elem_classes="told", apply_default_css=False)

    def bring(wanted: str, key: str | None, bringing: Callable[[Path], ImportReport]) -> tuple[str, str]:
        workshop.require_writable()
        key = visitors.require_key(key, public=workshop.public)
        name = free_dataset_name(wanted, secret=workshop.public)
        result = bringing(workshop.data / name)
        if key:
            workshop.claim(workshop.data / name / DATASET_OWNER, key)
        return name, report_html(name, result)

    @costly
    def on_upload(
        payload: dict[str, Any] | None,
        key: str | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Any:
        workshop.require_writable()
        if not payload or not payload.get("path"):
            return gr.skip(), ""
        path = uploaded_file(payload)
        told = _told(progress, "Reading the archive")
        name = str(payload.get("orig_name") or path.name)
        limits = workshop.storage.import_limits(path)
        brought = bring(name, key, lambda target: import_archive(path, target, limits=limits, progress=told))
        temporary.used(path, IN_USE)  # no longer
        return brought

    @costly
    def on_folder(
        text: str,
        key: str | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Any:
        workshop.require_writable()
        if workshop.public:  # hidden is not protected
            raise refusal("A folder can be read only by the app's owner.")
        path = Path((text or "").strip()).expanduser()
        if not (text or "").strip() or not path.is_dir():
            raise refusal(f"There is no folder {text!r} on this machine.")
        told = _told(progress, "Reading the folder")
        return bring(path.name, key, lambda target: import_folder(path, target, progress=told))

    @costly
    def on_search(text: str) -> Any:
        ids = search_datasets(text or "")
        if not ids:
            raise refusal(f"The Hub knows no data set for {text!r}: try other words.")
        return gr.update(choices=ids, value=ids[0])

    def on_chosen(repo_id: str | None) -> Any:
        if not repo_id:
            return gr.update(visible=False)
        dataset = describe_dataset(repo_id.strip())
        return gr.update(choices=list(dataset.configs), value=dataset.config, visible=len(dataset.configs) > 1)

    @costly
    def on_load(
        repo_id: str | None,
        chosen: str | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Any:
        workshop.require_writable()
        if not repo_id:
            raise refusal("Choose a data set first, or type its id.")
        known = describe_dataset(repo_id.strip())
        dataset = known if chosen not in known.configs else describe_dataset(repo_id.strip(), config=chosen)
        megabytes = dataset.bytes / 1e6
        ref = DatasetRef(dataset.repo_id, dataset.config, dataset.revision)
        workshop.storage.room_for_download(ref, dataset.bytes)
        fetch_dataset(dataset, progress=_told(progress, f"Downloading {megabytes:,.0f} MB"))
        workshop.remember(ref)
        cut = " The Hub converted only its beginning." if dataset.partial else ""
        said = (
            f'<div class="report"><p><b>{escape(dataset.repo_id)}</b> is here: {len(dataset.classes)} classes, '
            f"{megabytes:,.0f} MB, commit {dataset.revision[:7]}.{cut}</p></div>"
        )
        return str(ref), said

    # Not preprocessed: the page's choices are older than what a search finds.
    private: Any = {"api_visibility": "private", "preprocess": False}
    shown: Any = {"show_progress": "full", "show_progress_on": report, "concurrency_limit": 2}
    upload.upload(on_upload, [upload, visitor], [added, report], **private, **shown)
    query.submit(on_search, query, found, **private)
    found.change(on_chosen, found, config, show_progress="minimal", **private)
    load.click(on_load, [found, config], [added, report], **private, **shown)
    if not workshop.public:
        folder.submit(on_folder, [folder, visitor], [added, report], **private, **shown)
    return MoreData(added)


def _told(progress: gr.Progress, description: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(done / max(total, 1), desc=description)
