"""The three questions that the tab opens with, each answered from measurements of the runs that ship.

A card has the question, its answer in a sentence, a chart and the paper that asked it. A click opens the view that
shows more.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from resnet_space.common.errors import UserError
from resnet_space.plots import Chart
from resnet_space.plots.residuals.profiles import accuracy_bars, compare_chart, lesion_chart
from resnet_space.runs import BACKBONE, DEEP, PLAIN, SHOWPIECE
from resnet_space.serve.context import AppContext
from resnet_space.ui.explore.comparing import WITHOUT_ONE
from resnet_space.ui.explore.images import Images
from resnet_space.ui.explore.measuring import Findings, measure_network, measure_on_demand
from resnet_space.ui.explore.networks import Network
from resnet_space.ui.explore.scores import tested
from resnet_space.ui.explore.views.lesion import EACH, Lesion
from resnet_space.ui.explore.views.norms import Norms, block_norms, ratio_medians
from resnet_space.ui.explore.views.view import Table, rounded, stages_of
from resnet_space.ui.explore.wording import percent
from resnet_space.ui.exports import Export, place_exports
from resnet_space.ui.html import place_report

FEW, SOME = (Images("cifar10-mini", "test", count) for count in (64, 200))
HEIGHT = 180  # pixels of a card's chart
TESTED = """from resnet_space.runs import Run, last_metric

for name in {names!r}:
    print(name, last_metric(Run.open(f"checkpoints/{{name}}").metrics(), "test"))
