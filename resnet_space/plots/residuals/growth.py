"""The ratio by depth as training went on: an animation with a slider over the epochs."""

from collections.abc import Sequence
from typing import Any

from resnet_space.plots import palette
from resnet_space.plots.base import Chart, Trace, chart, curve, level, short
from resnet_space.plots.residuals.depth import depth_axis

FRAME_MS = 350


def growth_chart(names: Sequence[str], epochs: Sequence[int], ratios: Sequence[Sequence[float]]) -> Chart:
    """The medians of ||F(x)|| / ||x|| by depth after each epoch, the last one shown, the first one beside it.

    Args:
        names: of the B blocks.
        epochs: E numbers; 0 is before the first step.
        ratios: [E][B].
    """

    def of(at: int, colour: str, **more: Any) -> Trace:
        name = f"after epoch {epochs[at]}" if epochs[at] else "before training"
        hover = "<b>%{text}</b><br>median ratio %{y:.3f}"
        return curve(name, range(len(names)), ratios[at], colour, hover, points=5, text=list(names), **more)

    frames = [
        {"name": str(epoch), "data": [{key: of(i, "")[key] for key in ("y", "name")}], "traces": [1]}
        for i, epoch in enumerate(epochs)
    ]
    highest = max((value for row in ratios for value in row if short(value) is not None), default=1.0)
    at_once = {"mode": "immediate", "frame": {"duration": 0, "redraw": False}, "transition": {"duration": 0}}
    playing = {"fromcurrent": False, "frame": {"duration": FRAME_MS, "redraw": False}}
    playing |= {"transition": {"duration": FRAME_MS // 2}}
    slider = {
        "active": len(epochs) - 1,
        "currentvalue": {"prefix": "epoch ", "font": {"size": 12}},
        "pad": {"t": 58},
        "x": 0.12,
        "len": 0.88,
        "steps": [{"label": str(e), "method": "animate", "args": [[str(e)], at_once]} for e in epochs],
    }
    play = {
        "type": "buttons",
        "showactive": False,
        "x": 0,
        "y": 0,
        "xanchor": "left",
        "yanchor": "top",
        "pad": {"t": 70},
        "buttons": [{"label": "▶ Play", "method": "animate", "args": [None, playing]}],
    }
    made = chart(
        "‖F(x)‖ / ‖x‖ by depth during training",
        [of(0, "#888888", opacity=0.7), of(-1, palette.category(0))] if epochs else [],
        depth_axis(names),
        {"title": "median ‖F(x)‖ / ‖x‖", "range": [0, 1.08 * max(highest, 1e-6)]},
        height=460,
        margin={"l": 56, "r": 16, "t": 64, "b": 120},
        shapes=[level(1)],
        sliders=[slider] if len(epochs) > 1 else [],
        updatemenus=[play] if len(epochs) > 1 else [],
    )
    return made | {"frames": frames}
