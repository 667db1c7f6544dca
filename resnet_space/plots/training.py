"""What a training tells while it runs, one colour a run."""

import math
from collections.abc import Sequence
from typing import Any

from resnet_space.plots import palette
from resnet_space.plots.base import Chart, Trace, chart, cloud, curve, thinned, upright
from resnet_space.runs import Metric, last_metric

DASHES = ("dot", "dash", "dashdot", "longdash")  # of the parts of one run's loss
MAX_RATES = 100  # of one part's learning rate, which is smooth


def _phase_lines(histories: dict[str, list[Metric]], *, by_epoch: bool) -> list[dict[str, Any]]:
    """A dashed line in the run's colour where its next phase begins."""
    lines = []
    for i, metrics in enumerate(histories.values()):
        start = last_metric(metrics, "start") or {}
        done = 0
        for phase in start.get("phases", [])[:-1]:
            done += phase["epochs"]
            x = done + 0.5 if by_epoch else done * start["steps_per_epoch"]
            lines.append(upright(x, colour=palette.category(i), width=1.2, dash="dash"))
    return lines


def _span(low: float, high: float) -> dict[str, Any]:
    """An axis that shows all of this, until the reader zooms. With a "range" a longer one would end the zoom."""
    return {"autorange": True, "autorangeoptions": {"minallowed": low, "maxallowed": high, "include": [low, high]}}


def _axis(traces: Sequence[Trace], low: float, high: float) -> dict[str, Any]:
    """As `_span`, which Plotly overlooks where there is nothing to draw; what is empty no longer is drawn anew."""
    return _span(low, high) if any(trace["x"] for trace in traces) else {"range": [low, high]}


def _by_iteration(
    title: str, histories: dict[str, list[Metric]], key: str, y_title: str, value: str, scale: float = 1.0
) -> Chart:
    """One curve a run of what its steps tell under `key`."""
    traces = []
    for i, (name, metrics) in enumerate(histories.items()):
        steps = [m for m in metrics if m["event"] == "step" and key in m]
        xs, ys = thinned([m["step"] for m in steps], [m[key] * scale for m in steps])
        traces.append(curve(name, xs, ys, palette.category(i), f"{name}<br>iteration %{{x}}<br>{value}"))
    return chart(
        title,
        traces,
        {"title": "iteration", "showgrid": False} | _axis(traces, 0, _iterations(*histories.values())),
        {"title": y_title, "rangemode": "tozero"},
        shapes=_phase_lines(histories, by_epoch=False),
    )


def _iterations(*histories: Sequence[Metric]) -> int:
    """Of the longest training; 100 as long as none has begun."""
    starts = (m for metrics in histories for m in metrics if m["event"] == "start")
    return max((m["epochs"] * m["steps_per_epoch"] for m in starts), default=100)


def loss_chart(histories: dict[str, list[Metric]]) -> Chart:
    """Training loss by iteration, one curve a run; where it has several parts, one of each besides."""
    drawn = _by_iteration("Loss by iteration", histories, "loss", "training loss (nats)", "loss %{y:.3f}")
    for i, (run, metrics) in enumerate(histories.items()):
        steps = [m for m in metrics if m["event"] == "step" and "losses" in m]
        names = list(dict.fromkeys(name for m in steps for name in m["losses"]))
        for j, name in enumerate(names):
            xs, ys = zip(*((m["step"], m["losses"][name]) for m in steps if name in m["losses"]), strict=True)
            label, dash = f"{run}, {name}", DASHES[j % len(DASHES)]
            hover = f"{label}<br>iteration %{{x}}<br>{name} %{{y:.3f}}"
            drawn["data"].append(curve(label, *thinned(xs, ys), palette.category(i), hover, width=1.2, dash=dash))
    return drawn


def speed_chart(histories: dict[str, list[Metric]]) -> Chart:
    """Images a second by iteration, one curve a run."""
    return _by_iteration("Speed", histories, "images_per_second", "images/s", "%{y:,.0f} images/s")


def memory_chart(histories: dict[str, list[Metric]]) -> Chart:
    """The trainer's memory by iteration, one curve a run: the GPU's where there is one, else the machine's."""
    return _by_iteration("Memory of the trainer", histories, "memory", "memory (GB)", "%{y:.2f} GB", scale=1e-9)


