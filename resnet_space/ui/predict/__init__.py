"""The predict tab: a picture and a run -> the top-5, where the model finds each class, and whether that is true.

Files: `looks` (what a run makes of a picture), `answer`, `maps`, `evidence` (each to HTML), `examples`, `mistakes`
(what was wrong, kept as a data set), `batch` and `many` (many pictures). `ui/predict.js` is what the page does itself.
"""

from collections.abc import Callable, Iterator, Sequence
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
from resnet_space.ui.predict.evidence import evidence_value
from resnet_space.ui.predict.examples import build_examples, example_file, example_of
from resnet_space.ui.predict.looks import Look, look, looks
from resnet_space.ui.predict.many import build_many
from resnet_space.ui.predict.maps import channel_html, class_maps_html, gates_html, program_html
from resnet_space.ui.predict.mistakes import Mistakes, build_mistakes
from resnet_space.ui.pull import build_pull, wire_pull
from resnet_space.ui.scripts import SCRIPTS

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
    """What the other tabs need: the choice of the run, what shows an example after an event where there is no picture
    yet (`with_example`), when what the page's address names was chosen (`opened`), and the mistakes, which a training
    can learn from.
    """

    run: gr.Dropdown
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
            run = run_dropdown(trained, context.default_name())
            other = run_dropdown(with_nothing(trained), "", label="Compare with")
            pulled = build_pull(context, visitor)
            button = gr.Button("Predict", variant="primary")
        with gr.Column(scale=2, min_width=320):
            answer = gr.HTML(EMPTY, js_on_load="resnetSpace.predict.answer(element, watch)", elem_id="answer", **PLAIN)
            with gr.Column(visible=False) as once_answered:
                mistakes = build_mistakes(context, visitor, picture, run)
                gr.HTML(OPACITY, js_on_load="resnetSpace.predict.opacity(element)", elem_id="opacity", **PLAIN)
            why = gr.HTML("", js_on_load=MAPS, elem_id="why", **PLAIN)
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
    build_many(context, run)
    with gr.Column(visible=False):  # what programs get of this tab
        label = gr.Label(label="Top 5", num_top_classes=5)
        maps = gr.HTML(label="Attention maps")
        ask = gr.Button()
    subject = gr.Textbox(visible="hidden")  # the picture and the runs, in one

    @costly
    def predict(image: dict[str, Any] | None, run: str) -> tuple[dict[str, float], str]:
        """Classify a picture.

        Args:
            image: a photograph of at most 50 million pixels, uploaded or as a data: URL; JPEG, PNG, WebP, GIF, TIFF.
            run: a trained run's name; one that is always there is resnet20-cbam-cifar10.

        Returns:
            The five most probable classes with their calibrated probabilities, and as HTML a warning where the picture
            is unlike what the model was trained on, and the attention maps.
        """
        with context.slots.taken("predictions"):
            predicted = look(context, read_picture(image), run, features=False)
        top = dict(zip(predicted.prediction.classes, predicted.prediction.probabilities, strict=True))
        return top, program_html(predicted)

    def look_again(image: dict[str, Any] | None, run: str, other: str | None) -> list[Look]:
        return looks(context, image, [run, other or None])

    @costly
    def on_picture(image: dict[str, Any] | None, run: str, other: str | None) -> Iterator[dict[Any, Any]]:
        """The answer first, its maps when they are drawn."""
        nothing = {answer: EMPTY, once_answered: gr.update(visible=False), evidence: NO_EVIDENCE}
        nothing |= dict.fromkeys((why, gates, channel), "")
        if not (image and run):
            yield nothing
            return
        try:
            predicted = look_again(image, run, other)
        except Exception:
            yield nothing  # nobody is to take the maps of another picture for this one's
            raise
        yield {
            answer: answers_html(predicted, example_of(image)),
            once_answered: gr.update(visible=True),
            mistakes.label: gr.update(choices=list(predicted[0].classifier.config.classes)),
        }
        with context.slots.taken("predictions"):
            maps = class_maps_html(predicted)
        yield {why: maps, evidence: NO_EVIDENCE, gates: gates_html(predicted), channel: ""}

    @costly
    def on_button(image: dict[str, Any] | None, run: str, other: str | None) -> Iterator[dict[Any, Any]]:
        if not (image and image.get("path")):
            read_picture(image)
        yield from on_picture(image, run, other)

    def one(image: dict[str, Any] | None, run: str, other: str | None, side: object) -> Look:
        """The run that a click was about."""
        predicted = look_again(image, run, other)
        return predicted[1] if side == 1 and len(predicted) == 2 else predicted[0]

    @costly
    def on_evidence(
        of: str,
        image: dict[str, Any] | None,
        run: str,
        other: str | None,
        event: gr.EventData,
        progress: gr.Progress = PROGRESS,
    ) -> dict[str, Any]:
        chosen = one(image, run, other, event.side)
        if not isinstance(event.index, int):
            raise UserError("Choose a class first.")
        with context.slots.taken("tests of maps"):
            value = evidence_value(
                chosen, event.kind, event.index, lambda share: progress(share, desc="Testing the maps, and random ones")
            )
        return value | {"of": of}

    @costly
    def on_channel(of: str, image: dict[str, Any] | None, run: str, other: str | None, event: gr.EventData) -> str:
        chosen = one(image, run, other, event.side)
        gates = chosen.prediction.attention.channel
        channel, module = event.channel, str(event.module)
        if module not in gates or not isinstance(channel, int) or not 0 <= channel < gates[module].shape[1]:
            raise UserError("There is no such channel: choose one of those in the chart.")
        return channel_html(chosen, module, channel, of)

    def open_link(request: gr.Request) -> Any:
        """The runs and the example that the page's address names: whoever has it may look at them."""
        asked = dict(request.query_params)
        if asked.get("tab") != "predict":
            return gr.skip()
        chosen = []
        for name in (asked.get("run"), asked.get("with")):
            try:
                linked = context.library.open(name or "")
                chosen.append(linked.name if linked.has_weights else None)
            except UserError:
                chosen.append(None)
            if name and not chosen[-1]:
                warn(f"There is no run {name[:100]!r} here that could predict: it may have been deleted.")
        known = [*dict.fromkeys([*context.trained_names(), *filter(None, chosen)])]
        return {
            run: gr.update(choices=known, value=chosen[0]) if chosen[0] else gr.skip(),
            other: gr.update(choices=with_nothing(known), value=chosen[1]) if chosen[1] else gr.skip(),
            picture: example_file(asked.get("example")),
        }

    def on_names(known: list[str]) -> dict[Any, Any]:
        return {run: gr.update(choices=known), other: gr.update(choices=with_nothing(known))}

    seen: list[Any] = [picture, run, other]
    views = [answer, once_answered, mistakes.label, why, evidence, gates, channel]
    last: Any = PRIVATE | {"trigger_mode": "always_last", "show_progress_on": answer}
    one_by_one: Any = EACH | {"concurrency_limit": 1}
    ask.click(predict, [picture, run], [label, maps], api_name="predict", preprocess=False)
    gr.on([picture.change, run.change, other.change], None, seen, subject, js="resnetSpace.picture.want", **QUIET)
    subject.change(None, None, [mistakes.label, mistakes.report], js="() => [null, '']", **QUIET)
    subject.change(on_picture, seen, views, **last)
    button.click(on_button, seen, views, **last)
    gr.on([why.submit, gates.submit], on_evidence, [subject, *seen], evidence, **one_by_one)
    gates.select(on_channel, [subject, *seen], channel, show_progress="minimal", **one_by_one)
    # An answer is there before anything is clicked, once the tab is looked at.
    with_example(tab.select)
    opened = app.load(open_link, None, [run, other, picture], **QUIET)
    names.change(on_names, names, [run, other], **QUIET)
    wire_pull(pulled, names, run)
    return PredictTab(run, with_example, opened, mistakes)


def with_nothing(names: Sequence[str]) -> list[tuple[str, str]]:
    """(label, run) of what a prediction can be compared with."""
    return [("nothing", ""), *((name, name) for name in names)]
