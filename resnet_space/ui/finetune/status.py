"""What the fine-tune tab says about runs, as HTML: the progress line and the table that compares them."""

from collections.abc import Sequence
from dataclasses import fields
from html import escape
from typing import Any

from resnet_space.common.cost import cost_words
from resnet_space.config import ModelConfig
from resnet_space.models.registry import CBAM_PARTS, HEAD
from resnet_space.plots import palette
from resnet_space.runs import Doing, Metric, Run, last_metric, split_words
from resnet_space.runs.queue import Status
from resnet_space.training.strategies import STRATEGIES, backbone_parts
from resnet_space.ui.progress import progress_html
from resnet_space.ui.reports import accuracy_words

RANDOM = "random initialisation"  # an id: of no start, in the form and of programs
RANDOM_WORDS = "random initialisation"
EMPTY = (
    '<div class="status"><div class="line"><b>Nothing is training.</b></div><div class="subdued">'
    "Press <b>Start</b>: as it stands, it fine-tunes a small pretrained ResNet on 2,000 photographs of ten classes, "
    "in about a minute on a CPU. Then compare it with the same training from random initialisation.</div></div>"
)


# What a trainer does beside its steps, by `Doing.phase`.
DOING = {
    "decoding": "the images are decoded",
    "features": "the features of all images are computed, once",
    "solving": "the head is solved",
    "testing": "it is evaluated on the validation and test images",
    "calibrating": "the feature statistics are fitted",
    "checking": "the heatmaps are checked",
}


