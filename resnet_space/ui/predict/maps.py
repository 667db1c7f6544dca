"""Maps over the picture: where the model finds a class, and what its own CBAM gates let through.

A map is a small picture that the browser lays over the large one, as opaque as the reader wants. All of a run's maps of
one kind share one scale, and the gates, which are shares, that of both runs where there are two.
"""

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from resnet_space.common.text import file_name
from resnet_space.ui.pictures import data_url, npy_url
from resnet_space.ui.predict.answer import percent, warnings_html
from resnet_space.ui.predict.looks import Look

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WIDTH, HEIGHT = 320, 90  # of the drawn bars
NAMED_CHANNELS = 3  # the most turned up and down
AS_GOOD_AS_NEUTRAL = 0.01


# Where it finds a class


def class_maps_html(looks: Sequence[Look]) -> str:
    """A row of maps a class; the page shows the rows of the best class and of the one that was chosen."""
    sides = "".join(_class_rows(look, side) for side, look in enumerate(looks))
    own = " of a run" if len(looks) > 1 else ""
    return (
        "<h3>Why this class, and why not another?</h3>"
        "<p>Bright areas support the class. Choose a class above to see its maps beside those of the first; all "
        f'maps{own} by one method share one scale.</p><div class="sides">{sides}</div>'
    )


def _class_rows(look: Look, side: int) -> str:
    from resnet_space.explain.saliency import METHODS

    # Of its own: what speaks for a class is measured in the run's logits, and each network's have another unit.
    highs = {method: float(maps.raw.max()) or 1.0 for method, maps in look.class_maps.items()}
    scales = "".join(scale_html(METHODS[method], 0, high) for method, high in highs.items())
    rows = []
    prediction = look.prediction
    for i, (index, name, share) in enumerate(
        zip(prediction.indices, prediction.classes, prediction.probabilities, strict=True)
    ):
        cards = [
            _map_card(
                maps.raw[i],
                0,
                highs[method],
                f"<b>{escape(METHODS[method])}</b>",
                f"{METHODS[method]} for {name}: {_where(maps.raw[i])}",
                f"{look.name}-{name}-{method}",
            )
            for method, maps in look.class_maps.items()
        ]
        shown = "" if i < 2 else " hidden"
        rows.append(
            f'<div class="why" data-side="{side}" data-class="{index}" data-place="{i}"{shown}>'
            f"<h4>Why {'' if i == 0 else 'not '}<b>{escape(name)}</b>? {percent(share)}</h4>"
            f'<div class="maps">{"".join(cards)}</div>'
            f'<button type="button" class="ask" data-evidence="class" data-side="{side}" data-class="{index}">'
            f"Is it true? Test these two maps</button></div>"
        )
    maps = next(iter(look.class_maps.values()))
    height, width = maps.raw.shape[1:]
    return (
        f'<section data-side="{side}" style="--view: url({look.view_url})"><p class="of">{escape(look.name)}, '
        f'from the output of {escape(maps.stage)}, {height} x {width} positions</p><div class="scales">{scales}</div>'
        f'<div class="rows">{"".join(rows)}</div></section>'
    )


# What the model's own gates let through


def gates_html(looks: Sequence[Look]) -> str:
    """The model's input and, a CBAM each, its spatial gate over it and its channel gates as bars."""
    every = [gate for look in looks for gate in look.prediction.attention.spatial.values()]
    low = min((float(gate.min()) for gate in every), default=0.0)
    high = max((float(gate.max()) for gate in every), default=1.0)
    sides = "".join(_gates(look, side, low, high) for side, look in enumerate(looks))
    words = ""
    if every:
        words = (
            "<p>CBAM scales every position and every channel of its stage's features with a gate: <b>bright areas are "
            "let through most</b>; a gate of 0.50 leaves things as they are. All come from the same forward pass as "
            f"the answer.</p>{scale_html('gate', low, high)}"
        )
    return f'<h3>What its attention lets through</h3>{words}<div class="sides">{sides}</div>'


def _gates(look: Look, side: int, low: float, high: float) -> str:
    attention = look.prediction.attention
    section = f'<section data-side="{side}" style="--view: url({look.view_url})"><p class="of">{escape(look.name)}</p>'
    if not attention.spatial:
        return (
            f"{section}<p>{escape(look.name)} has no CBAM, so it has no gates. Its class maps show what counts for "
            'each class. For gates, choose a run with "cbam" in its name, or train one with CBAM.</p></section>'
        )
    cards = [
        f'<figure><div class="view" role="img" aria-label="The picture as {escape(look.name)} sees it"></div>'
        f"<figcaption><b>input</b><br>what the model sees of it</figcaption></figure>"
    ]
    for module, spatial in attention.spatial.items():
        gates = attention.channel[module][0].numpy()
        values = spatial[0].numpy()
        words = f"<b>{escape(gate_words(module))}</b><br>spatial gate {values.min():.2f} to {values.max():.2f}"
        alt = f"Spatial gate {gate_words(module)}, {values.min():.2f} to {values.max():.2f}: {_where(values)}"
        card = _map_card(values, low, high, words, alt, f"{look.name}-{module}-spatial-gate")
        cards.append(card.removesuffix("</figure>") + _channels(gates, 1 / attention.gain[module], module, side))
    ask = (
        f'<button type="button" class="ask" data-evidence="gates" data-side="{side}" '
        f'data-class="{look.prediction.indices[0]}">Is it true? Test these gates as maps of '
        f"{escape(look.prediction.classes[0])}</button>"
    )
    return f'{section}<div class="maps gates">{"".join(cards)}</div>{ask}</section>'


