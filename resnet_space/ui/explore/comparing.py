"""Up to four networks on the same images: what is measured of each, and what it tells."""

import math
import threading
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from resnet_space.common.errors import UserError
from resnet_space.common.text import markdown_text
from resnet_space.plots import Chart
from resnet_space.plots.residuals.depth import Block, quartiles
from resnet_space.plots.residuals.profiles import PERCENT, accuracy_bars, compare_chart, responses_chart
from resnet_space.serve.context import AppContext
from resnet_space.ui.explore.images import Images
from resnet_space.ui.explore.measuring import Findings, OnDemand, Progress, is_quick, measure_network, measure_on_demand
from resnet_space.ui.explore.networks import Network
from resnet_space.ui.explore.scores import Score, accuracy_words, tested
from resnet_space.ui.explore.views import VIEWS
from resnet_space.ui.explore.views.lesion import EACH
from resnet_space.ui.explore.views.norms import block_norms, ratio_medians
from resnet_space.ui.explore.views.responses import layers_of
from resnet_space.ui.explore.views.view import Table, medians, rounded, stages_of
from resnet_space.ui.explore.wording import NORM, QUARTILES, RESIDUAL, percent
from resnet_space.ui.exports import Export, stem

MOST_NETWORKS, CHARTS = 4, 5
WITHOUT_ONE = "Accuracy with one block removed (dashed: intact)"
ALIKE = 1.02  # a ratio of two medians below which a block has not changed
DEFINITIONS = (
    f"Accuracy of each run on its test set with its 95 % interval (Wilson). L: cross-entropy. {RESIDUAL} {NORM} Lines: "
    "medians over the images; bars: quartiles."
)
# Of plain networks, too, which have no branches to tell apart.
GRADIENTS: "OnDemand[Any]" = OnDemand(
    "gradients-of-all",
    "",
    "gradients",
    lambda residuals, model, batches: residuals.gradients(model, batches, contrast=False, plain=True),
    passes=lambda _blocks: 3,
)


@dataclass(frozen=True, eq=False)
class Comparison:
    """What was measured of each so far, in the order of the choice.

    Attributes:
        findings: of each network, with its gradients and removed blocks where they were measured.
        tests: by label, of the runs that were tested.
    """

    findings: tuple[Findings, ...]
    tests: Mapping[str, Score] = field(default_factory=dict)

    def is_of(self, networks: Sequence[Network], images: Images) -> bool:
        """Whether it has all of these networks, in this order, on these images."""
        if len(self.findings) != len(networks):
            return False
        return all(f.are_of(network, images) for f, network in zip(self.findings, networks, strict=True))

    @property
    def residual(self) -> dict[str, Findings]:
        """By label; a plain network has no ratios."""
        return {f.network.label: f for f in self.findings if not f.measured.plain}

    @property
    def responses(self) -> dict[str, list[tuple[str, float]]]:
        return {f.network.label: layers_of(f) for f in self.findings if f.measured.responses.layers}

    def measured(self, wanted: OnDemand[Any]) -> dict[str, tuple[Findings, Any]]:
        """By label: the findings, and the result."""
        results = {f.network.label: (f, wanted.of(f)) for f in self.findings}
        return {label: (f, result) for label, (f, result) in results.items() if result is not None}

    @property
    def words(self) -> str:
        words = [accuracy_words(self.tests)] if self.tests else []
        gradients = {label: medians(g.norm) for label, (_, g) in self.measured(GRADIENTS).items()}
        words += [gradients_words(gradients)] if gradients else []
        each = {label: (each.base_accuracy, each.accuracy.tolist()) for label, (_, each) in self.measured(EACH).items()}
        words += [removed_words(each)] if each else []
        blocks = {label: (f.measured.norms.blocks, ratio_medians(f)) for label, f in self.residual.items()}
        ratios = {label: dict(zip(*of, strict=True)) for label, of in blocks.items()}
        words += [compare_words(ratios)] if len(ratios) > 1 else []
        plain = [f.network.label for f in self.findings if f.measured.plain]
        words += [f"**{markdown_text(label)}** has no shortcuts, so it has no ratio." for label in plain]
        return "\n\n".join(words)

    @property
    def charts(self) -> list[Chart | None]:
        """Accuracy, gradients, removed blocks, ratios, layer outputs; None for what is not measured."""
        charts: list[Chart | None] = [None] * CHARTS
        order = [f.network.label for f in self.findings]
        order += [label for label in self.tests if label not in order]  # not measured yet
        if intervals := {label: test.interval for label, test in self.tests.items()}:
            charts[0] = accuracy_bars(intervals, "Accuracy on the test set, with its 95 % interval", order=order)
        if found := self.measured(GRADIENTS):
            norms = {label: (_blocks(f, g.blocks), medians(g.norm)) for label, (f, g) in found.items()}
            axis = {"title": "‖∂L/∂x‖", "type": "log", "exponentformat": "power"}
            title, value = "Gradient at each block's input: median", "‖∂L/∂x‖ = %{y:.3g}"
            charts[1] = compare_chart(norms, title, axis, at={}, value=value, order=order)
        if found := self.measured(EACH):
            removed = {
                label: (_blocks(f, [" + ".join(lesion.blocks) for lesion in each.lesions]), each.accuracy.tolist())
                for label, (f, each) in found.items()
            }
            axis, value = {"title": "accuracy", **PERCENT}, "accuracy %{y:.1%}"
            intact = {label: each.base_accuracy for label, (_, each) in found.items()}
            charts[2] = compare_chart(removed, WITHOUT_ONE, axis, at=intact, value=value, order=order)
        if blocks := {label: block_norms(f) for label, f in self.residual.items()}:
            ratios = {label: (of, [quartiles(block.ratios) for block in of]) for label, of in blocks.items()}
            charts[3] = compare_chart(ratios, order=order)
        if self.responses:
            charts[4] = responses_chart(self.responses, ordered=True, order=order)
        return charts

    @property
    def table(self) -> Table:
        """One row a network and block, with the network's test result in each."""
        columns = ["network", "test set", "test images", "test images correct", "block"]
        columns += [f"ratio: {QUARTILES[0]}", *QUARTILES[1:], "median norm of dL/dx", "accuracy without the block"]
        rows: list[list[Any]] = []
        for f in self.findings:
            test, gradients, each = self.tests.get(f.network.label), GRADIENTS.of(f), EACH.of(f)
            score = (test.on, test.images, test.correct) if test else ("", None, None)
            norms = dict(zip(gradients.blocks, medians(gradients.norm), strict=True)) if gradients else {}
            lesions = zip(each.lesions, each.accuracy.tolist(), strict=True) if each else ()
            without = {name: accuracy for lesion, accuracy in lesions for name in lesion.blocks}
            for block in block_norms(f):
                more = (rounded(values.get(block.name, math.nan)) for values in (norms, without))
                rows.append([f.network.label, *score, block.name, *map(rounded, quartiles(block.ratios)), *more])
        return columns, rows

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


