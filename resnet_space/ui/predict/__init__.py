"""The predict tab: a picture and a run -> the top-5, where the model finds each class, and whether that is true.

Files: `choice` (which run answers), `looks` (what a run makes of a picture), `answer`, `maps`, `evidence` (each to
HTML), `examples`, `mistakes` (what was wrong, kept as a data set), `batch` and `many` (many pictures).
`ui/static/predict.js` is what the page does itself.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.events import Dependency

from resnet_space.common.errors import UserError
from resnet_space.serve.context import AppContext
from resnet_space.serve.handlers import costly
from resnet_space.serve.refusals import warn
from resnet_space.ui.choices import run_dropdown
from resnet_space.ui.events import EACH, PRIVATE, PROGRESS, QUIET
from resnet_space.ui.pictures import read_picture
from resnet_space.ui.predict.answer import EMPTY, answers_html
from resnet_space.ui.predict.endpoint import build_endpoint
from resnet_space.ui.predict.evidence import StoppedTestError, evidence_value
from resnet_space.ui.predict.examples import build_examples, example_file, example_of
from resnet_space.ui.predict.looks import Look, looks
from resnet_space.ui.predict.many import build_many
from resnet_space.ui.predict.maps import channel_html, class_maps_html, gates_html
from resnet_space.ui.predict.mistakes import Mistakes, build_mistakes
from resnet_space.ui.pull import build_pull, wire_pull
from resnet_space.ui.scripts import SCRIPTS
from resnet_space.ui.stops import Stops
from resnet_space.ui.subject import Subject, linked_run

__all__ = ["PredictTab", "build_predict", "read_picture"]

OPACITY = """
<label class="opacity">Opacity of the maps
<input type="range" min="0" max="100" value="60" step="5" aria-label="Opacity of the maps, in per cent"></label>
"""
MAPS = "resnetSpace.predict.maps(element, trigger)"
PLAIN: dict[str, Any] = {"head": SCRIPTS, "apply_default_css": False}
NO_EVIDENCE: dict[str, Any] = {"html": "", "figures": {}}


@dataclass(frozen=True)
class PredictTab:
    """What the other tabs need: what shows an example after an event where there is no picture yet (`with_example`);
    when what the page's address names was chosen (`opened`); and the mistakes, which a training can learn from.
    """

    with_example: Callable[[Callable[..., Dependency]], Dependency]
    opened: Dependency
    mistakes: Mistakes


def build_predict(
    context: AppContext, subject: Subject, tab: gr.Tab, visitor: gr.BrowserState, names: gr.State, settled: Dependency
) -> PredictTab:
    """Place the tab's components and wire its events.

    Args:
        context: what all share.
        subject: the run that answers where the visitor chose it.
        tab: the tab itself.
        visitor: the key that a browser is known by.
        names: the runs that can predict.
        settled: the event after which the subject is that of the page's address.
    """
    trained = context.trained_names()
    tests = Stops()
    answered = gr.Textbox(visible="hidden")  # the run that did
    with gr.Row():
        with gr.Column(scale=1, min_width=300, elem_id="predict-choices"):
            picture = gr.Image(
                label="Picture",
                sources=["upload", "webcam", "clipboard"],
                type="filepath",
                height=320,
                elem_id="picture",
                buttons=["fullscreen"],
            )
            with_example = build_examples(picture)
            other = run_dropdown(with_nothing(trained), "", label="Compare with")
            pulled = build_pull(context, visitor)
            button = gr.Button("Predict", variant="primary")
        with gr.Column(scale=2, min_width=320):
            answer = gr.HTML(
                EMPTY, js_on_load="resnetSpace.predict.answer(element, trigger, watch)", elem_id="answer", **PLAIN
            )
            with gr.Column(visible=False) as once_answered:
                mistakes = build_mistakes(context, visitor, picture, answered)
                gr.HTML(OPACITY, js_on_load="resnetSpace.predict.opacity(element)", elem_id="opacity", **PLAIN)
            why = gr.HTML("", js_on_load=MAPS, elem_id="why", **PLAIN)
            stop = gr.Button("Stop the test", variant="stop", size="sm", visible=False, elem_id="stop-test")
            evidence = gr.HTML(
                NO_EVIDENCE,
                html_template='<div class="body" aria-live="polite"></div>',
                js_on_load="resnetSpace.predict.evidence(element, props, watch)",
                elem_id="evidence",
                **PLAIN,
            )
            gates = gr.HTML("", js_on_load=MAPS, elem_id="gates", **PLAIN)
            channel = gr.HTML(
                "", js_on_load="resnetSpace.predict.channel(element, trigger, watch)", elem_id="channel", **PLAIN
            )
    wanted = gr.Textbox(visible="hidden")  # the picture and the runs, in one
    build_many(context, subject.chosen)
    build_endpoint(context, picture)

    @costly
    def on_picture(
        image: dict[str, Any] | None, name: str | None, other: str | None, request: gr.Request
    ) -> Iterator[dict[Any, Any]]:
        """The answer first, its maps when they are drawn."""
        tests.stop(str(request.session_hash))  # of the picture before
        nothing = {answer: EMPTY, once_answered: gr.update(visible=False), evidence: NO_EVIDENCE}
        nothing |= dict.fromkeys((why, gates, channel), "")
        if not image:
            yield nothing
            return
        try:
            choice, predicted = looks(context, image, name, other)
        except Exception:
            yield nothing  # nobody is to take the maps of another picture for this one's
            raise
        yield {
            answered: choice.name,
            answer: answers_html(predicted, choice, example_of(image)),
            once_answered: gr.update(visible=True),
            mistakes.label: gr.update(choices=list(predicted[0].classifier.config.classes)),
        }
        with context.slots.taken("predictions"):
            maps = class_maps_html(predicted)
        yield {why: maps, evidence: NO_EVIDENCE, gates: gates_html(predicted), channel: ""}

    @costly
    def on_button(
        image: dict[str, Any] | None, name: str | None, other: str | None, request: gr.Request
    ) -> Iterator[dict[Any, Any]]:
        if not (image and image.get("path")):
            read_picture(image)
        yield from on_picture(image, name, other, request)

    def on_instead(known: list[str], event: gr.EventData) -> dict[Any, Any]:
        return subject.become(str(event.choose), known)

    def one(image: dict[str, Any] | None, name: str | None, other: str | None, side: object) -> Look:
        """The run that a click was about."""
        _, predicted = looks(context, image, name, other)
        return predicted[1] if side == 1 and len(predicted) == 2 else predicted[0]

    @costly
    def on_evidence(
        of: str,
        image: dict[str, Any] | None,
        name: str | None,
        other: str | None,
        event: gr.EventData,
        request: gr.Request,
        progress: gr.Progress = PROGRESS,
    ) -> Iterator[dict[Any, Any]]:
        if not isinstance(event.index, int):
            raise UserError("Choose a class first.")
        looked = one(image, name, other, event.side)
        with tests.asked(str(request.session_hash)) as stopped:

            def on_share(share: float) -> None:
                if stopped.is_set():
                    raise StoppedTestError
                progress(share, desc="Testing the maps, and random ones")

            yield {stop: gr.update(visible=True)}
            value = NO_EVIDENCE
            with context.slots.taken("tests of maps"), suppress(StoppedTestError):
                value = evidence_value(looked, event.kind, event.index, on_share)
            yield {evidence: value | {"of": of}, stop: gr.update(visible=False)}

    def on_stop(request: gr.Request) -> None:
        tests.stop(str(request.session_hash))

    @costly
    def on_channel(
        of: str, image: dict[str, Any] | None, name: str | None, other: str | None, event: gr.EventData
    ) -> str:
        looked = one(image, name, other, event.side)
        gates = looked.prediction.attention.channel
        channel, module = event.channel, str(event.module)
        if module not in gates or not isinstance(channel, int) or not 0 <= channel < gates[module].shape[1]:
            raise UserError("There is no such channel: choose one of those in the chart.")
        return channel_html(looked, module, channel, of)

    def open_link(request: gr.Request) -> Any:
        """The runs and the example that the page's address names: whoever has it may look at them."""
        asked = dict(request.query_params)
        if asked.get("tab") != "predict":
            return gr.skip()
        named = {name: linked_run(context, asked.get(name)) for name in ("run", "with")}
        for name, linked in named.items():
            if asked.get(name) and not linked:
                warn(f"There is no run {asked[name][:100]!r} here that could predict: it may have been deleted.")
        known = [*dict.fromkeys([*context.trained_names(), *filter(None, named.values())])]
        return {
            other: gr.update(choices=with_nothing(known), value=named["with"]) if named["with"] else gr.skip(),
            picture: example_file(asked.get("example")),
        }

    def on_names(known: list[str]) -> dict[Any, Any]:
        return {other: gr.update(choices=with_nothing(known))}

    seen: list[Any] = [picture, subject.chosen, other]
    views = [answered, answer, once_answered, mistakes.label, why, evidence, gates, channel]
    last: Any = PRIVATE | {"trigger_mode": "always_last", "show_progress_on": answer}
    one_by_one: Any = EACH | {"concurrency_limit": 1}
    answer.select(on_instead, names, subject.outputs, **EACH | QUIET)
    changes = [picture.change, subject.chosen.change, other.change]
    gr.on(changes, None, seen, wanted, js="resnetSpace.picture.want", **QUIET)
    wanted.change(None, None, [mistakes.label, mistakes.report], js="() => [null, '']", **QUIET)
    wanted.change(on_picture, seen, views, **last)
    button.click(on_button, seen, views, **last)
    asked = gr.on([why.submit, gates.submit], on_evidence, [wanted, *seen], [evidence, stop], **one_by_one)
    asked.failure(lambda: gr.update(visible=False), None, stop, **QUIET)
    stop.click(on_stop, None, None, **QUIET)
    gates.select(on_channel, [wanted, *seen], channel, show_progress="minimal", **one_by_one)
    # An answer is there before anything is clicked, once the tab is looked at.
    with_example(tab.select)
    opened = settled.then(open_link, None, [other, picture], **QUIET)
    names.change(on_names, names, other, **QUIET)
    wire_pull(pulled, names, subject)
    return PredictTab(with_example, opened, mistakes)


def with_nothing(names: Sequence[str]) -> list[tuple[str, str]]:
    """(label, run) of what a prediction can be compared with."""
    return [("nothing", ""), *((name, name) for name in names)]
