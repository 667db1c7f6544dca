"""The sub-tab of up to four networks side by side on the same images."""

import math
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from resnet_space.common.errors import UserError
from resnet_space.plots import Chart
from resnet_space.plots.residuals.depth import quartiles
from resnet_space.plots.residuals.profiles import compare_chart, responses_chart
from resnet_space.runs import BACKBONE, DEEP, PLAIN, SHALLOW, SHOWPIECE
from resnet_space.serve.context import AppContext
from resnet_space.serve.handlers import costly
from resnet_space.ui.events import QUIET
from resnet_space.ui.explore.controls import chosen_images
from resnet_space.ui.explore.images import Images
from resnet_space.ui.explore.measuring import Findings, Progress, measure_network
from resnet_space.ui.explore.memory import MEMORY, Handle, value_of
from resnet_space.ui.explore.networks import UNTRAINED, Network, network_choices
from resnet_space.ui.explore.view_tab import charts_update, place_chart
from resnet_space.ui.explore.views import VIEWS
from resnet_space.ui.explore.views.norms import block_norms, ratio_medians
from resnet_space.ui.explore.views.responses import layers_of
from resnet_space.ui.explore.views.view import NORM, QUARTILES, RESIDUAL, Table, rounded
from resnet_space.ui.exports import Export, place_exports, stem
from resnet_space.ui.stops import Stops

MOST_NETWORKS = 4
ALIKE = 1.02  # a ratio of two medians below which a block has not changed
ABOUT = (
    "Up to four networks on the same images: before and after fine-tuning, with and without CBAM, of another depth, or "
    "untrained, with random weights. The first one is what the others are compared with."
)
DEFINITIONS = (
    f"{RESIDUAL}, x what comes through the shortcut. {NORM} Lines are medians over the images, bars quartiles. "
    "Responses: standard deviation of each 3x3 convolution's output after BatchNorm (He et al. 2015, figure 7)."
)
# What can be compared at once, with what ships: the button's words -> the networks.
AT_ONCE = {
    "Untrained and trained": (str(Network(SHOWPIECE, UNTRAINED)), SHOWPIECE),
    "Before and after fine-tuning": (BACKBONE, SHOWPIECE),
    "Shallow and deep": (SHALLOW, DEEP),
    "With and without shortcuts": (DEEP, PLAIN),
}


@dataclass(frozen=True, eq=False)
class Comparison:
    """What was measured of each, in the order of the choice."""

    findings: tuple[Findings, ...]

    @property
    def residual(self) -> dict[str, Findings]:
        """By label; a plain network has no ratios."""
        return {f.network.label: f for f in self.findings if not f.measured.plain}

    @property
    def responses(self) -> dict[str, list[tuple[str, float]]]:
        return {f.network.label: layers_of(f) for f in self.findings if f.measured.responses.layers}

    @property
    def words(self) -> str:
        ratios = {
            label: dict(zip(f.measured.norms.blocks, ratio_medians(f), strict=True))
            for label, f in self.residual.items()
        }
        words = [compare_words(ratios)] if len(ratios) > 1 else []
        words += [
            f"**{f.network.label}** is plain: it has responses, but no ratio."
            for f in self.findings
            if f.measured.plain
        ]
        if len(self.responses) > 1:
            means = ", ".join(
                f"{label} {_mean(std for _, std in layers):.2f} ({len(layers)} layers)"
                for label, layers in self.responses.items()
            )
            words.append(f"Mean standard deviation of the responses: {means}.")
        return "\n\n".join(words)

    @property
    def charts(self) -> list[Chart | None]:
        blocks = {label: block_norms(f) for label, f in self.residual.items()}
        runs = {label: (norms, [quartiles(block.ratios) for block in norms]) for label, norms in blocks.items()}
        layers = self.responses
        return [
            compare_chart(runs) if runs else None,
            *(responses_chart(layers, ordered=ordered) if layers else None for ordered in (False, True)),
        ]

    @property
    def table(self) -> Table:
        return ["network", "block", f"ratio: {QUARTILES[0]}", *QUARTILES[1:]], [
            [f.network.label, block.name, *map(rounded, quartiles(block.ratios))]
            for f in self.findings
            for block in block_norms(f)
        ]

    @property
    def export(self) -> Export:
        first, labels = self.findings[0], [f.network.label for f in self.findings]
        python = VIEWS[0].python()
        return Export(
            stem("compare", *labels),
            self.charts,
            f"{', '.join(labels)} on {first.images.words(first.measured.images)}. {DEFINITIONS}",
            self.table,
            "\n".join(python.lines(f.network, first.images) for f in self.findings) if python else None,
        )


def compare(
    context: AppContext, ids: Sequence[str] | None, images: Images, stop: threading.Event
) -> Generator[tuple[Progress, Comparison | None], None, None]:
    """Measure one network after the other; the last yield has all that were measured. Raises UserError."""
    chosen = list(dict.fromkeys(map(Network.parse, ids or ())))
    if not 2 <= len(chosen) <= MOST_NETWORKS:
        raise UserError(f"{len(chosen)} networks are chosen, but 2 to {MOST_NETWORKS} can be compared: choose again.")
    findings: list[Findings] = []
    progress = None
    for i, network in enumerate(chosen):
        for progress, latest, _ in measure_network(context, network, images, stop):
            findings[i:] = [latest]
            yield replace(progress, what=f"{network.label} ({i + 1} of {len(chosen)})", stopped=False), None
        if stop.is_set():
            break
    if progress is not None:
        yield progress, Comparison(tuple(findings))


