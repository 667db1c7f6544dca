"""All runs in a table that is sorted and filtered, and what can be done with one: show, rename, delete, export."""

import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import gradio as gr

from resnet_space.common.errors import UserError
from resnet_space.common.faults import system_words
from resnet_space.runs import CONFIG, WEIGHTS, last_metric
from resnet_space.serve.context import AppContext
from resnet_space.serve.handlers import costly
from resnet_space.serve.storage import retention_words
from resnet_space.ui.downloads import own_folder
from resnet_space.ui.events import EACH, PRIVATE, PROGRESS, QUIET
from resnet_space.ui.finetune.live import MAX_SHOWN
from resnet_space.ui.finetune.status import start_of

COLUMNS: dict[str, Literal["str", "number"]] = {
    "run": "str",
    "state": "str",
    "test %": "number",
    "validation %": "number",
    "epochs": "number",
    "minutes": "number",
    "start": "str",
    "strategy": "str",
    "data": "str",
    "batch": "number",
    "ended": "str",
}

STAGE_WORDS = {  # of an export
    "load": "Loading PyTorch and the model",
    "translate": "Translating the model",
    "check": "Checking the file against PyTorch",
}


@dataclass(frozen=True)
class RunList:
    """`changed` changes when a run was renamed or deleted, or is to be shown or hidden."""

    table: gr.Dataframe
    changed: gr.State


def run_rows(context: AppContext, key: str | None) -> list[list[Any]]:
    """A row for every run that the visitor sees, the newest first: `COLUMNS`."""
    rows = []
    for run in context.runs(key):
        metrics = context.library.shown_metrics(run)
        test, end = last_metric(metrics, "test"), last_metric(metrics, "end")
        best = max((m["validation_accuracy"] for m in metrics if m["event"] == "epoch"), default=None)
        training = run.config.training
        rows.append(
            [
                run.name,
                context.trainer.status(run).state,
                None if test is None else round(100 * test["accuracy"], 1),
                None if best is None else round(100 * best, 1),
                training.total_epochs,
                None if test is None else round(test["seconds"] / 60, 1),
                start_of(run),
                training.strategy,
                training.dataset,
                training.batch_size,
                f"{datetime.fromtimestamp(end['time']):%Y-%m-%d %H:%M}" if end and "time" in end else "",
            ]
        )
    return rows


