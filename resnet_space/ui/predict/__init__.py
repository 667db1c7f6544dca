"""The predict tab: a picture and a run -> the answer, the evidence for each class, and whether that is faithful.

Files: `wanted` (which picture and which runs), `looks` (which run answers, and its prediction), `answer`,
`maps`, `gates`, `heads`, `evidence` (each to HTML), `figure` (to take away), `examples`, `labelled` (test pictures),
`mistakes` (kept as a dataset), `batch`, `grid` and `many` (many pictures). `ui/static/predict.js` is what the page does
itself.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr
from gradio.events import Dependency

from resnet_space.common.errors import UserError
from resnet_space.serve.handlers import costly
from resnet_space.serve.refusals import warn
from resnet_space.ui.events import EACH, LATEST, PRIVATE, PROGRESS, QUIET, Payload, Update
from resnet_space.ui.exports import Export, place_exports
from resnet_space.ui.html import place_html
from resnet_space.ui.predict.answer import EMPTY, answers_html
from resnet_space.ui.predict.endpoint import build_endpoint
from resnet_space.ui.predict.evidence import Judged, StoppedTestError, evidence_value
from resnet_space.ui.predict.examples import examples, examples_html
from resnet_space.ui.predict.figure import View, export_of
from resnet_space.ui.predict.gates import channel_html, gates_html
from resnet_space.ui.predict.heads import HeadsPart
from resnet_space.ui.predict.labelled import labelled_html
from resnet_space.ui.predict.looks import Look, looked_at, looks
from resnet_space.ui.predict.many import build_many
from resnet_space.ui.predict.maps import class_maps_html
from resnet_space.ui.predict.mistakes import Mistakes, build_mistakes
from resnet_space.ui.predict.wanted import Wanted
from resnet_space.ui.pull import build_pull, wire_pull
from resnet_space.ui.stops import Stops
from resnet_space.ui.subject import Shared, linked_run, run_dropdown

__all__ = ["PredictTab", "build_predict"]

OPACITY = """
<label class="opacity">Opacity of the heatmaps
<input type="range" min="0" max="100" value="60" step="5" aria-label="Opacity of the heatmaps, in per cent"></label>
"""
PICK, MAPS = "predict.examples(element, trigger)", "predict.maps(element, trigger, watch)"
NO_EVIDENCE: dict[str, Any] = {"html": "", "figures": {}}


@dataclass(frozen=True)
class PredictTab:
    """What the other tabs need: what shows an example after an event where there is no picture yet (`with_example`);
    when what the page's address names was chosen (`opened`); and the mistakes, which a training can learn from.
    """

    with_example: Callable[[Callable[..., Dependency]], Dependency]
    opened: Dependency
    mistakes: Mistakes


def build_predict(shared: Shared, tab: gr.Tab) -> PredictTab:
    """Place the tab's components and wire its events."""
    context, subject, names = shared.context, shared.subject, shared.names
    trained = context.trained_names()
    tests = Stops()
    # What the page's script writes: which picture and runs an answer is wanted for, and which heatmaps are shown.
    wanted, view = gr.Textbox(visible="hidden"), gr.Textbox(visible="hidden")
    answered = gr.Textbox(visible="hidden")  # the run that did
    with gr.Tabs(elem_id="predict-mode"):
        with gr.Tab("One picture", id="one") as one_tab, gr.Row(elem_id="predict-one"):
            with gr.Column(scale=1, min_width=300, elem_id="predict-choices"):
                picture = gr.Image(
                    label="Picture",
                    sources=["upload", "webcam", "clipboard"],
                    type="filepath",
                    format="png",
                    height=300,
                    elem_id="picture",
                    buttons=["fullscreen"],
                )
                tested = place_html("", PICK, elem_id="tested", visible=False)
                shipped = place_html(examples_html(), PICK, elem_id="examples")
                other = run_dropdown(with_nothing(trained), "", label="Compare with")
                pulled = build_pull(shared)
            with gr.Column(scale=2, min_width=320, elem_id="predict-answer"):
                answer = place_html(EMPTY, "predict.answer(element, trigger, watch)", elem_id="answer")
                why = place_html("", MAPS, elem_id="why")
                evidence = place_html(
                    NO_EVIDENCE,
                    "predict.evidence(element, props, watch)",
                    html_template='<div class="body" aria-live="polite"></div>',
                    elem_id="evidence",
                )
                stop = gr.Button("Stop the test", variant="stop", size="sm", visible=False, elem_id="stop-test")
                with gr.Column(visible=False) as below:
                    place_html(OPACITY, "predict.opacity(element)", elem_id="opacity")
                exports = place_exports([wanted, picture, view], lambda *shown: on_export(*shown), visible=False)
                with gr.Column(visible=False) as correcting:
                    mistakes = build_mistakes(shared, wanted, picture, answered)
                gates = place_html("", MAPS, elem_id="gates")
                channel = place_html("", "predict.channel(element, trigger, watch)", elem_id="channel")
                heads = HeadsPart(context, wanted, picture)
        with gr.Tab("Many pictures", id="many") as many_tab:
            build_many(shared)
    build_endpoint(context, picture)
    offered, of = gr.Image(type="filepath", format="png", visible=False), gr.Textbox(visible=False)

    def once(is_there: bool) -> Update:
        """What only an answer has."""
        return {part: gr.update(visible=is_there) for part in (below, exports.buttons, correcting)}

    @costly
    def on_wanted(text: str, payload: Payload, attended: str, request: gr.Request) -> Iterator[Update]:
        """The answer first, its maps when they are drawn."""
        tests.stop(request)  # of the picture before
        asked = Wanted.parse(text).found(context)
        nothing = {answer: EMPTY, evidence: NO_EVIDENCE} | dict.fromkeys((why, gates, channel), "") | once(False)
        nothing |= heads.updates((), "")
        if asked.is_own and not payload:
            yield nothing
            return
        try:
            choice, shown, predicted = looks(context, asked, payload)
        except Exception:
            yield nothing  # nobody is to take the maps of another picture for this one's
            raise
        yield {
            answered: choice.name,
            answer: answers_html(predicted, choice, asked, shown.label),
            # With a value: Gradio applies choices alone later, and loses them where the row is mounted meanwhile.
            mistakes.label: gr.update(choices=list(predicted[0].classifier.config.classes), value=None),
        }
        with context.slots.taken("predictions"):
            shown_maps = {why: class_maps_html(predicted), gates: gates_html(predicted)}
            shown_maps |= heads.updates(predicted, attended)
        yield shown_maps | {evidence: NO_EVIDENCE, channel: ""} | once(True)

    def on_pick(text: str) -> tuple[Any, Any]:
        """The picture that was chosen, for the component; nothing where it is the visitor's own."""
        asked = Wanted.parse(text)
        if asked.is_own:
            return gr.skip(), gr.skip()
        found = asked.found(context)
        if found.example in examples():
            return str(examples()[found.example]), asked.pick
        return found.shown(context, None).image, asked.pick

    def on_export(text: str, payload: Payload, seen: str) -> Export:
        asked, _, shown, predicted = looked_at(context, text, payload)
        return export_of(predicted, shown, asked, View.parse(seen))

    def on_instead(known: list[str], event: gr.EventData) -> Update:
        return subject.become(str(event.choose), known)

    def asked_one(text: str, payload: Payload, side: object) -> Look:
        """The run that a click was about."""
        *_, predicted = looked_at(context, text, payload)
        return predicted[1] if side == 1 and len(predicted) == 2 else predicted[0]

    @costly
    def on_evidence(
        text: str, payload: Payload, event: gr.EventData, request: gr.Request, progress: gr.Progress = PROGRESS
    ) -> Iterator[Update]:
        looked, judged = asked_one(text, payload, event.side), Judged.of(event)
        with tests.asked(request) as stopped:

            def on_share(share: float) -> None:
                if stopped.is_set():
                    raise StoppedTestError
                progress(share, desc="Testing the heatmaps against random maps")

            yield {stop: gr.update(visible=True)}
            value = NO_EVIDENCE
            with context.slots.taken("tests of maps"), suppress(StoppedTestError):
                value = evidence_value(looked, judged, on_share)
            yield {evidence: value | {"of": text}, stop: gr.update(visible=False)}

    @costly
    def on_channel(text: str, payload: Payload, event: gr.EventData) -> str:
        looked = asked_one(text, payload, event.side)
        gates = looked.prediction.attention.channel
        number, module = event.channel, str(event.module)
        if module not in gates or not isinstance(number, int) or not 0 <= number < gates[module].shape[1]:
            raise UserError("There is no such channel: choose one of those in the chart.")
        return channel_html(looked, module, number, text)

    def on_subject(name: str | None) -> Any:
        html = labelled_html(context, name)
        return gr.update(value=html, visible=bool(html))

    def open_link(request: gr.Request) -> Any:
        """The run to compare with that the page's address names: whoever has the address may look at it."""
        asked = dict(request.query_params)
        if asked.get("tab") != "predict":
            return gr.skip()
        linked = {part: linked_run(context, asked.get(part)) for part in ("run", "with")}
        for part, found in linked.items():
            if asked.get(part) and not found:
                warn(f"There is no trained run named {asked[part][:100]!r} here. It may have been deleted.")
        name = linked["with"]
        if not name:
            return gr.skip()
        return gr.update(choices=with_nothing([*dict.fromkeys([*context.trained_names(), name])]), value=name)

    seen: list[Any] = [picture, subject.chosen, other]
    views = [answered, answer, mistakes.label, why, evidence, gates, channel, *heads.updates((), ""), *once(True)]
    one_by_one: Any = EACH | {"concurrency_limit": 1}

    def want(listen: Callable[..., Dependency] | list[Any], how: str = "want") -> Dependency:
        """Let the page's script say, after an event, what an answer is wanted for."""
        js = f"resnetSpace.picture.{how}"
        on = partial(gr.on, listen) if isinstance(listen, list) else listen
        wants: Dependency = on(None, seen, wanted, js=js, **QUIET)
        return wants

    answer.select(on_instead, names, subject.outputs, **EACH | QUIET)
    want([picture.change, subject.chosen.change, other.change, tested.select, shipped.select])
    want(picture.input, "own")
    wanted.change(None, None, [mistakes.label, mistakes.report], js="() => [null, '']", **QUIET)
    wanted.change(
        on_wanted,
        [wanted, picture, heads.attended],
        views,
        js="(...now) => [...now.slice(0, 2), resnetSpace.predict.attended()]",
        trigger_mode="always_last",
        show_progress_on=answer,
        **PRIVATE,
    )
    # Each one: two listeners of an event that both want the last one wake one another, for ever.
    picked = wanted.change(on_pick, wanted, [offered, of], **EACH | QUIET)
    picked.success(None, [offered, of, picture], picture, js="resnetSpace.picture.take", **QUIET)
    gr.on([why.input, answer.input], None, None, view, js="() => resnetSpace.predict.view()", **QUIET)
    tested_by = [why.submit, gates.submit, heads.html.submit]
    asked = gr.on(tested_by, on_evidence, [wanted, picture], [evidence, stop], **one_by_one)
    asked.failure(lambda: gr.update(visible=False), None, stop, js="() => resnetSpace.predict.rest()", **QUIET)
    stop.click(tests.stop, None, None, **QUIET)
    gates.select(on_channel, [wanted, picture], channel, show_progress="minimal", **one_by_one)
    for shown_tab, mode in ((one_tab, ""), (many_tab, "many")):
        shown_tab.select(None, js=f"() => resnetSpace.show('predict', {{view: '{mode}'}})", **QUIET)
    # An answer is there before anything is clicked, once the tab is looked at.
    with_example = partial(want, how="looked")
    with_example(tab.select)
    want(shared.settled.then, "arrived")
    opened = want(shared.settled.then(open_link, None, other, **QUIET).then, "late")
    opened.then(on_subject, subject.run, tested, **QUIET)
    subject.run.change(on_subject, subject.run, tested, **LATEST)
    names.change(lambda known: gr.update(choices=with_nothing(known)), names, other, **QUIET)
    wire_pull(pulled, shared)
    return PredictTab(with_example, opened, mistakes)


def with_nothing(names: Sequence[str]) -> list[tuple[str, str]]:
    """(label, run) of what a prediction can be compared with."""
    return [("nothing", ""), *((name, name) for name in names)]
