"""What came of a run, and how it compares with others, as HTML: the result, the table of runs, what differs."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from html import escape
from typing import Any

from resnet_space.common.text import percent
from resnet_space.data.restyled import RESTYLED
from resnet_space.plots import palette
from resnet_space.runs import Metric, Run, last_metric
from resnet_space.runs.queue import Status
from resnet_space.training.strategies import STRATEGIES, plan
from resnet_space.ui.finetune.status import duration, is_underway, start_of
from resnet_space.ui.html import cautions_html, note_html, row_html, table_html
from resnet_space.ui.reports import accuracy_words, correct_words, interval_words
from resnet_space.ui.subject import counterpart

Row = tuple[Run, Status, Sequence[Metric]]


def _result(number: str, words: str, beside: str = "") -> str:
    return f'<div class="result"><div class="number">{number}</div><div class="words">{words}</div>{beside}</div>'


NO_RESULT = _result("&nbsp;", "&nbsp;")  # before the server has told anything, which takes the same room


def result_html(rows: Sequence[Row]) -> str:
    """The accuracy of the first run as one large number, what it is of, and beside it what pretraining is worth.

    Until a run is tested, the number is its best validation accuracy.
    """
    if not rows:
        return _result("—", "No run is chosen.")
    run, status, metrics = rows[0]
    test = last_metric(metrics, "test")
    about = f'<div class="of"><b>{escape(run.name)}</b> on {escape(run.config.training.dataset)}</div>'
    if test:
        return _result(
            percent(test["accuracy"]),
            f"{about}<div>{correct_words(test)}</div><div class='subdued'>{interval_words(test)}</div>"
            f"{target_html(run, test)}",
            _worth_html(rows),
        )
    best = _best_validation(metrics)
    if best is not None:
        of = f" of {best[1]:,} images" if best[1] else ""
        then = "The test follows after the last epoch." if is_underway(status) else "It was not tested."
        solved = next((m["test_accuracy"] for m in metrics if "test_accuracy" in m), None)
        then += f" New head alone: {percent(solved)} on the test set." if solved is not None else ""
        words = f"<div>Best validation accuracy so far{of}</div><div class='subdued'>{then}</div>"
        return _result(percent(best[0]), about + words)
    words = "The accuracy appears here after the first epoch." if is_underway(status) else "It was not tested here."
    return _result("—", f"{about}<div class='subdued'>{words}</div>")


def target_html(run: Run, test: Metric) -> str:
    """The test on the target, if it has labels."""
    if "target_accuracy" not in test:
        return ""
    on = escape(RESTYLED.get(run.config.training.target, run.config.training.target))
    found = {"accuracy": test["target_accuracy"], "images": test["target_images"]}
    words = f"<b>{accuracy_words(found)}</b> of {found['images']:,} images; its labels served for this test alone."
    return f'<div class="target">Target {on}: {words}</div>'


def _worth_html(rows: Sequence[Row]) -> str:
    """What pretraining is worth to the first run, by the first other one that differs in nothing but the start."""
    run, _, metrics = rows[0]
    for other, _, others_metrics in rows[1:]:
        own, others = last_metric(metrics, "test"), last_metric(others_metrics, "test")
        if own and others and counterpart(run, [other]) is not None:
            scratch = other.config.training.start is None
            pairs = ((run, own), (other, others))
            (tuned, pretrained), (raw, random) = pairs if scratch else reversed(pairs)
            points = 100 * (pretrained["accuracy"] - random["accuracy"])
            start = "From scratch" if scratch else f"From {escape(start_of(other))}"
            epochs = f"{raw.config.training.total_epochs} epochs"
            solved = all(phase.solved for phase in plan(tuned.config.training, tuned.config.model))
            same = f"model and data; a head fitted once against {epochs}" if solved else f"model, data, {epochs}"
            return (
                f'<div class="worth">{start}: <b>{percent(others["accuracy"])}</b>, so pretraining is worth '
                f'<b>{points:+.1f} points</b> <span class="subdued">(same {same})</span></div>'
            )
    return ""


def _best_validation(metrics: Sequence[Metric]) -> tuple[float, int] | None:
    """The best validation accuracy, and of how many images; 0 where that was not written."""
    best = max((m["validation_accuracy"] for m in metrics if m["event"] == "epoch"), default=None)
    start = last_metric(metrics, "start") or {}
    return None if best is None else (best, start.get("validation_images", 0))


def mixed_data(runs: Sequence[Run]) -> bool:
    """Whether their accuracies say nothing about one another: they are of different datasets or classes."""
    return len({(run.config.training.dataset, run.config.model.classes) for run in runs}) > 1


def runs_html(runs: Sequence[Row]) -> str:
    """A table of the shown runs, in the colours of the plots."""
    if not runs:
        return '<div class="empty">Your runs are compared here.</div>'
    rows = []
    for i, (run, status, metrics) in enumerate(runs):
        test, best = last_metric(metrics, "test"), _best_validation(metrics)
        colour = palette.category(i)
        accuracy = ""
        if test:
            accuracy = (
                f'{accuracy_words(test)} <span class="meter"><span style="width: {100 * test["accuracy"]:.1f}%; '
                f'background: {colour}"></span></span>'
            )
        cells = [
            f'<span class="swatch" style="background: {colour}"></span>{escape(run.name)}',
            accuracy or status.state,
            "" if best is None else percent(best[0]) + (f" of {best[1]:,}" if best[1] else ""),
            escape(start_of(run)) + _strategy_html(run),
            escape(run.config.training.dataset),
            str(run.config.training.total_epochs),
            duration(metrics[-1].get("seconds") or test["seconds"]) if test else "",
        ]
        rows.append(row_html(cells))
    heads = ("run", "test", "validation", "start", "data", "epochs", "time")  # a phone shows the first of them
    mixed = ["These runs have different datasets or classes: do not compare their accuracies."]
    return cautions_html(*(mixed if mixed_data([run for run, *_ in runs]) else [])) + table_html("Runs", heads, rows)


def _strategy_html(run: Run) -> str:
    strategy = STRATEGIES[run.config.training.strategy]
    return f'<div class="subdued">{strategy.label}</div>' if strategy.start == "needed" else ""


def difference_html(runs: Sequence[Run], labels: Mapping[str, str] | None = None) -> str:
    """What differs between the settings of two runs, as a table; nothing for any other number of runs.

    `labels` has what the form calls its fields.
    """
    if len(runs) != 2:
        return ""
    first, second = (
        {**_settings(run.config.model), **_settings(run.config.training), "start": start_of(run)} for run in runs
    )
    rows = [
        row_html(map(escape, (_label(name, labels or {}), _value(first.get(name)), _value(second.get(name)))))
        for name in dict.fromkeys([*first, *second])
        if first.get(name) != second.get(name)
    ]
    if not rows:
        return note_html("The settings of these two runs are the same.")
    return table_html("Runs", ["setting", *(escape(run.name) for run in runs)], rows)


def _settings(config: Any) -> dict[str, Any]:
    """A part of a run's configuration, without what its training found out; the network's own options one by one."""
    found = {field.name: getattr(config, field.name) for field in fields(config) if field.compare}
    return found | dict(found.pop("options", {}))


def _label(name: str, labels: Mapping[str, str]) -> str:
    return labels.get(name) or name.replace("_", " ").capitalize()


def _value(value: object) -> str:
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        shown = ", ".join(map(str, value[:6]))
        return shown + (f" and {len(value) - 6} more" if len(value) > 6 else "")
    return f"{value:g}" if isinstance(value, float) else str(value)
