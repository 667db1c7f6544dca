"""A strategy's phases as a drawing: which part of the network trains when, and at which rate."""

import math
from collections.abc import Sequence

from resnet_space.config import ModelConfig
from resnet_space.models.registry import HEAD
from resnet_space.training.strategies import STRATEGIES, Phase, backbone_parts
from resnet_space.ui.html import note_html


def plan_html(strategy: str, phases: Sequence[Phase], model: ModelConfig) -> str:
    """A row for every part, from the head down to the stem; a cell for every phase, as wide as it is long.

    What trains has its peak learning rate in it, the darker the higher; a head that is solved has none.
    """
    parts = [*backbone_parts(model), *model.added_parts, HEAD][::-1]
    rates = [rate for phase in phases if not phase.solved for rate in phase.rates.values()] or [1.0]
    low, high = math.log(min(rates)), math.log(max(rates))
    columns = " ".join(f"minmax(3.4rem, {phase.epochs}fr)" for phase in phases)
    cells = []
    for part in parts:
        cells.append(f'<div class="part">{part}</div>')
        for phase in phases:
            rate = _rate(phase, part)
            if rate is None:
                cells.append('<div class="frozen">frozen</div>')
                continue
            if phase.solved:
                cells.append('<div class="trains" style="--share: 1">solved</div>')
                continue
            share = 1 if high == low else (math.log(rate[1]) - low) / (high - low)
            text = f"{rate[1]:.2g}" if rate[0] == rate[1] else f"{rate[0]:.2g} to {rate[1]:.2g}"
            cells.append(f'<div class="trains" style="--share: {share:.2f}">{text}</div>')
    first = 1
    heads = ['<div class="part"></div>']
    for phase in phases:
        last = first + phase.epochs - 1
        heads.append(f'<div class="epochs">epoch{"s" if last > first else ""} {_span(first, last)}</div>')
        first = last + 1
    entry = STRATEGIES[strategy]
    stepped = any(not phase.solved for phase in phases)
    note = f"<b>{entry.label}</b>: {entry.summary} ({entry.source}).{' The rates are peaks.' if stepped else ''}"
    return f'{note_html(note)}<div class="plan" style="--columns: {columns}">{"".join([*heads, *cells])}</div>'


def _rate(phase: Phase, part: str) -> tuple[float, float] | None:
    """The lowest and highest rate within a part; None where it is frozen."""
    within = [rate for name, rate in phase.rates.items() if name == part or name.startswith(f"{part}.")]
    return (min(within), max(within)) if within else None


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} to {last}"
