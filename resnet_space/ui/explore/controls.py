"""The left column: which network, and which images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
from gradio.events import Dependency

from resnet_space.common.errors import UserError
from resnet_space.data.reference import DatasetRef
from resnet_space.serve.context import AppContext
from resnet_space.ui.events import LATEST, QUIET
from resnet_space.ui.explore.images import (
    DATASET,
    MAX_IMAGES,
    OWN,
    SOURCES,
    Images,
    dataset_images,
    own_images,
    split_counts,
)
from resnet_space.ui.explore.networks import Network, network_choices
from resnet_space.ui.pull import build_pull
from resnet_space.ui.subject import Shared, run_dropdown

FIRST_DATASET, FIRST_SPLIT, FIRST_COUNT = "cifar10-mini", "test", 64
# Gradio says that the subject has changed also where only its choices have: that leaves the network alone.
TO_SUBJECT = """(network, run) => {
  const { state } = window.resnetSpace;
  const isOther = state.explored && state.explored !== run; // and not what the page was opened with
  state.explored = run;
  return isOther && state.arrived && network?.startsWith("random:") ? "run:" : network;
}"""


class Controls:
    """The column's components; `pulled` changes to the name of a run that was just pulled."""

    def __init__(self, shared: Shared) -> None:
        self.network = run_dropdown(network_choices(), str(Network("")), "Network")
        self.source = gr.Radio(list(SOURCES), value=DATASET, label="Images")
        self.dataset = gr.Dropdown(shared.context.datasets.choices(), value=FIRST_DATASET, label="Dataset")
        with gr.Row():
            self.split = gr.Dropdown(["train", "test"], value=FIRST_SPLIT, label="Split", min_width=80)
            # No limit by the split: it would come late, and the browser would cut what was typed.
            self.count = gr.Number(
                FIRST_COUNT, label="How many", minimum=1, maximum=MAX_IMAGES, precision=0, min_width=80
            )
        self.pictures = gr.Gallery(
            label="Pictures",
            sources=["upload", "webcam", "clipboard"],
            file_types=["image"],
            type="filepath",
            interactive=True,
            height=260,
            columns=3,
            visible=False,
            elem_id="own-pictures",
        )
        self.pulled = build_pull(shared)

    @property
    def images(self) -> list[Any]:
        """What says which images to measure."""
        return [self.source, self.dataset, self.split, self.count, self.pictures]


@dataclass(frozen=True)
class Settled:
    """The events after which the controls say what to measure.

    Attributes:
        chosen: by the visitor, in the column.
        with_own_data: `(listen, run)`: after an event, the dataset that the named run was trained on is chosen, where
            it is here.
    """

    chosen: list[Dependency]
    with_own_data: Callable[..., Dependency]


def wire_controls(shared: Shared, controls: Controls) -> Settled:
    """Let choices follow one another, and what comes and goes."""
    context, visitor, subject = shared.context, shared.visitor, shared.subject

    def on_source(source: str) -> Any:
        of_data = gr.update(visible=source == DATASET)
        return of_data, of_data, of_data, gr.update(visible=source == OWN)

    def on_dataset(reference: str, split: str | None, key: str | None) -> Any:
        counts = split_counts(context, key, reference)
        chosen = split if split in counts else "test" if "test" in counts else next(iter(counts))
        return gr.update(choices=list(counts), value=chosen)

    def on_run_data(run: str, key: str | None) -> Any:
        known = context.datasets.choices(key)
        try:
            training = context.library.open(run).config.training
        except UserError:
            return (gr.skip(),) * 3
        own = replace(DatasetRef.of(training), revision=None)
        refs = [DatasetRef.parse(value) for _, value in known]
        reference = next((str(ref) for ref in refs if replace(ref, revision=None) == own), None)
        if reference is None:
            return (gr.skip(),) * 3
        return DATASET, gr.update(choices=known, value=reference), on_dataset(reference, None, key)

    of_data = [controls.dataset, controls.split, controls.count]
    switched = controls.source.change(on_source, controls.source, [*of_data, controls.pictures], **LATEST)
    inputs = [controls.dataset, controls.split, visitor]
    other = controls.dataset.input(on_dataset, inputs, controls.split, **LATEST)
    gr.on(
        [shared.names.change, controls.dataset.focus],
        lambda key: gr.update(choices=context.datasets.choices(key)),
        visitor,
        controls.dataset,
        **LATEST,
    )
    # An architecture stays chosen while the page opens; another run that is chosen later is what is looked at.
    subject.run.change(None, [controls.network, subject.run], controls.network, js=TO_SUBJECT, **QUIET)
    outputs = [controls.source, controls.dataset, controls.split]
    return Settled([switched, other], lambda listen, run: listen(on_run_data, [run, visitor], outputs, **LATEST))


def chosen_images(context: AppContext, key: str | None, values: Sequence[Any]) -> Images:
    """What the values of `Controls.images` say. Raises UserError."""
    source, dataset, split, count, pictures = values
    return own_images(pictures) if source == OWN else dataset_images(context, key, dataset, split, count)
