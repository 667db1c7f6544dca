"""Corrected labels: pictures that a model got wrong, kept as a dataset of the visitor's own, to train on."""

import threading
from dataclasses import dataclass
from html import escape
from pathlib import Path

import gradio as gr

from resnet_space.common.errors import UserError
from resnet_space.data.mistakes import MISTAKES, add_mistake, classes_of, mistakes_file
from resnet_space.data.reference import DatasetRef
from resnet_space.data.sources import DATASET_OWNER, dataset_folders
from resnet_space.serve import visitors
from resnet_space.serve.context import AppContext
from resnet_space.serve.handlers import costly
from resnet_space.ui.downloads import copied
from resnet_space.ui.events import PRIVATE, Payload, Update
from resnet_space.ui.finetune.more_data import free_dataset_name
from resnet_space.ui.html import place_html
from resnet_space.ui.predict.wanted import Wanted
from resnet_space.ui.reports import counted
from resnet_space.ui.subject import Shared

_writing = threading.Lock()  # one after the other: each reads what is there and writes it anew


@dataclass(frozen=True)
class Mistakes:
    """`label` is the correct label, `report` says what was saved; `dataset` changes to the dataset's reference, and
    `use` leads to it.
    """

    label: gr.Dropdown
    report: gr.HTML
    dataset: gr.State
    use: gr.Button


def own_set(context: AppContext, key: str | None, classes: tuple[str, ...]) -> Path | None:
    """The visitor's dataset of corrections in these classes, if there is one."""
    for folder in dataset_folders().values():
        is_theirs = not context.public or visitors.owns(folder / DATASET_OWNER, key)
        is_one = folder.parent == context.datasets.folder and folder.name.startswith(MISTAKES)
        if is_one and is_theirs and classes_of(folder) == classes:
            return folder
    return None


def keep_mistake(
    context: AppContext, wanted: Wanted, payload: Payload, run: str, label: str | None, key: str | None
) -> tuple[Path, int]:
    """(the dataset's folder, how many pictures it has now). Raises UserError."""
    key = context.writer(key)
    shown = wanted.kept(context, payload)
    if not label:
        raise UserError("Choose the correct label first.")
    classes = context.library.open(run).config.model.classes
    with _writing:
        folder = own_set(context, key, classes)
        if folder is None:
            folder = context.datasets.folder / free_dataset_name(MISTAKES, secret=context.public)
        count = add_mistake(folder, classes, shown.content, shown.name, str(label))
        if key:
            context.claim(folder / DATASET_OWNER, key)
    context.datasets.forget_summary(DatasetRef(folder.name))
    return folder, count


def build_mistakes(shared: Shared, wanted: gr.Textbox, picture: gr.Image, run: gr.Textbox) -> Mistakes:
    """Place the row and wire its events; `wanted` says which picture is shown, `run` is the one that answered."""
    context, visitor = shared.context, shared.visitor
    dataset = gr.State(None)
    with gr.Column(visible=not context.readonly, elem_id="mistakes"):
        with gr.Row():
            label = gr.Dropdown([], label="Wrong? Correct the label", value=None, min_width=160, scale=2)
            keep = gr.Button("Save the correction", size="sm", min_width=150)
        report = place_html()
        with gr.Row(visible=False) as actions:
            use = gr.Button("Train on the corrections", size="sm", min_width=180)
            export = gr.DownloadButton("Download as Parquet", size="sm", min_width=150)

    @costly
    def on_keep(text: str, payload: Payload, name: str, correct: str | None, key: str | None) -> Update:
        folder, count = keep_mistake(context, Wanted.parse(text).found(context), payload, name, correct, key)
        words = (
            f'<p class="note" role="status">Saved with the label <b>{escape(str(correct))}</b> in the dataset '
            f"<b>{escape(folder.name)}</b> ({counted(count, 'picture')}).</p>"
        )
        file = copied(mistakes_file(folder), f"{folder.name}.parquet")
        return {dataset: folder.name, report: words, actions: gr.update(visible=True), export: file}

    views = [dataset, report, actions, export]
    keep.click(on_keep, [wanted, picture, run, label, visitor], views, show_progress="minimal", **PRIVATE)
    return Mistakes(label, report, dataset, use)
