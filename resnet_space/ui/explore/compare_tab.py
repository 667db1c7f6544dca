"""The sub-tab in which networks are laid over one another."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gradio as gr

from resnet_space.runs import BACKBONE, DEEP, PLAIN, SHALLOW, SHOWPIECE
from resnet_space.serve.handlers import costly
from resnet_space.serve.workshop import Workshop
from resnet_space.ui.explore.choice import chosen_images
from resnet_space.ui.explore.compare import ABOUT, MOST, Compared, compare
from resnet_space.ui.explore.exports import stem
from resnet_space.ui.explore.findings import Stops
from resnet_space.ui.explore.held import HOLDING, Held, kept
from resnet_space.ui.explore.keep import Kept, place_keep, wire_keep
from resnet_space.ui.explore.places import chart_place
from resnet_space.ui.explore.snippets import several_lines
from resnet_space.ui.explore.subjects import UNTRAINED, subject_names

# What can be compared at once, with what ships: the button's words -> the networks.
AT_ONCE = {
    "Untrained and trained": (f"{SHOWPIECE}{UNTRAINED}", SHOWPIECE),
    "Before and after fine-tuning": (BACKBONE, SHOWPIECE),
    "Shallow and deep": (SHALLOW, DEEP),
    "With and without shortcuts": (DEEP, PLAIN),
}


def build_compare(
    workshop: Workshop,
    visitor: gr.BrowserState,
    names: gr.State,
    images: list[Any],
    stops: Stops,
    limits: dict[str, Any],
) -> gr.Dropdown:
    """Place the sub-tab and wire its events.

    Args:
        workshop: what all share.
        visitor: the key that a browser is known by.
        names: the runs that can be measured.
        images: the components that say which images.
        stops: who measures.
        limits: of how many measure at once.

    Returns:
        The choice of networks.
    """
    default, subjects = workshop.default_name(), subject_names(workshop.trained_names())
    with gr.Tab("Compare", id="compare"):
        compared = gr.State(None, time_to_live=1_800)  # beside the tab, gradio would count it as one and show it twice
        gr.Markdown(ABOUT, elem_classes="about")
        chosen = gr.Dropdown(
            subjects,
            value=[default, f"{default}{UNTRAINED}"] if default else [],
            multiselect=True,
            max_choices=MOST,
            label="Networks",
        )
        vars(chosen)["api_info"] = lambda: {"type": "array", "items": {"type": "string"}}
        with gr.Row(elem_classes="keep"):
            at_once = {
                networks: gr.Button(words, size="sm", min_width=120)
                for words, networks in AT_ONCE.items()
                if set(networks) <= set(subjects)
            }
        with gr.Row(elem_classes="keep"):
            button = gr.Button("Compare", variant="primary", size="sm", elem_id="compare-networks")
            stop = gr.Button("Stop comparing", size="sm", visible=False)
        progress = gr.HTML("", apply_default_css=False)
        said = gr.Markdown("", elem_classes="said")
        charts = [chart_place(f"compare-{i}") for i in range(3)]
        keep = place_keep()

    @costly
    def on_compare(
        request: gr.Request, key: str | None, subjects: list[str] | None, *values: Any
    ) -> Iterator[dict[Any, Any]]:
        asked = chosen_images(workshop, key, values)
        with stops.asked(str(request.session_hash)) as event:
            yield {stop: gr.update(visible=True)}
            for told, result in compare(workshop, subjects, asked, event):
                yield {progress: told.html}
                if result is not None:
                    yield {compared: HOLDING.hold(Held(result)), said: result.words} | {
                        place: gr.update(value=chart or {}, visible=chart is not None)
                        for place, chart in zip(charts, result.charts, strict=True)
                    }
        yield {stop: gr.update(visible=False)}

    def provide(held: Held[Compared] | None) -> Kept:
        result: Compared = kept(held, "There is nothing compared yet: press Compare first.")
        columns, rows = result.table
        names = [found.subject for found in result.found]
        lines = several_lines("norms", names, result.found[0].images)
        return Kept(stem("compare", *names), result.charts, result.caption, columns, rows, lines)

    def on_names(known: list[str]) -> Any:
        return gr.update(choices=subject_names(known))

    def on_stop(request: gr.Request) -> None:
        stops.stop(str(request.session_hash))

    quiet: Any = {"api_visibility": "private", "preprocess": False, "show_progress": "hidden"}
    asked = [button.click]
    asked += [pressed.click(_answer(networks), None, chosen, **quiet).then for networks, pressed in at_once.items()]
    for event in asked:
        event(
            on_compare, [visitor, chosen, *images], [compared, progress, said, stop, *charts], **quiet, **limits
        ).failure(lambda: ("", gr.update(visible=False)), None, [progress, stop], **quiet)
    stop.click(on_stop, None, None, queue=False, **quiet)
    gr.on([names.change, chosen.focus], on_names, names, chosen, **quiet)
    wire_keep(keep, [compared], provide)
    return chosen


def _answer(networks: Sequence[str]) -> Callable[[], list[str]]:
    return lambda: list(networks)
