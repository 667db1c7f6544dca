"""What came of a study, in words and numbers: for a page, in CSV, and in a report."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from resnet_space.common.text import NO_BREAK, percent
from resnet_space.training.choosing import listed
from resnet_space.training.comparison import by_reason
from resnet_space.training.study import ARMS, HELD_OUT, Arm, Mean, Study

TUTORIALS = (
    "For comparison, the tutorials' table, quoted and not measured here: ResNet-50 on the 50,000 images of CIFAR-10 "
    f"has 76.3{NO_BREAK}% from scratch in 100 epochs, and 94.7{NO_BREAK}% from ImageNet weights in 20."
)

COLUMNS = ("arm", "images per class", "seed", "accuracy %", "correct", "test images", "steps", "epochs", "seconds")


def table_rows(study: Study) -> list[list[object]]:
    """A row for every training, for CSV: `COLUMNS`."""
    order = list(ARMS)
    return [
        [p.arm, p.per_class, p.seed, round(100 * p.accuracy, 2), p.correct, p.images, p.steps, p.epochs, p.seconds]
        for p in sorted(study.done, key=lambda p: (order.index(p.arm), p.per_class, p.seed))
    ]


def words_of(study: Study) -> str:
    """What was found, in a few sentences; "" before there is something to compare."""
    sizes = [size for size in study.sizes if study.ahead("fine-tuned", "scratch", size)]
    if not sizes:
        return ""
    first, last = (study.ahead("fine-tuned", "scratch", size) for size in (sizes[0], sizes[-1]))
    assert first is not None
    assert last is not None
    said = [f"With {sizes[0]:,} images per class, fine-tuning is {_points(first)} than training from scratch"]
    if len(sizes) > 1:
        said[0] += f"; with {sizes[-1]:,}, {_points(last)}"
    said[0] += "."
    caught = study.catches_up("scratch", "fine-tuned")
    if caught is None:
        said.append(f"Scratch does not catch up within this data and {study.steps:,} steps.")
    else:
        said.append(f"Scratch catches up at {caught:,} images per class.")
    said += _worth(study, sizes)
    if all(study.ahead("fine-tuned", "scratch", size).interval for size in sizes):  # pyrefly: ignore[missing-attribute]
        said.append(_passes(study, sizes))
    else:
        said.append("Sizes with a single seed have no interval yet: chance alone may move them by some points.")
    return " ".join(said)


def left_out_words(study: Study) -> list[str]:
    """A sentence for each reason to leave sizes out."""
    return [
        f"Left out: {listed(names)} images per class, as {reason}."
        for reason, names in by_reason(study.left_out).items()
    ]


def points_of(ahead: Mean) -> str:
    """ "+12.3 points (+10.1 to +14.5)"."""
    value = f"{100 * ahead.value:+.1f} points"
    return f"{value} ({100 * ahead.low:+.1f} to {100 * ahead.high:+.1f})" if ahead.interval else value


def _points(ahead: Mean) -> str:
    value = f"{abs(100 * ahead.value):.1f} points {'better' if ahead.value >= 0 else 'worse'}"
    if ahead.interval is None:
        return value
    low, high = sorted((100 * ahead.low, 100 * ahead.high))
    return f"{value} (95{NO_BREAK}% interval of the difference {low:+.1f} to {high:+.1f})"


def _worth(study: Study, sizes: Sequence[int]) -> list[str]:
    """How few images fine-tuning needs for what scratch reaches with the most."""
    best = study.mean("scratch", sizes[-1])
    if best is None or len(sizes) < 2:
        return []
    fewest = next((s for s in sizes if (m := study.mean("fine-tuned", s)) and m.value >= best.value), None)
    if fewest is None or fewest == sizes[-1]:
        return []
    return [
        f"Fine-tuned on {fewest:,} images per class, the network is at least as accurate as from scratch on "
        f"{sizes[-1]:,}."
    ]


def _passes(study: Study, sizes: Sequence[int]) -> str:
    """From which size on fine-tuning clearly beats the frozen network."""
    clear = None
    for size in reversed(sizes):
        ahead = study.ahead("fine-tuned", "frozen", size)
        if ahead is None or ahead.low <= 0:
            break
        clear = size
    if clear is None:
        return "Fine-tuning does not clearly beat the frozen network with a solved head."
    if clear == sizes[0]:
        return "Fine-tuning clearly beats the frozen network with a solved head at every size."
    return f"Fine-tuning clearly beats the frozen network with a solved head from {clear:,} images per class on."


def share_of(mean: Mean | None) -> str:
    """ "71.2 % (69.0 to 73.4 %)"; "" for none."""
    if mean is None:
        return ""
    value = percent(mean.value, space=NO_BREAK)
    if mean.interval is None:
        return value
    low, high = max(mean.low, 0.0), min(mean.high, 1.0)
    return f"{value} ({100 * low:.1f} to {percent(high, space=NO_BREAK)})"


def method_words(study: Study) -> str:
    """What the numbers are of, in a paragraph."""
    seeds = "1 seed" if study.seeds == 1 else f"{study.seeds} seeds"
    limited = "" if study.most_epochs is None else f", in at most {study.most_epochs} epochs"
    return (
        f"{study.start} on {study.dataset}, {study.classes:,} classes, {seeds}. A subset of a seed is part of its "
        f"larger ones; {percent(HELD_OUT, 0, NO_BREAK)} of it is held out to choose the best epoch and the head's "
        f"penalty. From scratch and fine-tuned, each training takes about {study.steps:,} gradient steps{limited}: "
        "with equal epochs, few images would mean few steps. Accuracy is on all test images. Intervals: Student's t "
        f"over the seeds; differences are paired by seed. Machine: {study.machine}."
    )


def costs_of(study: Study) -> list[tuple[Arm, int, float, float, int]]:
    """For each arm at the largest size that it has: (arm, size, mean seconds, mean accuracy, epochs)."""
    rows: list[tuple[Arm, int, float, float, int]] = []
    for arm in ARMS:
        own = [p for p in study.done if p.arm == arm]
        if own:
            size = max(p.per_class for p in own)
            at = [p for p in own if p.per_class == size]
            rows.append((arm, size, fmean(p.seconds for p in at), fmean(p.accuracy for p in at), at[0].epochs))
    return rows


def to_json(study: Study) -> dict[str, Any]:
    """For programs: the curves with their intervals, and what was found in words."""
    curves = {
        arm: [
            {"images_per_class": size, "accuracy": round(m.value, 5), "interval": m.interval, "seeds": m.seeds}
            for size in study.sizes
            if (m := study.mean(arm, size))
        ]
        for arm in ARMS
    }
    return {
        "words": words_of(study),
        "scratch_catches_up": study.catches_up("scratch", "fine-tuned"),
        "curves": curves,
        "trainings": [dict(zip(COLUMNS, row, strict=True)) for row in table_rows(study)],
    }