"""


@dataclass(frozen=True)
class Answer:
    """What a card shows."""

    words: str
    chart: Chart
    table: Table
    python: str | None


@dataclass(frozen=True)
class Question:
    """One card.

    Attributes:
        key: in the page's ids.
        asked: the question.
        paper, address: who asked it, and where.
        networks: by the names of the runs that it is about; the first becomes the subject when it is opened.
        view: the key of the view that shows more.
        images: that are measured, and with which its view is opened.
        answer: measures what is not kept yet. Raises UserError.
    """

    key: str
    asked: str
    paper: str
    address: str
    networks: tuple[str, ...]
    view: str
    images: Images
    answer: Callable[[AppContext], Answer]

    def is_there(self, context: AppContext) -> bool:
        """Whether all its runs are."""
        return set(self.networks) <= set(context.trained_names())

    def html(self, words: str) -> str:
        """Without the chart, of which there is only the place."""
        return (
            f'<h2>{escape(self.asked)}</h2><p class="answer">{words}</p>'
            f'<div class="chart" data-chart="answer" style="min-height: {HEIGHT}px"></div>'
            f'<p class="paper"><a href="{self.address}" target="_blank" rel="noopener">{escape(self.paper)}</a></p>'
        )


def shortcuts(context: AppContext) -> Answer:
    """The test accuracy of a deep network with shortcuts, and of the same without."""
    results = {name: result for name in (DEEP, PLAIN) if (result := tested(context, Network(name)))}
    if len(results) < 2:
        raise UserError("The runs that this question compares were not tested.")
    with_them, without = results[DEEP].interval[1], results[PLAIN].interval[1]
    depth = context.library.open(DEEP).config.model.entry.depth
    words = (
        f"<b>{100 * (with_them - without):.1f} points of accuracy</b> at {depth} layers: {percent(with_them)} with "
        f"shortcuts, {percent(without)} without."
    )
    chart = accuracy_bars(
        {"shortcuts": results[DEEP].interval, "none": results[PLAIN].interval}, "Test accuracy, with its 95 % interval"
    )
    rows = [
        [name, result.on, result.images, result.correct, *map(rounded, result.interval)]
        for name, result in results.items()
    ]
    table = (["network", "test set", "images", "correct", "interval: lower end", "accuracy", "upper end"], rows)
    return Answer(words, chart, table, TESTED.format(names=(DEEP, PLAIN)))


def fine_tuning(context: AppContext) -> Answer:
    """The ratio by depth before and after fine-tuning."""
    before, after = (_measured(context, name, FEW) for name in (BACKBONE, SHOWPIECE))
    ratios = [ratio_medians(findings) for findings in (before, after)]
    blocks = after.measured.norms.blocks
    change = {block: b / a for block, a, b in zip(blocks, *ratios, strict=True) if a > 0 and b > 0}
    most = max(change, key=lambda block: abs(change[block] - 1))
    stages = dict(zip(blocks, after.measured.stages, strict=True))
    last = [c for block, c in change.items() if stages[block] == max(stages.values())]
    others = [c for block, c in change.items() if stages[block] < max(stages.values())]
    late = _mean_change(last) > _mean_change(others)
    there, elsewhere = (percent(_mean_change(changes), 0) for changes in ((last, others) if late else (others, last)))
    words = (
        f"<b>Mostly {'the last stage' if late else 'the early stages'}:</b> ‖F(x)‖ / ‖x‖ changes by {there} there on "
        f"average, by {elsewhere} elsewhere; most in {most} ({100 * (change[most] - 1):+.0f} %)."
    )
    labelled = {
        label: (block_norms(findings), ratio_medians(findings))
        for label, findings in (("before", before), ("after", after))
    }
    rows = [[block, *map(rounded, pair)] for block, *pair in zip(blocks, *ratios, strict=True)]
    table = (["block", "median ratio before", "median ratio after"], rows)
    python = "\n".join(Norms().python().lines(f.network, f.images) for f in (before, after))
    return Answer(words, compare_chart(labelled, "‖F(x)‖ / ‖x‖ by depth", order=["before", "after"]), table, python)


def _mean_change(changes: list[float]) -> float:
    return sum(abs(c - 1) for c in changes) / max(len(changes), 1)


def blocks(context: AppContext) -> Answer:
    """The accuracy without each block."""
    findings = _measured(context, SHOWPIECE, SOME)
    *_, (_, each, _) = measure_on_demand(context, findings, EACH, threading.Event())
    names = [" + ".join(lesion.blocks) for lesion in each.lesions]
    accuracy = each.accuracy.tolist()
    worst, best = (pick(range(len(names)), key=accuracy.__getitem__) for pick in (min, max))
    words = (
        f"<b>{names[worst]}:</b> without it, the accuracy falls from {percent(each.base_accuracy)} to "
        f"{percent(accuracy[worst])}; without {names[best]}, only to {percent(accuracy[best])}."
    )
    findings.on_demand[EACH.id] = each
    chart = lesion_chart(names, stages_of(findings, names), accuracy, each.base_accuracy, title=WITHOUT_ONE)
    chart["layout"]["showlegend"] = False
    return Answer(words, chart, Lesion().table(findings), Lesion.lines.lines(findings.network, SOME))


def _measured(context: AppContext, name: str, images: Images) -> Findings:
    *_, (_, findings, _) = measure_network(context, Network(name), images, threading.Event())
    return findings


QUESTIONS = (
    Question(
        "shortcuts",
        "What do shortcuts buy?",
        "He et al. 2015",
        "https://arxiv.org/abs/1512.03385",
        (DEEP, PLAIN),
        "compare",
        FEW,
        shortcuts,
    ),
    Question(
        "fine-tuning",
        "What did fine-tuning change?",
        "Yosinski et al. 2014",
        "https://arxiv.org/abs/1411.1792",
        (SHOWPIECE, BACKBONE),
        "compare",
        FEW,
        fine_tuning,
    ),
    Question(
        "blocks",
        "Which block matters?",
        "Veit et al. 2016",
        "https://arxiv.org/abs/1605.06431",
        (SHOWPIECE,),
        "lesion",
        SOME,
        blocks,
    ),
)


@dataclass(frozen=True)
class Card:
    """A question on the page."""

    question: Question
    shown: gr.HTML
    open: gr.Button


def place_questions(context: AppContext) -> list[Card]:
    """The cards of the questions whose runs are there, side by side."""
    cards = []
    asked = [question for question in QUESTIONS if question.is_there(context)]
    with gr.Row(elem_id="questions", visible=bool(asked)):
        for question in asked:
            with gr.Column(min_width=260, elem_classes="question"):
                waiting: dict[str, Any] = {"html": question.html("Measuring ..."), "figures": {}}
                shown = place_report(f"question-{question.key}", waiting)
                button = gr.Button("Show more", size="sm", elem_id=f"open-{question.key}")
                with gr.Accordion("Download", open=False):
                    place_exports([], lambda question=question: export_of(context, question))
            cards.append(Card(question, shown, button))
    return cards


def card_value(context: AppContext, question: Question) -> dict[str, Any]:
    """What the card shows; where it cannot be answered, why."""
    try:
        answer = question.answer(context)
    except UserError as error:
        return {"html": question.html(escape(str(error))), "figures": {}}
    return {"html": question.html(answer.words), "figures": {"answer": _small(answer.chart)}}


def _small(chart: Chart) -> Chart:
    """For a card: without what its sentence says already."""
    layout = chart["layout"]
    legend = {"orientation": "v", "x": 0.02, "y": 1, "yanchor": "top", "font": {"size": 11}}
    axis = layout["xaxis"] | {"title": {"text": ""}}
    return chart | {
        "layout": layout
        | {"height": HEIGHT, "margin": {"l": 44, "r": 8, "t": 34, "b": 30}, "legend": legend, "xaxis": axis}
    }


def export_of(context: AppContext, question: Question) -> Export:
    answer = question.answer(context)
    runs = " and ".join(question.networks)
    caption = f"{runs}. {question.paper}."
    return Export(f"question-{question.key}", [answer.chart], caption, answer.table, answer.python)
