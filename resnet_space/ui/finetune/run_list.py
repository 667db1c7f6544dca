"""All runs in a table that is sorted and filtered: a click shows one, which can then be renamed and deleted."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import gradio as gr
from gradio.events import Dependency

from resnet_space.runs import last_metric
from resnet_space.serve.context import AppContext
from resnet_space.serve.storage import retention_words
from resnet_space.ui.events import EACH, QUIET, Update
from resnet_space.ui.finetune.status import start_of
from resnet_space.ui.html import place_note
from resnet_space.ui.subject import Shared

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
    """`changed` changes when a run was renamed or deleted; `selected` is the event that made one the subject."""

    table: gr.Dataframe
    changed: gr.State
    selected: Dependency


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


def build_run_list(shared: Shared, beside: gr.Dropdown) -> RunList:
    """Place the table, in which a click makes a run the subject, and what can be done with that one; wire their events.

    `beside` has the names of the runs that are compared with the subject.
    """
    context, subject, visitor, names = shared.context, shared.subject, shared.visitor, shared.names
    changed = gr.State(0)
    with gr.Accordion("All runs", open=False, elem_id="all-runs"):
        table = gr.Dataframe(
            run_rows(context, None),
            headers=list(COLUMNS),
            datatype=list(COLUMNS.values()),
            interactive=False,
            show_search="filter",
            max_height=320,
            label="Click a run to show it",
            elem_id="run-list",
        )
        kept = retention_words(context.limits)
        place_note(kept, visible=bool(kept))
        with gr.Row(visible=not context.readonly):
            new_name = gr.Textbox(label="Rename the shown run", placeholder="new name", info="press Enter")
            delete = gr.Button("Delete the shown run", size="sm", variant="stop", min_width=110)
        with gr.Row(visible=False) as confirming:
            sure = gr.Button("Delete it permanently", size="sm", variant="stop")
            keep = gr.Button("Keep it", size="sm")

    def on_select(event: gr.SelectData, known: list[str]) -> Update:
        name = context.library.open(event.row_value[0]).name
        return subject.become(name, known) | {confirming: gr.update(visible=False)}

    def on_rename(name: str, new: str, key: str, known: list[str], count: int) -> Update:
        run = context.rename_run(name, key, (new or "").strip())
        others = [n for n in known if n != name]
        return subject.become(run.name, others) | {names: [run.name, *others], new_name: "", changed: count + 1}

    def on_delete(name: str, beside_names: list[str], key: str, count: int) -> Update:
        context.delete_run(name, key)
        left = context.trained_names(key)
        others = [n for n in beside_names if n != name]
        following = next(iter([*context.finetuned_names(key), *filter(None, [context.default_name()]), *left]), None)
        gone = {confirming: gr.update(visible=False), beside: gr.update(value=others), names: left, changed: count + 1}
        return gone | (
            subject.become(following, left) if following else {subject.run: gr.update(choices=[], value=None)}
        )

    selected: Dependency = table.select(on_select, names, [*subject.outputs, confirming], **QUIET | EACH)
    delete.click(lambda: gr.update(visible=True), None, confirming, **QUIET)
    keep.click(lambda: gr.update(visible=False), None, confirming, **QUIET)
    renamed = [*subject.outputs, names, new_name, changed]
    new_name.submit(on_rename, [subject.run, new_name, visitor, names, changed], renamed, **QUIET)
    deleted = [confirming, beside, names, changed, *subject.outputs]
    sure.click(on_delete, [subject.run, beside, visitor, changed], deleted, **QUIET)
    return RunList(table, changed, selected)
