"""The left column: which network, and which images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
from gradio.events import Dependency

from resnet_space.common.errors import UserError
from resnet_space.data.reference import DatasetRef
from resnet_space.serve.context import AppContext
from resnet_space.ui.choices import run_dropdown
from resnet_space.ui.events import LATEST
from resnet_space.ui.explore.images import (
    DATASET,
    OWN,
    SOURCES,
    Images,
    dataset_images,
    most_images,
    own_images,
    split_counts,
)
from resnet_space.ui.explore.networks import network_choices
from resnet_space.ui.pull import build_pull
from resnet_space.ui.subject import Subject

FIRST_DATASET, FIRST_SPLIT, FIRST_COUNT = "cifar10-mini", "test", 64


@dataclass(frozen=True)
class Controls:
    """`pulled` changes to the name of a run that was just pulled."""

    network: gr.Dropdown
    pulled: gr.State
    source: gr.Radio
    dataset: gr.Dropdown
    split: gr.Dropdown
    count: gr.Slider
    pictures: gr.Gallery

    @property
    def images(self) -> list[Any]:
        """What says which images to measure."""
        return [self.source, self.dataset, self.split, self.count, self.pictures]


def place_controls(context: AppContext, subject: Subject, visitor: gr.BrowserState) -> Controls:
    """The column's components."""
    name = subject.run.value
    network = run_dropdown(network_choices([name] if name else []), name, "Network")
    network.info = "the run, the same network untrained, or an architecture with random weights"
    pulled = build_pull(context, visitor)
    source = gr.Radio(list(SOURCES), value=DATASET, label="Images")
    with gr.Row():
        dataset = gr.Dropdown(context.datasets.choices(), value=FIRST_DATASET, label="Which data", min_width=140)
        split = gr.Dropdown(["train", "test"], value=FIRST_SPLIT, label="Split", min_width=100)
    count = gr.Slider(1, 1_000, value=FIRST_COUNT, step=1, label="How many")
    pictures = gr.Gallery(
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
    return Controls(network, pulled, source, dataset, split, count, pictures)


def wire_controls(
    context: AppContext, visitor: gr.BrowserState, controls: Controls, names: gr.State, subject: Subject
) -> Callable[..., Dependency]:
    """Let choices follow one another, and what comes and goes; `names` are the runs that can be measured.

    The network is the subject's until another is chosen here.

    Returns:
        `(listen, run)`: after an event, the data set that the named run was trained on is chosen, where it is here.
    """

    def on_source(source: str) -> Any:
        of_data = gr.update(visible=source == DATASET)
        return of_data, of_data, of_data, gr.update(visible=source == OWN)

    def on_dataset(reference: str, split: str | None, count: float | None, key: str | None) -> Any:
        counts = split_counts(context, key, reference)
        chosen = split if split in counts else "test" if "test" in counts else next(iter(counts))
        most = most_images(counts[chosen])
        fewer: Any = {"value": most} if (count or 0) > most else {}
        return gr.update(choices=list(counts), value=chosen), gr.update(maximum=most, **fewer)

    def on_names(key: str | None) -> Any:
        return gr.update(choices=context.datasets.choices(key))

    def on_subject(name: str | None) -> Any:
        return gr.update(choices=network_choices([name] if name else []), value=name)

    def on_run_data(run: str, count: float | None, key: str | None) -> Any:
        known = context.datasets.choices(key)
        try:
            training = context.library.open(run).config.training
        except UserError:
            return (gr.skip(),) * 4
        own = replace(DatasetRef.of(training), revision=None)
        refs = [DatasetRef.parse(value) for _, value in known]
        reference = next((str(ref) for ref in refs if replace(ref, revision=None) == own), None)
        if reference is None:
            return (gr.skip(),) * 4
        return DATASET, gr.update(choices=known, value=reference), *on_dataset(reference, None, count, key)

    of_data = [controls.dataset, controls.split, controls.count]
    controls.source.change(on_source, controls.source, [*of_data, controls.pictures], **LATEST)
    gr.on(
        [controls.dataset.input, controls.split.input],
        on_dataset,
        [controls.dataset, controls.split, controls.count, visitor],
        [controls.split, controls.count],
        **LATEST,
    )
    gr.on([names.change, controls.dataset.focus], on_names, visitor, controls.dataset, **LATEST)
    subject.run.change(on_subject, subject.run, controls.network, **LATEST)
    outputs = [controls.source, controls.dataset, controls.split, controls.count]
    return lambda listen, run: listen(on_run_data, [run, controls.count, visitor], outputs, **LATEST)


def chosen_images(context: AppContext, key: str | None, values: Sequence[Any]) -> Images:
    """What the values of `Controls.images` say. Raises UserError."""
    source, dataset, split, count, pictures = values
    return own_images(pictures) if source == OWN else dataset_images(context, key, dataset, split, count)