def rates_chart(metrics: Sequence[Metric]) -> Chart:
    """The learning rate of every part of one run by iteration; a gap where a part is frozen. All lines differ."""
    steps = [m for m in metrics if m["event"] == "step" and "rates" in m]  # older runs have none
    phases = (last_metric(metrics, "start") or {}).get("phases", [])
    # First the phases in which all parts train, from the stem to the head.
    whole = sorted((phase["rates"] for phase in phases), key=lambda rates: -len(rates))
    parts = dict.fromkeys(part for rates in (*whole, *(m["rates"] for m in steps)) for part in rates)
    # Every n-th, not a mean: the curves of the parts share their iterations, and a frozen part has no rate.
    few = steps[:: math.ceil(len(steps) / MAX_RATES) or 1]
    traces = [
        curve(
            part,
            [m["step"] for m in few],
            [m["rates"].get(part) or None for m in few],
            palette.category(i),
            f"{part}<br>iteration %{{x}}<br>rate %{{y:.2g}}",
            dash=(("solid", *DASHES)[i // len(palette.CATEGORIES) % (1 + len(DASHES))]),
        )
        for i, part in enumerate(parts)
    ]
    return chart(
        "Learning rate of every part",
        traces,
        {"title": "iteration", "showgrid": False} | _axis(traces, 0, _iterations(metrics)),
        {"title": "learning rate", "type": "log", "exponentformat": "power", "dtick": 1},
        shapes=_phase_lines({"": list(metrics)}, by_epoch=False),
        legend={"font": {"size": 11}, "y": 1, "yanchor": "top"},  # beside the plot: there are too many for a line
    )


def kept_epoch(epochs: Sequence[Metric]) -> int:
    """The epoch whose weights are kept, of a run's "epoch" metrics; 0 where there are none."""
    said = [m["epoch"] for m in epochs if m.get("best")]  # which older runs do not say
    first_best = max(epochs, key=lambda m: (m["validation_accuracy"], -m["epoch"]), default={"epoch": 0})
    return int(said[-1] if said else first_best["epoch"])


def accuracy_chart(histories: dict[str, list[Metric]]) -> Chart:
    """Accuracy by epoch: validation solid, training dotted, the test as a star at the epoch whose weights are kept; for
    a training with a target, that on the target and of its discriminator, too.
    """
    traces: list[Trace] = []
    starts = (m for metrics in histories.values() for m in metrics if m["event"] == "start")
    last = max((m["epochs"] for m in starts), default=10)
    for i, (name, metrics) in enumerate(histories.items()):
        epochs = [m for m in metrics if m["event"] == "epoch"]
        test = [m for m in metrics if m["event"] == "test"]
        colour = palette.category(i)
        one: dict[str, Any] = {"legendgroup": name, "showlegend": False}
        xs = [m["epoch"] for m in epochs]
        for key, label, style in (
            ("validation_accuracy", "validation", {"width": 2, "points": 5, "name": name, "showlegend": True}),
            ("train_accuracy", "training", {"width": 1.4, "dash": "dot", "name": f"{name}, training"}),
        ):
            hover = f"{name}, {label}<br>epoch %{{x}}<br>%{{y:.1%}}"
            options: dict[str, Any] = one | style
            traces.append(curve(xs=xs, ys=[m[key] for m in epochs], colour=colour, hover=hover, **options))
        besides = [{"target": m.get("target_accuracy"), **m.get("measures", {})} for m in epochs]
        measured = dict.fromkeys(label for each in besides for label, value in each.items() if value is not None)
        for label, dash in zip(measured, ("dash", "dashdot"), strict=False):
            hover, ys = f"{name}, {label}<br>epoch %{{x}}<br>%{{y:.1%}}", [each.get(label) for each in besides]
            what = f"{name}, {label}"
            traces.append(curve(what, xs, ys, colour, hover, dash=dash, points=4, width=1.4, legendgroup=name))
        if test:
            star = {"symbol": "star", "size": 13, "color": colour, "line": {"width": 1, "color": "#888"}}
            what, kept = f"{name}, test", kept_epoch(epochs)
            traces.append(cloud(what, [kept], [test[-1]["accuracy"]], f"{what}<br>%{{y:.1%}}", marker=star, **one))
    return chart(
        "Accuracy: — validation, ⋯ training, ★ test (epoch kept)",
        traces,
        {
            "title": "epoch",
            "showgrid": False,
            "tick0": 0,
            "dtick": max(math.ceil(last / 10), 1),
        }
        | _axis(traces, 0.5, last + 0.5),
        {"title": "accuracy", "range": [0, 1.02], "tickformat": ".0%"},
        shapes=_phase_lines(histories, by_epoch=True),
    )


def range_chart(points: Sequence[tuple[float, float]], suggested: float | None) -> Chart:
    """Smoothed loss against the head's learning rate of a range test, with the suggestion marked."""
    rates, losses = [rate for rate, _ in points], [loss for _, loss in points]
    told = "rate %{x:.2g}<br>loss %{y:.3f}"
    traces = [curve("loss while the rate rises", rates, losses, palette.category(0), told, width=2)]
    if suggested is not None:
        rate, loss = min(points, key=lambda point: abs(math.log(point[0] / suggested)))
        traces.append(
            cloud(
                f"suggested: {suggested:.2g}, where it falls fastest",
                [rate],
                [loss],
                f"suggested rate {suggested:.2g}",
                marker={"symbol": "star", "size": 15, "color": palette.category(4)},
            )
        )
    title = "Range test: the loss while the learning rate rises"
    return chart(
        title if suggested is not None else f"{title}; it never falls, so there is no suggestion",
        traces,
        {"title": "learning rate of the head", "type": "log", "exponentformat": "power"},
        {"title": "training loss (nats), smoothed"},
    )
