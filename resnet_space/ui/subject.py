"""The run that the whole page is about, chosen in one place above the tabs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.events import Dependency

from resnet_space.common.errors import UserError
from resnet_space.runs import Run
from resnet_space.serve.context import AppContext
from resnet_space.training.strategies import from_scratch
from resnet_space.ui.events import LATEST, QUIET, Update

# The address, for all tabs, is kept by the page's script.
SHOW = "(run) => window.resnetSpace.subject(run)"


@dataclass(frozen=True)
class Subject:
    """The run that results, predictions, Explore, pushes and exports are about.

    Attributes:
        run: its name, as the page shows it: before anyone chose, the visitor's newest, or the one that ships.
        chosen: the same where the visitor chose it or made it, else empty: then the size of a picture may decide which
            run answers.
    """

    run: gr.Dropdown
    chosen: gr.Textbox

    @property
    def outputs(self) -> list[Any]:
        """What `become` changes."""
        return [self.run, self.chosen]

    def become(self, name: str, known: Sequence[str]) -> Update:
        """The update by which a run becomes the subject, among those that are known."""
        return {self.run: gr.update(choices=[*dict.fromkeys([name, *known])], value=name), self.chosen: name}


@dataclass(frozen=True)
class Shared:
    """What the parts of a page share.

    Attributes:
        context: what all pages share.
        visitor: the key that a browser is known by.
        subject: what the page is about.
        names: the runs that can predict.
        settled: the event after which the subject is that of the page's address.
    """

    context: AppContext
    visitor: gr.BrowserState
    subject: Subject
    names: gr.State
    settled: Dependency


def run_dropdown(names: Sequence[str | tuple[str, str]], value: str | None, label: str = "Run") -> gr.Dropdown:
    """A choice of runs.

    Gradio would describe its values to programs, and with them the runs that there were at the start; an MCP client
    then refuses to name any other.
    """
    dropdown = gr.Dropdown(list(names), value=value, label=label)
    described: dict[str, Any] = {"type": "string"}
    # In the instance: of a subclass of its components gradio writes a .pyi file beside ours.
    vars(dropdown)["api_info"] = lambda: described
    return dropdown


def place_subject(context: AppContext) -> Subject:
    """Its components, in the page's header."""
    run = run_dropdown(context.trained_names(), context.default_name())
    run.elem_id = "subject"
    return Subject(run, gr.Textbox("", visible="hidden"))


def wire_subject(
    context: AppContext, subject: Subject, visitor: gr.BrowserState, names: gr.State, known: Dependency
) -> Dependency:
    """Let the choice follow the runs that there are, and the page's address follow the choice.

    `known` is the event after which the visitor's key is known. Returns the event by which the subject of a page that
    was just opened is settled: the run in its address, else the visitor's newest that can predict, else the one that
    ships.
    """

    def on_open(key: str | None, request: gr.Request) -> Update:
        linked = linked_run(context, request.query_params.get("run"))
        made = context.finetuned_names(key)
        runs = [run for run in context.runs(key) if run.has_weights]
        own = [run for run in runs if run.name in made]
        # A training from scratch that another one was compared with is not what the visitor is after.
        after = [run for run in own if run.config.training.start or counterpart(run, own) is None]
        name = linked or next((run.name for run in after), None)
        trained = [run.name for run in runs]
        return subject.become(name, trained) if name else {subject.run: gr.update(choices=trained)}

    def on_names(known: Sequence[str], name: str | None) -> Any:
        return gr.update(choices=[*dict.fromkeys([*known, *([name] if name else [])])])

    opened: Dependency = known.then(on_open, visitor, subject.outputs, **QUIET)
    names.change(on_names, [names, subject.run], subject.run, **LATEST)
    subject.run.input(None, subject.run, subject.chosen, js="(name) => name ?? ''", **QUIET)
    for event in (opened.then, subject.run.change):
        event(None, subject.run, None, js=SHOW, **QUIET)
    return opened


def counterpart(run: Run, others: Sequence[Run]) -> Run | None:
    """The first of the others that was trained as this one, but for its start: from random weights, or from trained."""
    scratch = run.config.training.start is None
    different = (other for other in others if (other.config.training.start is None) != scratch)
    alike = (o for o in different if o.config.model == run.config.model and _budget(o) == _budget(run))
    return next(alike, None)


def _budget(run: Run) -> tuple[object, ...]:
    training = run.config.training
    if training.start is not None:  # a head that is solved at once is compared with a whole training
        training = from_scratch(training)
    return training.dataset, training.total_epochs, training.batch_size


def linked_run(context: AppContext, asked: str | None) -> str | None:
    """The first run that an address names, if there is such a run: whoever has the address may look at it."""
    try:
        return context.library.open((asked or "").partition(",")[0]).name
    except UserError:
        return None