def _blocks(findings: Findings, names: Sequence[str]) -> list[Block]:
    return [Block(name, True, stage) for name, stage in zip(names, stages_of(findings, names), strict=True)]


def compare(
    context: AppContext, networks: Sequence[Network], images: Images, stop: threading.Event, *, costly: bool = True
) -> Generator[tuple[Progress, Comparison], None, None]:
    """Measure one network after the other; each yield has all that were measured so far.

    `stop` is set to end it. `costly`: also measure gradients and removed blocks where they take long. Raises UserError
    for less than 2 or more than 4 networks, and for what cannot be measured.
    """
    chosen = list(dict.fromkeys(networks))
    if not 2 <= len(chosen) <= MOST_NETWORKS:
        raise UserError(
            f"{len(chosen)} network{' is' if len(chosen) == 1 else 's are'} chosen, but 2 to {MOST_NETWORKS} can be "
            "compared: choose others to compare with."
        )
    tests = {network.label: test for network in chosen if (test := tested(context, network)) is not None}
    comparison = Comparison((), tests)
    for i, network in enumerate(chosen):
        of = f" ({i + 1} of {len(chosen)})"
        for progress, latest, _ in measure_network(context, network, images, stop):
            comparison = Comparison((*comparison.findings[:i], latest), tests)
            yield replace(progress, what=network.label + of), comparison
        if stop.is_set():
            return
    for i, findings in enumerate(comparison.findings):
        blocks = len(findings.measured.norms.blocks)
        for wanted in (GRADIENTS, EACH) if findings.labelled else ():
            cost = wanted.passes(blocks)
            if not costly and not is_quick(context, findings.network, findings.measured.images, cost):
                continue
            for progress, result, _ in measure_on_demand(context, findings, wanted, stop):
                findings.on_demand[wanted.id] = result
                yield replace(progress, what=f"{progress.what} ({i + 1} of {len(chosen)})"), comparison
            if stop.is_set():
                return


def gradients_words(norms: Mapping[str, Sequence[float]]) -> str:
    """How much of the gradient reaches the first block of each network, by medians."""
    shares = ", ".join(
        f"{norm[0] / norm[-1]:.2g} in {markdown_text(label)}" for label, norm in norms.items() if norm and norm[-1]
    )
    return f"Gradient at the first block relative to the last: {shares}." if shares else ""


def removed_words(removed: Mapping[str, tuple[float, Sequence[float]]]) -> str:
    """What removing one block costs on average, by network: (intact accuracy, accuracy without each block)."""
    costs = "; ".join(
        f"{100 * (intact - _mean(without)):.1f} points in {markdown_text(label)} (intact: {percent(intact)})"
        for label, (intact, without) in removed.items()
    )
    return f"Removing one block costs on average {costs}."


def compare_words(runs: Mapping[str, Mapping[str, float]]) -> str:
    """Which blocks differ most between the first network and each of the others, by their median ratios."""
    (name, first), *others = runs.items()
    words = []
    for other, ratios in others:
        common = [b for b in first if b in ratios and first[b] > 0 and ratios[b] > 0]
        if list(first) != list(ratios):
            words.append(
                f"**{other}** has {len(ratios)} blocks and **{name}** {len(first)}; the mean ratio ‖F(x)‖ / ‖x‖ is "
                f"{_mean(ratios.values()):.2f} and {_mean(first.values()):.2f}."
            )
            continue
        if not common:
            words.append(f"**{other}** has no ratio to compare.")
            continue
        change = {block: ratios[block] / first[block] for block in common}
        order = sorted(change, key=lambda block: -abs(math.log(change[block])))
        if abs(math.log(change[order[0]])) < math.log(ALIKE):
            words.append(f"**{other}** and **{name}** hardly differ: no ratio by more than {percent(ALIKE - 1, 0)}.")
            continue
        listed = ", ".join(f"**{b}** ({first[b]:.2f} → {ratios[b]:.2f})" for b in order[:3])
        rose = sum(c > 1 for c in change.values())
        words.append(
            f"From {name} to **{other}**, the ratio ‖F(x)‖ / ‖x‖ changes most in {listed} and least in {order[-1]} "
            f"({first[order[-1]]:.2f} → {ratios[order[-1]]:.2f}). It rises in {rose} of {len(common)} blocks."
        )
    return "\n\n".join(words)


def _mean(values: Iterable[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan
