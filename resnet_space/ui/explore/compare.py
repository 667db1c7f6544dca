"""Up to four networks side by side on the same images."""

import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from resnet_space.plots import Chart, residuals
from resnet_space.plots.residuals import quartiles
from resnet_space.serve.refusals import refusal
from resnet_space.serve.workshop import Workshop
from resnet_space.ui.explore import words
from resnet_space.ui.explore.findings import Findings, Progress, measured
from resnet_space.ui.explore.images import Images
from resnet_space.ui.explore.views.norms import block_norms, ratio_medians
from resnet_space.ui.explore.views.view import NORM, RESIDUAL, rounded

MOST = 4
ABOUT = (
    "Up to four networks on the same images: before and after fine-tuning, with and without CBAM, of another depth, or "
    "untrained, with random weights. The first one is what the others are compared with."
)
CAPTION = (
    f"{RESIDUAL}, x what comes through the shortcut. {NORM} Lines are medians over the images, bars quartiles. "
    "Responses: standard deviation of each 3x3 convolution's output after BatchNorm (He et al. 2015, figure 7)."
)


@dataclass(frozen=True, eq=False)
class Compared:
    """What was measured of each, in the order of the choice."""

    found: tuple[Findings, ...]

    @property
    def ratios(self) -> dict[str, dict[str, float]]:
        """Network -> block -> median ratio. A plain network has none."""
        return {
            f.subject: dict(zip(f.measured.norms.blocks, ratio_medians(f), strict=True))
            for f in self.found
            if not f.measured.plain
        }

    @property
    def words(self) -> str:
        ratios = self.ratios
        told = [words.compare_words(ratios)] if len(ratios) > 1 else []
        told += [f"**{f.subject}** is plain: it has responses, but no ratio." for f in self.found if f.measured.plain]
        responses = {f.subject: f.measured.responses.std.tolist() for f in self.found if f.measured.responses.layers}
        if len(responses) > 1:
            means = ", ".join(
                f"{name} {sum(std) / len(std):.2f} ({len(std)} layers)" for name, std in responses.items()
            )
            told.append(f"Mean standard deviation of the responses: {means}.")
        return "\n\n".join(told)

    @property
    def charts(self) -> list[Chart | None]:
        runs = {
            f.subject: (block_norms(f), [quartiles(block.ratios) for block in block_norms(f)])
            for f in self.found
            if not f.measured.plain
        }
        layers = {
            f.subject: [*zip(f.measured.responses.layers, f.measured.responses.std.tolist(), strict=True)]
            for f in self.found
            if f.measured.responses.layers
        }
        return [
            residuals.compare_chart(runs) if runs else None,
            residuals.responses_chart(layers) if layers else None,
            residuals.responses_chart(layers, ordered=True) if layers else None,
        ]

    @property
    def caption(self) -> str:
        first = self.found[0]
        names = ", ".join(f.subject for f in self.found)
        return f"{names} on {first.images.words(first.measured.images)}. {CAPTION}"

    @property
    def table(self) -> tuple[list[str], list[list[Any]]]:
        rows = [
            [f.subject, block.name, *map(rounded, quartiles(block.ratios))]
            for f in self.found
            for block in block_norms(f)
        ]
        return ["network", "block", "ratio: lower quartile", "median", "upper quartile"], rows


def compare(
    workshop: Workshop, names: Sequence[str] | None, images: Images, stop: threading.Event
) -> Generator[tuple[Progress, Compared | None], None, None]:
    """Measure one network after the other; the last yield has all that were measured. Raises gr.Error."""
    chosen = list(dict.fromkeys(names or ()))
    if not 2 <= len(chosen) <= MOST:
        raise refusal(f"{len(chosen)} networks are chosen, but 2 to {MOST} can be compared: choose again.")
    found: list[Findings] = []
    progress = None
    for i, name in enumerate(chosen):
        for progress, latest, _ in measured(workshop, name, images, stop):
            part = Progress(f"{name} ({i + 1} of {len(chosen)})", progress.done, progress.total, progress.seconds)
            found[i:] = [latest]
            yield part, None
        if stop.is_set():
            break
    if progress is not None:
        yield progress, Compared(tuple(found))