def build_run_list(context: AppContext, visitor: gr.BrowserState, shown: gr.Dropdown) -> RunList:
    """Place the table and the actions, and wire their events; `shown` has the names of the runs in the plots."""
    chosen, changed = gr.State(None), gr.State(0)
    with gr.Accordion("All runs: sort, filter, show, rename, delete, export", open=False):
        table = gr.Dataframe(
            run_rows(context, None),
            headers=list(COLUMNS),
            datatype=list(COLUMNS.values()),
            interactive=False,
            show_search="filter",
            max_height=320,
            label="Click a run to choose it",
            elem_id="run-list",
        )
        kept = retention_words(context.limits)
        gr.HTML(f'<p class="note">{kept}</p>', visible=bool(kept), apply_default_css=False)
        with gr.Column(visible=False) as actions:
            title = gr.Markdown(elem_classes="told")
            with gr.Row():
                show = gr.Button("Show or hide in the plots", size="sm", min_width=150)
                export = gr.Button("Export", size="sm", min_width=110)
                rename = gr.Button("Rename", size="sm", min_width=110, visible=not context.readonly)
                delete = gr.Button("Delete", size="sm", variant="stop", min_width=110, visible=not context.readonly)
            with gr.Row(visible=False) as renaming:
                new_name = gr.Textbox(label="New name", info="press Enter")
            with gr.Row(visible=False) as confirming:
                sure = gr.Button("Delete it for good", size="sm", variant="stop")
                keep = gr.Button("Keep it", size="sm")
            with gr.Column(visible=False) as exported:
                files = gr.Files(label="Weights as safetensors and ONNX, and the configuration", interactive=False)
                words = gr.Markdown()
                command = gr.Code(label="The command that repeats its training", language="shell", interactive=False)

    questions = [renaming, confirming]  # one at a time

    def ask(question: gr.Row | None) -> dict[Any, Any]:
        return {row: gr.update(visible=row is question) for row in questions}

    def choose(name: str) -> dict[Any, Any]:
        return {chosen: name, title: f"**{name}**"}

    def show_runs(names: list[str], count: int) -> dict[Any, Any]:
        return {shown: gr.update(choices=names, value=names), changed: count + 1}

    def on_select(event: gr.SelectData) -> dict[Any, Any]:
        hidden = {exported: gr.update(visible=False)} | ask(None)
        return choose(event.row_value[0]) | {actions: gr.update(visible=True)} | hidden

    def on_show(name: str, shown_names: list[str], count: int) -> dict[Any, Any]:
        context.library.open(name)
        others = [n for n in shown_names if n != name]
        return show_runs(others if name in shown_names else [*shown_names, name][-MAX_SHOWN:], count)

    def on_rename(name: str, new: str, shown_names: list[str], key: str, count: int) -> dict[Any, Any]:
        run = context.rename_run(name, key, (new or "").strip())
        names = [run.name if n == name else n for n in shown_names]
        return choose(run.name) | show_runs(names, count) | ask(None)

    def on_delete(name: str, shown_names: list[str], key: str, count: int) -> dict[Any, Any]:
        context.delete_run(name, key)
        gone = {chosen: None, actions: gr.update(visible=False)} | ask(None)
        return gone | show_runs([n for n in shown_names if n != name], count)

    @costly
    def on_export(name: str, progress: gr.Progress = PROGRESS) -> dict[Any, Any]:
        from resnet_space.hub.export import STAGES, export_onnx

        def report(stage: str) -> None:
            progress((STAGES.index(stage) + 1) / (len(STAGES) + 1), desc=STAGE_WORDS[stage])

        progress(0.0, desc="Starting a process of its own")
        run = context.library.open(name)
        try:
            # With the ONNX file, which is as large as the weights.
            with own_folder(2 * (run.path / WEIGHTS).stat().st_size if run.has_weights else 0) as folder:
                with context.slots.taken("exports"):
                    onnx = export_onnx(run, folder / f"{name}.onnx", report)
                copies = [shutil.copyfile(run.path / file, folder / f"{name}-{file}") for file in (WEIGHTS, CONFIG)]
        except UserError as error:  # perhaps the last line of the process that writes it
            raise UserError(system_words(error) or str(error)) from None
        by = f"by at most {onnx.largest_difference:.0e} of the largest" if onnx.largest_difference else "by nothing"
        # Where the app's own folders are is nobody else's business.
        path = Path("checkpoints", name) if context.public else run.path
        return {
            exported: gr.update(visible=True),
            files: [str(path) for path in (*copies, onnx.path)],
            words: f"On random images the ONNX file's logits differ from PyTorch's {by}.",
            command: f"python -m resnet_space.train {path}-again --like {path}",
        }

    table.select(on_select, None, [chosen, actions, title, *questions, exported], **QUIET | EACH)
    show.click(on_show, [chosen, shown, changed], [shown, changed], **QUIET)
    rename.click(lambda: ask(renaming), None, questions, **QUIET)
    delete.click(lambda: ask(confirming), None, questions, **QUIET)
    keep.click(lambda: ask(None), None, questions, **QUIET)
    renamed = [chosen, title, shown, *questions, changed]
    new_name.submit(on_rename, [chosen, new_name, shown, visitor, changed], renamed, **QUIET)
    deleted = [chosen, actions, shown, *questions, changed]
    sure.click(on_delete, [chosen, shown, visitor, changed], deleted, **QUIET)
    views = [exported, files, words, command]
    export.click(on_export, chosen, views, concurrency_limit=1, show_progress_on=title, **PRIVATE)
    return RunList(table, changed)
