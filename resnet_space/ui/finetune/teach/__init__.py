"""Teach by showing: classes by name, pictures dropped on them or taken with the camera, and a model that is taught
again after each change, beside a camera or a picture that it is tried on.

The page's script (`teach.js`) draws the cards and holds what is not sent yet; a request has the changes since the last
one, its answers come step by step. So there is one request under way, and one picture that is looked at.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from resnet_space.common.errors import UserError
from resnet_space.data.images import open_image
from resnet_space.data.taught import read_pictures, thumbnail
from resnet_space.serve.handlers import costly, costs
from resnet_space.serve.storage import retention_words
from resnet_space.serve.taught import FIRST_CLASSES, Step, Teaching
from resnet_space.ui.events import EACH, QUIET, Listen, Update
from resnet_space.ui.finetune.teach.requests import Asked, frame_of, read_changes
from resnet_space.ui.finetune.teach.shown import classes_of, left_out_words, step_value, thumbnails
from resnet_space.ui.html import place_html, place_note
from resnet_space.ui.pictures import ENOUGH, data_url
from resnet_space.ui.subject import Shared

LOOK_COST = 1 / 8  # of a prediction's: 4 a second for a minute on a public page, if nothing else is asked for
PACE, PUBLIC_PACE = 250, 500  # milliseconds between two pictures of the camera that are looked at, at least
ABOUT = (
    "Name your classes and add about ten pictures of each: drop files on a class, or hold its camera button. After "
    "every change the model is retrained within seconds, and you can try it at once."
)


@dataclass(frozen=True)
class Teach:
    """`run` is the name of the taught run, `dataset` that of its pictures; `changed` changes when it was taught again.
    The buttons lead to Predict, and to the form with these pictures. While the `section` is closed, nobody sees it.
    """

    run: gr.State
    changed: gr.State
    dataset: gr.State
    try_it: gr.Button
    use: gr.Button
    section: gr.Accordion


def build_teach(shared: Shared, opened: Listen) -> Teach:
    """Place the section and wire its events; `opened`: listens to the event after which the visitor is known."""
    context, visitor = shared.context, shared.visitor
    teaching = Teaching(context)
    # By the browser too, so that a reload comes back to the same pictures.
    current = gr.BrowserState(None, storage_key="resnet_space.taught", secret="resnet_space")
    run, changed, dataset = gr.State(None), gr.State(None), gr.State(None)
    settings = {
        "pace": PUBLIC_PACE if context.public else PACE,
        "most_classes": teaching.most_classes,
        "most_pictures": teaching.most_pictures,
    }
    empty: dict[str, Any] = {
        "number": 0,
        "set": None,
        "sets": [],
        "run": "",
        "done": True,
        "classes": [{"id": i, "name": name, "count": 0, "pictures": []} for i, name in enumerate(FIRST_CLASSES, 1)],
        **settings,
    }
    with gr.Accordion(
        "Teach by showing: your own classes, from a few pictures or the camera",
        open=False,
        visible=not context.readonly,
        elem_id="teach",
    ) as section:
        place_note(f"{ABOUT} {retention_words(context.limits)}")
        with gr.Row(elem_id="teach-row"):
            cards = place_html(empty, "teach.cards", inside="teach", elem_id="teach-cards")
            live = place_html({}, "teach.live", inside="try", elem_id="teach-live")
        with gr.Row(visible=False) as next_steps:
            try_it = gr.Button("Open the model in Predict", size="sm", min_width=180)
            use = gr.Button("Fine-tune on these pictures", size="sm", min_width=180)

    def whole(step: Step, asked: Asked, key: str | None, message: str = "") -> dict[str, Any]:
        """All that the page shows of a set."""
        shown = {"classes": classes_of(step.taught, asked), "thumbs": thumbnails(step.taught, asked)}
        return {**empty, **step_value(step, asked), **shown, "sets": teaching.names(key), "message": message}

    def told(step: Step, asked: Asked, key: str | None, message: str | None = "") -> Update:
        """Of a step; without the pictures where there is no message, as these were told before."""
        value = step_value(step, asked) if message is None else whole(step, asked, key, message)
        outputs: Update = {cards: value, current: step.taught.name}
        if step.phase == "done":
            outputs |= {dataset: step.taught.name, next_steps: gr.update(visible=bool(step.taught.run))}
        if step.phase == "done" and step.lesson is not None:
            outputs |= {run: step.taught.run, changed: step.taught.version}
        return outputs

    def begun(asked: Asked, key: str | None) -> Update:
        """Where there is no set."""
        value = {**empty, "number": asked.number, "sets": teaching.names(key)}
        return {cards: value, current: None, next_steps: gr.update(visible=False)}

    def steps(of: Iterator[Step], asked: Asked, key: str | None, message: str = "") -> Iterator[Update]:
        """The first with all that is shown, the others with what changes."""
        first: str | None = message
        for step in of:
            yield told(step, asked, key, first)
            first = None

    def on_open(key: str | None, name: str | None) -> Update:
        """A page that was loaded anew comes back to its set; what is not taught, its script then asks for."""
        asked = Asked.of({"set": name})
        if asked.name not in teaching.names(key):
            return begun(asked, key)
        teaching.network.load_soon()
        return told(teaching.known(str(asked.name), key), asked, key) | {section: gr.update(open=True)}

    @costly
    def on_change(key: str | None, event: gr.EventData) -> Iterator[Update]:
        asked = Asked.of(event._data)
        context.require_writable()
        kinds = [change.get("do") for change in asked.changes]
        if kinds == ["show"] and asked.name is not None:
            yield told(teaching.known(asked.name, key), asked, key)
        elif kinds == ["new"]:
            yield begun(asked, key)
        elif kinds == ["delete"] and asked.name is not None:
            teaching.delete(asked.name, key)
            yield begun(asked, key) | {run: None, changed: None, dataset: None}
        elif not asked.changes and asked.name is not None:
            yield from steps(teaching.teach(asked.name, key), asked, key)
        else:
            read = read_changes(asked.changes)
            message = left_out_words(read.left_out)
            if not read.changes:
                raise UserError(message or "Nothing was changed.")
            yield from steps(teaching.change(asked.name, key, read.changes, read.new), asked, key, message)

    @costs(LOOK_COST)
    def on_look(key: str | None, event: gr.EventData) -> dict[str, Any]:
        asked = Asked.of(event._data)
        if asked.name is None:
            raise UserError("Add some pictures first.")
        picture = open_image(io.BytesIO(frame_of(event._data)), short_side=ENOUGH)
        with context.slots.taken("predictions"):
            taught, look = teaching.look(asked.name, key, picture)
        nearest = taught.pictures[look.nearest].id
        value: dict[str, Any] = {
            "number": asked.number,
            "classes": [own.name for own in taught.used_classes],
            "probabilities": [round(share, 4) for share in look.probabilities],
            "unlike": look.unlike > 1,
            "nearest": nearest,
        }
        if nearest not in asked.known:
            value["thumbs"] = {
                id_: data_url(thumbnail(content), "image/jpeg") for id_, content in read_pictures(taught, [nearest])
            }
        return value

    outputs = [cards, current, run, changed, dataset, next_steps]
    if not context.readonly:
        opened(on_open, [visitor, current], [*outputs, section], **QUIET)
        asked_for = cards.submit(on_change, visitor, outputs, concurrency_limit=4, **QUIET | EACH)
        asked_for.failure(None, None, None, js="() => resnetSpace.teach.failed()", **QUIET)
        looked = live.submit(on_look, visitor, live, concurrency_limit=4, **QUIET | EACH)
        looked.failure(None, None, None, js="() => resnetSpace.teach.unseen()", **QUIET)
    return Teach(run, changed, dataset, try_it, use, section)
