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
from resnet_space.ui.predict.choice import SMALL
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
    """What the other tabs need: the run that answers, as the page shows it, and the one that was `chosen`; what shows
    an example after an event where there is no picture yet (`with_example`); when what the page's address names was
    chosen (`opened`); and the mistakes, which a training can learn from.
    """

    run: gr.Dropdown
    chosen: gr.Textbox
    with_example: Callable[[Callable[..., Dependency]], Dependency]
    opened: Dependency
    mistakes: Mistakes


def build_predict(
    context: AppContext, app: gr.Blocks, tab: gr.Tab, visitor: gr.BrowserState, names: gr.State
) -> PredictTab:
    """Place the tab's components and wire its events.

    Args:
        context: what all share.
        app: the page.
        tab: the tab itself.
        visitor: the key that a browser is known by.
        names: the runs that can predict.
    """
    trained = context.trained_names()
    tests = Stops()
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
            run = run_dropdown(trained, context.default_name(), info=sizes_words(context))
            other = run_dropdown(with_nothing(trained), "", label="Compare with")
            pulled = build_pull(context, visitor)
            button = gr.Button("Predict", variant="primary")
        with gr.Column(scale=2, min_width=320):
            answer = gr.HTML(
                EMPTY, js_on_load="resnetSpace.predict.answer(element, trigger, watch)", elem_id="answer", **PLAIN
            )
            with gr.Column(visible=False) as once_answered:
                mistakes = build_mistakes(context, visitor, picture, run)
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
    # The choice of the run shows who answers. It is the visitor's only where they made it.
    chosen = gr.Textbox("", visible="hidden")
    subject = gr.Textbox(visible="hidden")  # the picture and the runs, in one
    build_many(context, run, chosen)
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
            run: choice.name,
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

    def on_instead(event: gr.EventData) -> str:
        return str(event.choose)

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
        named = []
        for name in (asked.get("run"), asked.get("with")):
            try:
                linked = context.library.open(name or "")
                named.append(linked.name if linked.has_weights else None)
            except UserError:
                named.append(None)
            if name and not named[-1]:
                warn(f"There is no run {name[:100]!r} here that could predict: it may have been deleted.")
        known = [*dict.fromkeys([*context.trained_names(), *filter(None, named)])]
        return {
            run: gr.update(choices=known, value=named[0]) if named[0] else gr.skip(),
            chosen: named[0] or gr.skip(),
            other: gr.update(choices=with_nothing(known), value=named[1]) if named[1] else gr.skip(),
            picture: example_file(asked.get("example")),
        }

    def on_names(known: list[str]) -> dict[Any, Any]:
        return {run: gr.update(choices=known), other: gr.update(choices=with_nothing(known))}

    seen: list[Any] = [picture, chosen, other]
    views = [run, answer, once_answered, mistakes.label, why, evidence, gates, channel]
    last: Any = PRIVATE | {"trigger_mode": "always_last", "show_progress_on": answer}
    one_by_one: Any = EACH | {"concurrency_limit": 1}
    run.input(None, run, chosen, js="(name) => name ?? ''", **QUIET)
    answer.select(on_instead, None, chosen, **EACH | QUIET)
    pulled.change(lambda name: name, pulled, chosen, **QUIET)
    gr.on([picture.change, chosen.change, other.change], None, seen, subject, js="resnetSpace.picture.want", **QUIET)
    subject.change(None, None, [mistakes.label, mistakes.report], js="() => [null, '']", **QUIET)
    subject.change(on_picture, seen, views, **last)
    button.click(on_button, seen, views, **last)
    asked = gr.on([why.submit, gates.submit], on_evidence, [subject, *seen], [evidence, stop], **one_by_one)
    asked.failure(lambda: gr.update(visible=False), None, stop, **QUIET)
    stop.click(on_stop, None, None, **QUIET)
    gates.select(on_channel, [subject, *seen], channel, show_progress="minimal", **one_by_one)
    # An answer is there before anything is clicked, once the tab is looked at.
    with_example(tab.select)
    opened = app.load(open_link, None, [run, chosen, other, picture], **QUIET)
    names.change(on_names, names, [run, other], **QUIET)
    wire_pull(pulled, names, run)
    return PredictTab(run, chosen, with_example, opened, mistakes)


def sizes_words(context: AppContext) -> str | None:
    """Which run answers until the visitor chooses one; None where it is always the same."""
    photo, default = context.photo_name(), context.default_name()
    if photo is None or photo == default:
        return None
    return f"Unless you choose: {photo} for photographs, {default} for pictures of at most {SMALL} pixels"


def with_nothing(names: Sequence[str]) -> list[tuple[str, str]]:
    """(label, run) of what a prediction can be compared with."""
    return [("nothing", ""), *((name, name) for name in names)]