def duration(seconds: float) -> str:
    """As people say it: "42 s", "3 min 5 s", "1 h 20 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def test_evaluations_words(test: Metric) -> str:
    """What is to be minded of a "test" metric where the training went on after an earlier one; else nothing."""
    looks = test.get("test_evaluations", 1)
    if looks < 2:
        return ""
    return (
        f"The test images were looked at {looks} times, as it was trained on after a test: "
        "if that is how its length was chosen, the accuracy is a little too good."
    )


def phase_words(model: ModelConfig, start: Metric, epoch: int) -> str:
    """What trains in the epoch 1, 2, ..., and in which phase that is; nothing where all trains all the time."""
    phases, last = start.get("phases", []), 0
    for number, phase in enumerate(phases, 1):
        last += phase["epochs"]
        if epoch <= last:
            trained = {part.partition(".")[0] for part in phase["rates"]}  # a block belongs to its stage
            parts = [part for part in backbone_parts(model) if part in trained]
            parts += ["CBAM"] if trained & set(CBAM_PARTS) else []
            whole = trained >= {*backbone_parts(model), HEAD}
            if whole and len(phases) == 1:
                return ""
            trained_words = "everything" if whole else f"{', '.join(parts)} and the head" if parts else "the head alone"
            return f"{f'Phase {number} of {len(phases)}' if len(phases) > 1 else 'It'} trains {trained_words}."
    return ""


def is_underway(status: Status) -> bool:
    """Whether it trains, or waits for its turn."""
    return status.is_active or status.state == "queued"


def start_of(run: Run) -> str:
    return run.config.training.start or RANDOM_WORDS


def seconds_left(metrics: Sequence[Metric]) -> float | None:
    """Of all steps, from the pace of those after the first of them; None before there are some, and after the last.

    A head that is solved takes no steps, so its epoch says nothing of the others. The first step is the slowest.
    """
    start = last_metric(metrics, "start")
    if start is None:
        return None
    solved = sum(phase["epochs"] for phase in start.get("phases", ()) if phase.get("solved"))
    steps = [m for m in metrics if m["event"] == "step" and m["step"] > solved * start["steps_per_epoch"]]
    left = start["epochs"] * start["steps_per_epoch"] - steps[-1]["step"] if steps else 0
    if len(steps) < 2 or steps[-1]["step"] <= steps[0]["step"] or left <= 0:
        return None
    pace = (steps[-1]["seconds"] - steps[0]["seconds"]) / (steps[-1]["step"] - steps[0]["step"])
    return float(pace * left)


def status_html(
    run: Run, status: Status, metrics: Sequence[Metric], *, waiting: int = 0, log: Sequence[str] = ()
) -> str:
    """One line of words, one of numbers, and the progress bar.

    Args:
        run: the run that it is about.
        status: how it stands.
        metrics: what it wrote.
        waiting: how many runs are in the queue. Whose they are is nobody else's business.
        log: the last lines of what a failed one's trainer said.
    """
    start = last_metric(metrics, "start")
    steps = [m for m in metrics if m["event"] == "step"]
    epochs = [m for m in metrics if m["event"] == "epoch"]
    test = last_metric(metrics, "test")
    planned = start["epochs"] if start else run.config.training.total_epochs
    done = steps[-1]["step"] if steps else 0
    total = planned * start["steps_per_epoch"] if start else 1
    name = f"<b>{escape(run.name)}</b>"

    numbers = ""
    if status.state == "queued":
        before = "it is the next" if status.place == 1 else f"{status.place - 1} before it"
        words = f"{name} waits for its turn: place {status.place} in the queue, {before}."
    elif status.state == "starting":
        words = f"{name} is starting: {DOING.get(status.doing.phase, 'PyTorch is loaded')}."
        numbers = _doing_numbers(status.doing)
        if run.is_job:
            words = f"{name} is starting as a job of the Hub: its machine and image are fetched."
    elif status.state in ("training", "stopping"):
        words = f"{name} is stopping." if status.state == "stopping" else f"{name} is training"
        if status.state == "training":
            words += f" on the {'GPU' if start and start['device'] != 'cpu' else 'CPU'}"
            words += " of a job of the Hub." if run.is_job else "."
            if status.doing.phase in ("", "training"):
                words += f" {phase_words(run.config.model, start, len(epochs) + 1)}" if start else ""
            elif test is None:
                words = f"{name}: {DOING.get(status.doing.phase, 'it trains')}."
            else:
                words = f"{_tested_words(name, test)} Meanwhile {DOING.get(status.doing.phase, 'its card is written')}."
        left = seconds_left(metrics)
        stepping = status.state == "stopping" or status.doing.phase in ("", "training")
        numbers = f"epoch {min(len(epochs) + 1, planned)} of {planned}" if stepping else _doing_numbers(status.doing)
        if steps and stepping:  # a stop may come before the first
            numbers += f" · {steps[-1]['images_per_second']:,.0f} images/s"
        if left is not None and stepping and status.state == "training":
            numbers += f" · about {duration(left)} left"
    elif status.state == "finished" and test:
        words = _tested_words(f"{name} has finished", test)
        numbers = f"{len(epochs)} epoch{'' if len(epochs) == 1 else 's'} in {duration(test['seconds'])}"
        cost = cost_words(test["seconds"])
        numbers += f" · {cost}" if cost else ""
        minded = test_evaluations_words(test)
        words += f'<div class="subdued">{minded}</div>' if minded else ""
    elif status.state == "stopped":
        kept = f"Its {'best' if epochs else 'last'} weights are kept."
        if run.is_job and not run.has_weights:
            kept = "Its job had not pushed any weights yet."
        elif not epochs and not run.has_weights:
            kept = "It has no weights yet."
        words = f"{name} was stopped. {escape(status.reason)} {kept}"
        numbers = f"after {len(epochs)} of {planned} epochs"
    elif status.state == "failed":
        words = f"{name} has failed. {escape(status.reason)}"
        numbers = f"after {len(epochs)} of {planned} epochs"
    else:
        words = f"{name} has not been trained yet."
    solved = next((m for m in epochs if "test_accuracy" in m), None)
    if solved and test is None:
        words += f'<div class="subdued">{_solved_words(solved)}</div>'
    if start and start.get("warning"):
        words += f'<div class="subdued">{escape(str(start["warning"]))}</div>'
    if waiting and status.is_active:
        words += f" {waiting} more {'waits' if waiting == 1 else 'wait'} for {'its' if waiting == 1 else 'their'} turn."
    if status.note:
        words += f'<div class="subdued">{escape(status.note)}</div>'

    state = status.state + (" going" if is_underway(status) else "")
    lines = f"<pre>{escape(chr(10).join(log))}</pre>"
    more = f"<details><summary>The last lines of its log</summary>{lines}</details>" if log else ""
    share = 1.0 if test else done / total  # the path to a solved head may be shorter than it could have been
    return progress_html(words, numbers, share=share, state=state, more=more)


def _tested_words(subject: str, test: Metric) -> str:
    return (
        f"{subject}: <b>{accuracy_words(test)}</b> of {test['images']:,} {split_words(test['split'])} "
        "images are classified correctly (95 % interval)."
    )


def _solved_words(epoch: Metric) -> str:
    return (
        f"With the head alone, solved on frozen features, {epoch['test_accuracy']:.1%} of "
        f"{epoch.get('test_images', 0):,} test images are classified correctly. Fine-tuning goes on from there, and is "
        "kept where it does better on the validation images."
    )


def _doing_numbers(doing: Doing) -> str:
    counted = f"{doing.done:,} of {doing.total:,} images" if doing.total else ""
    left = f"about {duration(doing.seconds_left)} left" if doing.seconds_left is not None else ""
    return " · ".join(filter(None, (counted, left)))


def runs_html(runs: Sequence[tuple[Run, Status, Sequence[Metric]]]) -> str:
    """A table of the shown runs, in the colours of the plots, and what their comparison says."""
    if not runs:
        return '<div class="empty">The runs that you train are compared here.</div>'
    rows = []
    for i, (run, status, metrics) in enumerate(runs):
        test = last_metric(metrics, "test")
        best = max((m["validation_accuracy"] for m in metrics if m["event"] == "epoch"), default=None)
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
            "" if best is None else f"{best:.1%}",
            escape(start_of(run)) + _strategy_html(run),
            escape(run.config.training.dataset),
            str(run.config.training.total_epochs),
            duration(metrics[-1].get("seconds") or test["seconds"]) if test else "",
        ]
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    heads = ("run", "test", "validation", "start", "data", "epochs", "time")  # a phone shows the first of them
    head = "".join(f"<th>{text}</th>" for text in heads)
    return (
        f'<div class="runs"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
        f"{finding_html(runs)}"
    )


def _strategy_html(run: Run) -> str:
    strategy = STRATEGIES[run.config.training.strategy]
    return f'<div class="subdued">{strategy.label}</div>' if strategy.start == "needed" else ""


def finding_html(runs: Sequence[tuple[Run, Status, Sequence[Metric]]]) -> str:
    """What the latest pretrained and the latest scratch run of equal budget say about each other, if both are there."""
    tested = [(run, test) for run, _, metrics in runs if (test := last_metric(metrics, "test"))]
    pretrained = [(run, test) for run, test in tested if run.config.training.start]
    scratch = [(run, test) for run, test in tested if not run.config.training.start]
    for run, test in reversed(pretrained):
        for other, other_test in reversed(scratch):
            same_model = run.config.model == other.config.model
            if same_model and _budget(run) == _budget(other):
                points = 100 * (test["accuracy"] - other_test["accuracy"])
                chosen = STRATEGIES[run.config.training.strategy]
                strategy = f" ({chosen.label})" if chosen.start == "needed" else ""
                return (
                    f'<p class="finding">Same model, data and {run.config.training.total_epochs} epochs: from '
                    f"{escape(start_of(run))}{strategy} it reaches <b>{test['accuracy']:.1%}</b>, from random "
                    f"initialisation <b>{other_test['accuracy']:.1%}</b>. Here pretraining is worth "
                    f"<b>{points:+.1f} points</b>.</p>"
                )
    return ""


def _budget(run: Run) -> tuple[object, ...]:
    training = run.config.training
    return training.dataset, training.total_epochs, training.batch_size


def difference_html(runs: Sequence[Run]) -> str:
    """What differs between the settings of two runs, as a table; nothing for any other number of runs."""
    if len(runs) != 2:
        return ""
    first, second = ({**_settings(run.config.model), **_settings(run.config.training)} for run in runs)
    rows = "".join(
        f"<tr><td>{name}</td><td>{escape(_value(first[name]))}</td><td>{escape(_value(second[name]))}</td></tr>"
        for name in first
        if first[name] != second[name]
    )
    heads = "".join(f"<th>{escape(run.name)}</th>" for run in runs)
    if not rows:
        return '<p class="note">The settings of these two runs are the same.</p>'
    return (
        f'<div class="runs"><table><thead><tr><th>what differs</th>{heads}</tr></thead><tbody>{rows}</tbody>'
        "</table></div>"
    )


def _settings(config: Any) -> dict[str, Any]:
    """A part of a run's configuration, without what its training found out."""
    return {field.name: getattr(config, field.name) for field in fields(config) if field.compare}


def _value(value: object) -> str:
    if value is None or value == ():
        return "none"
    if isinstance(value, tuple):
        shown = ", ".join(map(str, value[:6]))
        return shown + (f" and {len(value) - 6} more" if len(value) > 6 else "")
    return f"{value:g}" if isinstance(value, float) else str(value)
