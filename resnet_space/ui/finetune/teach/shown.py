"""What the page is told of a set: its classes with their pictures, how far the lesson is, and what came of it."""

from collections.abc import Sequence
from typing import Any

from resnet_space.common.text import percent
from resnet_space.data.archives.report import Skipped
from resnet_space.data.images import ImageError
from resnet_space.data.taught import TaughtPicture, TaughtSet, read_pictures, thumbnail
from resnet_space.serve.taught import LEAST, Step, missing
from resnet_space.training.evaluation import wilson_interval
from resnet_space.ui.finetune.teach.requests import Asked
from resnet_space.ui.pictures import data_url
from resnet_space.ui.reports import counted

SHOWN = 24  # pictures of a class that are shown at first, the newest
NAMED = 3  # files that were left out, by name
PHASES = {
    "loading": "Loading PyTorch and EfficientNet-Lite0 (the first time only)",
    "features": "Computing features of the new pictures",
    "solving": "Fitting the model",
    "keeping": "Saving the model",
}


def shown_pictures(taught: TaughtSet, class_id: int, unfolded: bool) -> list[TaughtPicture]:
    """Of a class, the newest first."""
    newest = taught.of(class_id)[::-1]
    return newest if unfolded else newest[:SHOWN]


def classes_of(taught: TaughtSet, asked: Asked) -> list[dict[str, Any]]:
    """Every class with the ids of the pictures that are shown."""
    return [
        {
            "id": own.id,
            "name": own.name,
            "count": len(taught.of(own.id)),
            "pictures": [picture.id for picture in shown_pictures(taught, own.id, own.id in asked.unfolded)],
        }
        for own in taught.classes
    ]


def thumbnails(taught: TaughtSet, asked: Asked) -> dict[str, str]:
    """Those that the page lacks, by id. A picture that is damaged has none."""
    wanted = {
        picture.id for own in taught.classes for picture in shown_pictures(taught, own.id, own.id in asked.unfolded)
    }
    found = {}
    for id_, content in read_pictures(taught, wanted - asked.known):
        try:
            found[id_] = data_url(thumbnail(content), "image/jpeg")
        except ImageError:
            continue
    return found


def left_out_words(files: Sequence[Skipped]) -> str:
    """What was no picture, and why; nothing where all were."""
    if not files:
        return ""
    named = "; ".join(f"{file.name}: {file.reason}" for file in files[:NAMED])
    more = f" And {len(files) - NAMED} more." if len(files) > NAMED else ""
    return f"{counted(len(files), 'file')} {'was' if len(files) == 1 else 'were'} left out. {named}{more}"


def step_value(step: Step, asked: Asked) -> dict[str, Any]:
    """How far it is, without the pictures."""
    words = PHASES.get(step.phase, "")
    if step.total:
        words += f": {step.done} of {step.total}"
    value: dict[str, Any] = {
        "number": asked.number,
        "set": step.taught.name,
        "run": step.taught.run,
        "done": step.phase == "done",
        "phase": words,
        "missing": missing(step.taught),
        "taught": step.lesson is not None,
    }
    if step.lesson is None:
        return value
    judged = step.lesson.held_out
    ids = [picture.id for picture in step.taught.pictures]
    wrong = {
        ids[row]: judged.classes[predicted]
        for row, predicted, right in zip(judged.rows, judged.predicted, judged.correct, strict=True)
        if not right
    }
    return value | {"said": lesson_words(step), "caution": caution_words(step), "wrong": wrong}


def lesson_words(step: Step) -> str:
    """How good the model is, and how long it took."""
    assert step.lesson is not None
    right, judged = step.lesson.right, len(step.lesson.held_out)
    low, high = wilson_interval(right, judged)
    took = f" Trained in {step.seconds:.1f} s." if step.seconds else ""
    return (
        f"{right} of {judged} pictures correct when each is held out in turn: {percent(right / judged, 0)} "
        f"(95 % interval {100 * low:.0f} to {percent(high, 0)}).{took}"
    )


def caution_words(step: Step) -> str:
    """Why that may be too good, or what would help most; nothing where neither is known."""
    assert step.lesson is not None
    classes = step.taught.used_classes
    alike = [classes[i].name for i in step.lesson.alike]
    single = [own.name for own in classes if len(step.taught.of(own.id)) < LEAST]
    said = []
    if alike:
        come = "come" if len(alike) == 1 else "each come"
        said.append(
            f"All pictures of {_and(alike)} {come} from one recording and look alike, so this accuracy is likely "
            "optimistic: record again from another angle or in another place."
        )
    if single:
        have = "has" if len(single) == 1 else "have"
        said.append(f"{_and(single)} {have} only one picture, which cannot be held out: add more.")
    return " ".join(said)


def _and(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
