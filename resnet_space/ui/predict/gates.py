"""The gates of a run's CBAMs: which positions and channels each lets through.

The spatial gates of all runs that are shown share one scale: they are shares.
"""

from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from resnet_space.ui.predict.heads import no_heads
from resnet_space.ui.predict.looks import Look
from resnet_space.ui.predict.maps import ask_html, by_magnitude, map_card, scale_html, side_html, where

WIDTH, HEIGHT = 320, 90  # of the drawn bars
NAMED_CHANNELS = 3  # the most turned up and down
AS_GOOD_AS_NEUTRAL = 0.01


def gates_html(looks: Sequence[Look]) -> str:
    """A fold with the input and, for each CBAM, its spatial gate over the input and its channel gates as bars; empty
    where no run has a CBAM, but one has attention heads.
    """
    attentions = [look.prediction.attention for look in looks]
    every = [gate for attention in attentions for gate in attention.spatial.values()]
    if not every and any(attention.heads for attention in attentions):
        return ""
    low = min((float(gate.min()) for gate in every), default=0.0)
    high = max((float(gate.max()) for gate in every), default=1.0)
    sides = "".join(_gates(look, side, low, high) for side, look in enumerate(looks))
    words = ""
    if every:
        words = (
            "<p>CBAM multiplies each position and each channel of a stage's features by a gate. <b>Bright areas pass "
            "most strongly</b>; a gate of 0.50 leaves features unchanged. The gates are from the forward pass that "
            f"gave the answer.</p>{scale_html('gate', low, high)}"
        )
    return (
        f'<details class="fold" open><summary><h3>Attention gates (CBAM)</h3></summary>{words}'
        f'<div class="sides">{sides}</div></details>'
    )


def _gates(look: Look, side: int, low: float, high: float) -> str:
    attention = look.prediction.attention
    if not attention.spatial:
        why = "" if attention.heads or look.classifier.config.entry.maps else f" {escape(no_heads(look))}"
        none = f"{escape(look.name)} has no CBAM, so it has no gates.{why}"
        see = 'To see gates, choose a run with "cbam" in its name, or train a network with CBAM.'
        return side_html(look, side, look.name, f"<p>{none} {see}</p>")
    cards = [
        f'<figure><div class="view" role="img" aria-label="The input of {escape(look.name)}"></div>'
        "<figcaption><b>input</b><br>resized and cropped</figcaption></figure>"
    ]
    for module, spatial in attention.spatial.items():
        gates = attention.channel[module][0].numpy()
        values = spatial[0].numpy()
        words = f"<b>{escape(gate_words(module))}</b><br>spatial gate {values.min():.2f} to {values.max():.2f}"
        alt = f"Spatial gate {gate_words(module)}, {values.min():.2f} to {values.max():.2f}: {where(values)}"
        card = map_card(values, low, high, words, alt, f"{look.name}-{module}-spatial-gate")
        cards.append(card.removesuffix("</figure>") + _channels(gates, 1 / attention.gain[module], module, side))
    shown = f'<div class="maps gates">{"".join(cards)}</div>{ask_html(look, side, "gates")}'
    return side_html(look, side, look.name, shown)


def gate_words(module: str) -> str:
    """ "cbam2" -> "after stage 2"; "layer2.1.cbam" -> "inside layer2.1"."""
    return f"after stage {module[4:]}" if module.startswith("cbam") else f"inside {module.removesuffix('.cbam')}"


def _channels(gates: NDArray[np.float32], neutral: float, module: str, side: int) -> str:
    """The channel gates as bars, and the most and the least weighted channels as buttons."""
    order = gates.argsort()
    up = [i for i in order[::-1] if gates[i] > neutral + AS_GOOD_AS_NEUTRAL]
    down = [i for i in order if gates[i] < neutral - AS_GOOD_AS_NEUTRAL]
    which = f'data-side="{side}" data-module="{escape(module)}"'
    alt = f"{len(gates)} channel gates: {len(up)} above {neutral:.2f}, {len(down)} below"
    lines = []
    for turned, verb, channels in (("up", "amplified", up), ("down", "damped", down)):
        buttons = "".join(
            f'<button type="button" class="channel {turned}" data-channel="{i}" {which} '
            f'aria-label="Show channel {i}, gate {gates[i]:.2f}">{i}<small>{gates[i]:.2f}</small></button>'
            for i in channels[:NAMED_CHANNELS]
        )
        most = "; strongest:" if buttons else ""
        lines.append(f"<span>{len(channels)} of {len(gates)} channels {verb}{most}</span>{buttons}")
    last = len(gates) - 1
    any_channel = (
        f'<label>Channel <input type="number" class="channel" min="0" max="{last}" placeholder="0 to {last}" '
        f'{which} aria-label="Show a channel of {escape(gate_words(module))}, 0 to {last}"></label>'
    )
    return (
        f'<div class="gate-bars" {which} data-count="{len(gates)}">{bars(gates.tolist(), neutral, alt)}</div>'
        f'<div class="channels">{"".join(f"<p>{line}</p>" for line in lines)}{any_channel}</div></figure>'
    )


def channel_html(look: Look, module: str, channel: int, of: str = "") -> str:
    """One channel's feature map after its gates, over the picture; `of`: the `Wanted` that it belongs to."""
    values = look.prediction.features[module][channel].numpy()
    low, high = float(values.min()), float(values.max())
    gate = float(look.prediction.attention.channel[module][0][channel])
    named = f"channel {channel} {gate_words(module)}"
    span = f"{by_magnitude(low)} to {by_magnitude(high)}"
    words = f"<b>{escape(named)}</b><br>gate {gate:.2f}; feature {span}"
    alt = f"Feature map of {named}, {span}: {where(values)}"
    card = map_card(values, low, high, words, alt, f"{look.name}-{module}-channel-{channel}")
    return (
        f'<div class="one" data-of="{escape(of)}" style="--view: url({look.view_url})"><div class="maps">{card}</div>'
        f"<div><p>This channel of {escape(look.name)} after both gates, on its own scale.</p>"
        f"{scale_html('feature', low, high)}</div></div>"
    )


def bars(values: Sequence[float], neutral: float, alt: str) -> str:
    """Values 0..1 as bars from the neutral one: above it in one colour, below it in another.

    Args:
        values: at least one.
        neutral: where the bars begin.
        alt: what it shows, for screen readers.
    """
    step = WIDTH / len(values)
    width = step * (0.85 if step > 2 else 1)
    base = HEIGHT * (1 - neutral)
    paths = {"up": "", "down": ""}
    for i, value in enumerate(values):
        top = HEIGHT * (1 - value)
        paths["up" if value >= neutral else "down"] += f"M{i * step:.1f} {base:.1f}V{top:.1f}h{width:.1f}V{base:.1f}z"
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{escape(alt)}">'
        f'<path class="up" d="{paths["up"]}"/><path class="down" d="{paths["down"]}"/>'
        f'<line x1="0" x2="{WIDTH}" y1="{base:.1f}" y2="{base:.1f}"/></svg>'
    )
