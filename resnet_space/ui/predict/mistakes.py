"""What the model got wrong, told by who looks at it: a data set of the visitor's own, from which a run can learn."""

import threading
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from resnet_space.common.errors import UserError
from resnet_space.data.mistakes import MISTAKES, add_mistake, classes_of, mistakes_file
from resnet_space.data.reference import DatasetRef
from resnet_space.data.sources import DATASET_OWNER, dataset_folders
from resnet_space.serve import visitors
from resnet_space.serve.context import AppContext
from resnet_space.serve.handlers import costly
from resnet_space.serve.uploads import uploaded_file
from resnet_space.ui.downloads import copied
from resnet_space.ui.events import PRIVATE
from resnet_space.ui.finetune.more_data import free_dataset_name
from resnet_space.ui.pictures import NO_PICTURE
from resnet_space.ui.reports import counted

_writing = threading.Lock()  # one after the other: each reads what is there and writes it anew


@dataclass(frozen=True)
class Mistakes:
    """`label` is what the picture really shows, `report` what was kept; `dataset` changes to the data set's reference;
    `use` leads to it.
    """

    label: gr.Dropdown
    report: gr.HTML
    dataset: gr.State
    use: gr.Button


def own_set(context: AppContext, key: str | None, classes: tuple[str, ...]) -> Path | None:
    """The visitor's data set of mistakes in these classes, if there is one."""
    for folder in dataset_folders().values():
        is_theirs = not context.public or visitors.owns(folder / DATASET_OWNER, key)
        is_one = folder.parent == context.datasets.folder and folder.name.startswith(MISTAKES)
        if is_one and is_theirs and classes_of(folder) == classes:
            return folder
    return None


def keep_mistake(
    context: AppContext, payload: dict[str, Any] | None, run: str, label: str | None, key: str | None
) -> Any:
    """(the data set's folder, how many pictures it has now). Raises UserError."""
    context.require_writable()
    key = visitors.require_key(key, public=context.public)
    if not payload or not payload.get("path"):
        raise UserError(NO_PICTURE)
    if not label:
        raise UserError("Choose first what the picture really shows.")
    path = uploaded_file(payload)
    classes = context.library.open(run).config.model.classes
    with _writing:
        folder = own_set(context, key, classes)
        if folder is None:
            folder = context.datasets.folder / free_dataset_name(MISTAKES, secret=context.public)
        name = str(payload.get("orig_name") or path.name)
        count = add_mistake(folder, classes, path.read_bytes(), name, str(label))
        if key:
            context.claim(folder / DATASET_OWNER, key)
    context.datasets.forget_summary(DatasetRef(folder.name))
    return folder, count


def build_mistakes(context: AppContext, visitor: gr.BrowserState, picture: gr.Image, run: gr.Textbox) -> Mistakes:
    """Place the row and wire its events; `run` is the one that answered."""
    dataset = gr.State(None)
    with gr.Column(visible=not context.readonly, elem_id="mistakes"):
        with gr.Row():
            label = gr.Dropdown([], label="Wrong? It is really a", value=None, min_width=160, scale=2)
            keep = gr.Button("Keep as a mistake", size="sm", min_width=150)
        report = gr.HTML("", apply_default_css=False)
        with gr.Row(visible=False) as actions:
            use = gr.Button("Learn from them in Fine-tune", size="sm", min_width=180)
            export = gr.DownloadButton("Export as parquet", size="sm", min_width=150)

    @costly
    def on_keep(payload: dict[str, Any] | None, name: str, is_really: str | None, key: str | None) -> dict[Any, Any]:
        folder, count = keep_mistake(context, payload, name, is_really, key)
        words = (
            f'<p class="note" role="status">Kept as a <b>{escape(str(is_really))}</b> in the data set '
            f"<b>{escape(folder.name)}</b>, which has {counted(count, 'picture')} now.</p>"
        )
        file = copied(mistakes_file(folder), f"{folder.name}.parquet")
        return {dataset: folder.name, report: words, actions: gr.update(visible=True), export: file}

    views = [dataset, report, actions, export]
    keep.click(on_keep, [picture, run, label, visitor], views, show_progress="minimal", **PRIVATE)
    return Mistakes(label, report, dataset, use)
