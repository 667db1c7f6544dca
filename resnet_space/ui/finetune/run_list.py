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
from resnet_space.serve.handlers import costly
from resnet_space.serve.refusals import refusal
from resnet_space.serve.storage import kept_words
from resnet_space.serve.workshop import Workshop
from resnet_space.ui.downloads import own_folder
from resnet_space.ui.finetune.status import start_of
from resnet_space.ui.live import MAX_SHOWN

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


@dataclass(frozen=True)
class RunList:
    """`changed` changes when a run was renamed or deleted, or is to be shown or hidden."""

    table: gr.Dataframe
    changed: gr.State


def run_rows(workshop: Workshop, key: str | None) -> list[list[Any]]:
    """A row for every run that the visitor sees, the newest first: `COLUMNS`."""
    rows = []
    for run in workshop.runs(key):
        metrics = workshop.library.shown_metrics(run)
        test, end = last_metric(metrics, "test"), last_metric(metrics, "end")
        best = max((m["validation_accuracy"] for m in metrics if m["event"] == "epoch"), default=None)
        training = run.config.training
        rows.append(
            [
                run.name,
                workshop.trainer.status(run).state,
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


def build_run_list(workshop: Workshop, visitor: gr.BrowserState, shown: gr.Dropdown) -> RunList:
    """Place the table and the actions, and wire their events; `shown` has the names of the runs in the plots."""
    chosen, changed = gr.State(None), gr.State(0)
    with gr.Accordion("All runs: sort, filter, show, rename, delete, export", open=False):
        table = gr.Dataframe(
            run_rows(workshop, None),
            headers=list(COLUMNS),
            datatype=list(COLUMNS.values()),
            interactive=False,
            show_search="filter",
            max_height=320,
            label="Click a run to choose it",
            elem_id="run-list",
        )
        kept = kept_words(workshop.limits)
        gr.HTML(f'<p class="note">{kept}</p>', visible=bool(kept), apply_default_css=False)
        with gr.Column(visible=False) as actions:
            title = gr.Markdown(elem_classes="told")
            with gr.Row():
                show = gr.Button("Show or hide in the plots", size="sm", min_width=150)
                export = gr.Button("Export", size="sm", min_width=110)
                rename = gr.Button("Rename", size="sm", min_width=110, visible=not workshop.readonly)
                delete = gr.Button("Delete", size="sm", variant="stop", min_width=110, visible=not workshop.readonly)
            with gr.Row(visible=False) as renaming:
                new_name = gr.Textbox(label="New name", info="press Enter")
            with gr.Row(visible=False) as confirming:
                sure = gr.Button("Delete it for good", size="sm", variant="stop")
                keep = gr.Button("Keep it", size="sm")
            with gr.Column(visible=False) as exported:
                files = gr.Files(label="Weights as safetensors and ONNX, and the configuration", interactive=False)
                words = gr.Markdown()
                command = gr.Code(label="The command that repeats its training", language="shell", interactive=False)

    hidden = (gr.update(visible=False),) * 3

    def on_select(event: gr.SelectData) -> Any:
        name = event.row_value[0]
        return name, gr.update(visible=True), f"**{name}**", *hidden

    def on_show(name: str, shown_names: list[str], count: int) -> Any:
        try:
            workshop.library.open(name)
        except UserError as error:
            raise refusal(error) from None
        names = [n for n in shown_names if n != name] if name in shown_names else [*shown_names, name][-MAX_SHOWN:]
        return gr.update(choices=names, value=names), count + 1

    def on_rename(name: str, wanted: str, shown_names: list[str], key: str, count: int) -> Any:
        try:
            run = workshop.rename_run(name, key, (wanted or "").strip())
        except UserError as error:
            raise refusal(error) from None
        names = [run.name if n == name else n for n in shown_names]
        return run.name, f"**{run.name}**", gr.update(choices=names, value=names), gr.update(visible=False), count + 1

    def on_delete(name: str, shown_names: list[str], key: str, count: int) -> Any:
        try:
            workshop.delete_run(name, key)
        except UserError as error:
            raise refusal(error) from None
        names = [n for n in shown_names if n != name]
        closed = gr.update(visible=False)
        return None, closed, gr.update(choices=names, value=names), closed, count + 1

    @costly
    def on_export(name: str, progress: gr.Progress = gr.Progress()) -> Any:  # noqa: B008
        from resnet_space.hub.export import STAGES, export_onnx

        def tell(stage: str) -> None:
            progress((STAGES.index(stage) + 1) / (len(STAGES) + 1), desc=stage)

        progress(0.0, desc="Starting a process of its own")
        try:
            run = workshop.library.open(name)
            # With the ONNX file, which is as large as the weights.
            with own_folder(2 * (run.path / WEIGHTS).stat().st_size if run.has_weights else 0) as folder:
                with workshop.slots.taken("exports"):
                    onnx = export_onnx(run, folder / f"{name}.onnx", tell)
                copies = [shutil.copyfile(run.path / file, folder / f"{name}-{file}") for file in (WEIGHTS, CONFIG)]
        except UserError as error:  # perhaps the last line of the process that writes it
            raise refusal(system_words(error) or error) from None
        by = f"by at most {onnx.largest_difference:.0e} of the largest" if onnx.largest_difference else "by nothing"
        said = f"On random images the ONNX file's logits differ from PyTorch's {by}."
        # Where the app's own folders are is nobody else's business.
        place = Path("checkpoints", name) if workshop.public else run.path
        line = f"python -m resnet_space.train {place}-again --like {place}"
        return gr.update(visible=True), [str(path) for path in (*copies, onnx.path)], said, line

    private: Any = {"api_visibility": "private", "preprocess": False}
    quiet: Any = private | {"show_progress": "hidden"}
    table.select(
        on_select, None, [chosen, actions, title, renaming, confirming, exported], trigger_mode="multiple", **quiet
    )
    show.click(on_show, [chosen, shown, changed], [shown, changed], **quiet)
    open_, shut = gr.update(visible=True), gr.update(visible=False)  # one question at a time
    rename.click(lambda: (open_, shut), None, [renaming, confirming], **quiet)
    new_name.submit(
        on_rename, [chosen, new_name, shown, visitor, changed], [chosen, title, shown, renaming, changed], **quiet
    )
    delete.click(lambda: (shut, open_), None, [renaming, confirming], **quiet)
    keep.click(lambda: gr.update(visible=False), None, confirming, **quiet)
    sure.click(on_delete, [chosen, shown, visitor, changed], [chosen, actions, shown, confirming, changed], **quiet)
    export.click(
        on_export, chosen, [exported, files, words, command], concurrency_limit=1, show_progress_on=title, **private
    )
    return RunList(table, changed)