def program_html(look: Look) -> str:
    """What programs get of the page: the warnings, the gates, the preprocessing."""
    note = f'<p class="note">What {escape(look.name)} sees: {escape(look.classifier.preprocessing)}.</p>'
    return f"{warnings_html(look)}{gates_html([look])}{note}"


def gate_words(module: str) -> str:
    """ "cbam2" -> "after stage 2"; "layer2.1.cbam" -> "inside layer2.1"."""
    return f"after stage {module[4:]}" if module.startswith("cbam") else f"inside {module.removesuffix('.cbam')}"


def _channels(gates: "NDArray[np.float32]", neutral: float, module: str, side: int) -> str:
    """The channel gates as bars, and the most and the least weighted channels as buttons."""
    order = gates.argsort()
    up = [i for i in order[::-1] if gates[i] > neutral + AS_GOOD_AS_NEUTRAL]
    down = [i for i in order if gates[i] < neutral - AS_GOOD_AS_NEUTRAL]
    which = f'data-side="{side}" data-module="{escape(module)}"'
    alt = f"{len(gates)} channel gates: {len(up)} above {neutral:.2f}, {len(down)} below"
    lines = []
    for turned, channels in (("up", up), ("down", down)):
        buttons = "".join(
            f'<button type="button" class="channel {turned}" data-channel="{i}" {which} '
            f'aria-label="Show channel {i}, gate {gates[i]:.2f}">{i}<small>{gates[i]:.2f}</small></button>'
            for i in channels[:NAMED_CHANNELS]
        )
        most = ", most" if buttons else ""
        lines.append(f"<span>{len(channels)} of {len(gates)} channels turned {turned}{most}</span>{buttons}")
    last = len(gates) - 1
    any_channel = (
        f'<label>any channel <input type="number" class="channel" min="0" max="{last}" placeholder="0 to {last}" '
        f'{which} aria-label="Show a channel of {escape(gate_words(module))}, 0 to {last}"></label>'
    )
    return (
        f'<div class="bars" {which} data-count="{len(gates)}">{bars(gates.tolist(), neutral, alt)}</div>'
        f'<div class="channels">{"".join(f"<p>{line}</p>" for line in lines)}{any_channel}</div></figure>'
    )


def channel_html(look: Look, module: str, channel: int, of: str = "") -> str:
    """One channel's feature map, as it leaves its gates, over the picture; `of` tells the page what it belongs to."""
    values = look.prediction.features[module][channel].numpy()
    low, high = float(values.min()), float(values.max())
    gate = float(look.prediction.attention.channel[module][0][channel])
    where = f"channel {channel} {gate_words(module)}"
    words = f"<b>{escape(where)}</b><br>gate {gate:.2f}; feature {low:.2f} to {high:.2f}"
    alt = f"Feature map of {where}, {low:.2f} to {high:.2f}: {_where(values)}"
    card = _map_card(values, low, high, words, alt, f"{look.name}-{module}-channel-{channel}")
    return (
        f'<div class="one" data-of="{escape(of)}" style="--view: url({look.view_url})"><div class="maps">{card}</div>'
        f"<div><p>What {escape(look.name)} hands on in this channel, after both gates, on a scale of its own.</p>"
        f"{scale_html('feature', low, high)}</div></div>"
    )


# What all have in common


def scale_html(label: str, low: float, high: float) -> str:
    """The legend of the colours."""
    return (
        f'<div class="scale"><span>{escape(label)}</span><span>{low:.2f}</span><span class="ramp"></span>'
        f"<span>{high:.2f}</span></div>"
    )


def _map_card(values: "NDArray[np.float32]", low: float, high: float, words: str, alt: str, name: str) -> str:
    """A map over the picture, its caption, and the links by which it is kept."""
    from resnet_space.plots.pictures import map_png

    heat = data_url(map_png(values, low, high, smooth=True), "image/png")
    plain = file_name(name)
    return (
        f'<figure><div class="view" role="img" aria-label="{escape(alt)}"><img src="{heat}" alt=""></div>'
        f"<figcaption>{words}</figcaption>"
        f'<p class="keep"><a class="png" download="{plain}.png" href="#" aria-label="Keep the picture: {escape(alt)}">'
        f'PNG</a> <a download="{plain}.npy" href="{npy_url(values)}" aria-label="Keep the values: {escape(alt)}">.npy'
        "</a></p></figure>"
    )


def _where(values: "Any") -> str:
    """Where a map is brightest, for those who do not see it."""
    import numpy as np

    if float(values.max()) <= float(values.min()):
        return "the same everywhere"
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    vertical = _third(int(row), values.shape[0], ("top", "middle", "bottom"))
    horizontal = _third(int(column), values.shape[1], ("left", "centre", "right"))
    return f"brightest at the {vertical} {horizontal}"


def _third(position: int, size: int, names: Iterable[str]) -> str:
    return list(names)[min(3 * position // size, 2)]


def bars(values: Sequence[float], neutral: float, alt: str) -> str:
    """Values 0..1 as bars from the neutral one: above it in one colour, below it in another.

    Args:
        values: at least one.
        neutral: where the bars begin.
        alt: what it shows, for those who do not see it.
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