def compare_words(runs: Mapping[str, Mapping[str, float]]) -> str:
    """Which blocks differ most between the first run and each of the others, by their medians."""
    (name, first), *others = runs.items()
    words = []
    for other, ratios in others:
        common = [b for b in first if b in ratios and first[b] > 0 and ratios[b] > 0]
        if list(first) != list(ratios):
            words.append(
                f"**{other}** has {len(ratios)} blocks and **{name}** {len(first)}: on average over the blocks the "
                f"ratio is {_mean(ratios.values()):.2f} there and {_mean(first.values()):.2f} here."
            )
            continue
        if not common:
            words.append(f"**{other}** has no ratio to compare.")
            continue
        change = {block: ratios[block] / first[block] for block in common}
        order = sorted(change, key=lambda block: -abs(math.log(change[block])))
        if abs(math.log(change[order[0]])) < math.log(ALIKE):
            words.append(f"**{other}** and **{name}** hardly differ: no block's ratio by more than {ALIKE - 1:.0%}.")
            continue
        listed = ", ".join(f"**{b}** ({first[b]:.2f} → {ratios[b]:.2f})" for b in order[:3])
        rose = sum(c > 1 for c in change.values())
        words.append(
            f"From {name} to **{other}** these blocks changed most: {listed}; least {order[-1]} "
            f"({first[order[-1]]:.2f} → {ratios[order[-1]]:.2f}). {rose} of {len(common)} change their input more than "
            "before."
        )
    return "\n\n".join(words)


def _mean(values: Iterable[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def build_compare(
    context: AppContext,
    visitor: gr.BrowserState,
    names: gr.State,
    images: list[Any],
    stops: Stops,
    limits: dict[str, Any],
) -> gr.Dropdown:
    """Place the sub-tab and wire its events.

    Args:
        context: what all share.
        visitor: the key that a browser is known by.
        names: the runs that can be measured.
        images: the components that say which images.
        stops: who measures.
        limits: of how many measure at once.

    Returns:
        The choice of networks.
    """
    default, choices = context.default_name(), network_choices(context.trained_names())
    known = {id_ for _, id_ in choices}
    with gr.Tab("Compare", id="compare"):
        # Beside the tab, gradio would count it as one and show it twice.
        comparison = gr.State(None, time_to_live=1_800)
        gr.Markdown(ABOUT, elem_classes="about")
        chosen = gr.Dropdown(
            choices,
            value=[default, str(Network(default, UNTRAINED))] if default else [],
            multiselect=True,
            max_choices=MOST_NETWORKS,
            label="Networks",
        )
        vars(chosen)["api_info"] = lambda: {"type": "array", "items": {"type": "string"}}
        with gr.Row(elem_classes="keep"):
            at_once = {
                networks: gr.Button(label, size="sm", min_width=120)
                for label, networks in AT_ONCE.items()
                if set(networks) <= known
            }
        with gr.Row(elem_classes="keep"):
            button = gr.Button("Compare", variant="primary", size="sm", elem_id="compare-networks")
            stop = gr.Button("Stop comparing", size="sm", visible=False)
        progress = gr.HTML("", apply_default_css=False)
        words = gr.Markdown("", elem_classes="said")
        charts = [place_chart(f"compare-{i}") for i in range(3)]
        place_exports(
            [comparison],
            lambda handle: value_of(handle, "There is nothing compared yet: press Compare first.").export,
        )

    @costly
    def on_compare(
        request: gr.Request, key: str | None, networks: list[str] | None, *values: Any
    ) -> Iterator[dict[Any, Any]]:
        asked = chosen_images(context, key, values)
        with stops.asked(str(request.session_hash)) as event:
            yield {stop: gr.update(visible=True)}
            for now, result in compare(context, networks, asked, event):
                yield {progress: now.html}
                if result is not None:
                    shown = charts_update(charts, result.charts)
                    yield {comparison: MEMORY.count(Handle(result)), words: result.words} | shown
        yield {stop: gr.update(visible=False)}

    def on_stop(request: gr.Request) -> None:
        stops.stop(str(request.session_hash))

    inputs, outputs = [visitor, chosen, *images], [comparison, progress, words, stop, *charts]
    events = [button.click]
    events += [pressed.click(_answer(networks), None, chosen, **QUIET).then for networks, pressed in at_once.items()]
    for event in events:
        event(on_compare, inputs, outputs, **QUIET, **limits).failure(
            lambda: ("", gr.update(visible=False)), None, [progress, stop], **QUIET
        )
    stop.click(on_stop, None, None, queue=False, **QUIET)
    gr.on(
        [names.change, chosen.focus],
        lambda runs: gr.update(choices=network_choices(runs)),
        names,
        chosen,
        **QUIET,
    )
    return chosen


def _answer(networks: Sequence[str]) -> Callable[[], list[str]]:
    return lambda: list(networks)
