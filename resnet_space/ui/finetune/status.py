"""How a training stands, as HTML: one line of words, one of numbers, and the progress bar."""

from collections.abc import Sequence
from html import escape

from resnet_space.common.cost import cost_words
from resnet_space.common.text import percent
from resnet_space.config import ModelConfig
from resnet_space.models.registry import CBAM_PARTS, HEAD
from resnet_space.runs import Doing, Metric, Run, last_metric
from resnet_space.runs.queue import Status
from resnet_space.training.strategies import backbone_parts
from resnet_space.training.work import Work
from resnet_space.ui.html import progress_html
from resnet_space.ui.reports import correct_words, interval_words

RANDOM = "random initialisation"  # an id: of no start, in the form and of programs
RANDOM_WORDS = "random initialisation"
# Of the status line: before the server has told anything, which takes the same room; and where nothing trains.
UNKNOWN = '<div class="status"><div class="line">&nbsp;</div></div>'
EMPTY = '<div class="status"><div class="line"><span class="subdued">Nothing is training.</span></div></div>'

WORTH_SECONDS = 3.0  # of steps, after which their pace tells when they end
LEAST_LEFT = 5.0  # seconds; less is not worth a word

# What a trainer does beside its steps, by `Doing.phase`.
DOING = {
    "decoding": "decoding images",
    "features": "computing features",
    "solving": "fitting the head",
    "testing": "testing",
    "calibrating": "calibrating",
    "checking": "checking heatmaps",
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
        f"The test set was evaluated {looks} times, because training continued after a test: the accuracy is slightly "
        "optimistic if the number of epochs was chosen by it."
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
    """Of all steps, from the pace of those after the first of them; None before it is known, and after the last.

    A head that is solved takes no steps, so its epoch says nothing of the others. The first step is the slowest.
    """
    start = last_metric(metrics, "start")
    if start is None:
        return None
    steps = [m for m in metrics if m["event"] == "step" and m["step"] > _solved_steps(start)]
    left = start["epochs"] * start["steps_per_epoch"] - steps[-1]["step"] if steps else 0
    if len(steps) < 2 or steps[-1]["step"] <= steps[0]["step"] or left <= 0:
        return None
    seconds = steps[-1]["seconds"] - steps[0]["seconds"]
    return float(seconds / (steps[-1]["step"] - steps[0]["step"]) * left) if seconds >= WORTH_SECONDS else None


def _solved_steps(start: Metric) -> int:
    """How many of the first steps are none: those of the phases in which the head is solved."""
    solved = sum(phase["epochs"] for phase in start.get("phases", ()) if phase.get("solved"))
    return int(solved * start["steps_per_epoch"])


def status_html(
    run: Run, status: Status, metrics: Sequence[Metric], *, waiting: int = 0, log: Sequence[str] = ()
) -> str:
    """One line of words, one of numbers, and the progress bar of a run.

    `waiting`: how many runs are in the queue; whose they are is nobody else's business. `log`: the last lines of what a
    failed one's trainer said.
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
        words = f"{name} is starting: {DOING.get(status.doing.phase, 'loading PyTorch')}."
        numbers = _doing_numbers(status.doing)
        if run.is_job:
            words = f"{name} is starting as a job of the Hub: waiting for its machine."
    elif status.state in ("training", "stopping"):
        words = f"{name} is stopping." if status.state == "stopping" else f"{name} is training"
        if status.state == "training":
            words += f" on the {'GPU' if start and start['device'] != 'cpu' else 'CPU'}"
            words += " of a job of the Hub." if run.is_job else "."
            if status.doing.phase in ("", "training"):
                words += f" {phase_words(run.config.model, start, len(epochs) + 1)}" if start else ""
            elif test is None:
                words = f"{name} is training: {DOING.get(status.doing.phase, 'please wait')}."
            else:
                words = f"{_tested_words(name, test)} Now {DOING.get(status.doing.phase, 'writing the model card')}."
        left = seconds_left(metrics)
        stepping = status.state == "stopping" or status.doing.phase in ("", "training")
        numbers = f"epoch {min(len(epochs) + 1, planned)} of {planned}" if stepping else _doing_numbers(status.doing)
        if stepping and start and done > _solved_steps(start):  # a stop may come before the first
            numbers += f" · {steps[-1]['images_per_second']:,.0f} images/s"
        if left is not None and left >= LEAST_LEFT and stepping and status.state == "training":
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


def work_html(
    work: Work, doing: str, done: str, about: str, *, label: str, ended: str = "Finished", more: str = ""
) -> str:
    """How work that a process of its own does stands, in a line, with a bar while it runs.

    Args:
        work: a comparison, a study, or a check.
        doing: what is under way, as HTML; `done`: how much is done, "" where that is not told.
        about: what follows the word for its end, as HTML; `ended` is that word where all is done.
        label: of the bar.
        more: HTML below.
    """
    if work.state == "running":
        left = "" if work.seconds_left is None else f"about {duration(work.seconds_left)} left"
        numbers = " · ".join(filter(None, (done, left)))
        return progress_html(doing, numbers, share=work.doing.share, label=label, more=more)
    word = {"finished": ended, "stopped": "Stopped", "failed": "Failed"}[work.state]
    words = f"<b>{word}</b>{about}.{f' {escape(work.reason)}' if work.reason else ''}"
    numbers = " · ".join(filter(None, (done, duration(work.seconds))))
    return progress_html(words, numbers, state="failed" if work.state == "failed" else "ended", more=more)


def _tested_words(subject: str, test: Metric) -> str:
    return f"{subject}: {correct_words(test)}, <b>{percent(test['accuracy'])}</b> ({interval_words(test)})."


def _doing_numbers(doing: Doing) -> str:
    counted = f"{doing.done:,} of {doing.total:,} images" if doing.total else ""
    worth = doing.seconds_left is not None and doing.seconds_left >= LEAST_LEFT
    left = f"about {duration(doing.seconds_left or 0)} left" if worth else ""
    return " · ".join(filter(None, (counted, left)))
