"""The top-5 in words and bars. Each class is a button: which of them the maps are about."""

from collections.abc import Sequence
from html import escape

from resnet_space.ui.predict.choice import Choice
from resnet_space.ui.predict.looks import Look

EMPTY = '<div class="empty">Choose an example below the picture, or bring your own: the answer appears here.</div>'
SURE = 0.5  # a class with less is not given as the answer


def answers_html(looks: Sequence[Look], choice: Choice, example: str | None) -> str:
    """What each run says.

    Args:
        looks: one or two.
        choice: why it is the first of these runs. The page's address names a run that the visitor chose.
        example: the name of the example that the picture is, if it is one.
    """
    chosen = looks[0].name if choice.is_visitors else ""
    marks = {"run": chosen, "with": looks[1].name if len(looks) > 1 else "", "example": example or ""}
    data = " ".join(f'data-{name}="{escape(value)}"' for name, value in marks.items())
    answers = "".join(_answer(look, i, _instead(choice) if i == 0 else "") for i, look in enumerate(looks))
    return f'<div class="answers sides" {data}>{answers}</div>'


def _instead(choice: Choice) -> str:
    """The way to another run."""
    if not choice.instead:
        return ""
    value = "" if choice.instead_is_fitting else choice.instead
    return (
        f'<button type="button" class="ask" data-choose="{escape(value)}">Ask <b>{escape(choice.instead)}</b> instead'
        "</button>"
    )


def _answer(look: Look, side: int, instead: str) -> str:
    prediction = look.prediction
    name, share = prediction.classes[0], prediction.probabilities[0]
    if prediction.unusual:
        headline = f"No answer to rely on. At best: {escape(name)}"
    elif share < SURE:
        headline = f"Not sure. Perhaps <b>{escape(name)}</b>"
    else:
        headline = f"<b>{escape(name)}</b>"
    buttons = "".join(
        f'<button type="button" data-class="{index}" data-name="{escape(label)}" '
        f'aria-pressed="{"false" if i else "true"}" style="--share: {100 * probability:.2f}%" '
        'title="Where does it find this class?">'
        f'<span class="name">{escape(label)}</span><span class="percent">{percent(probability)}</span></button>'
        for i, (index, label, probability) in enumerate(
            zip(prediction.indices, prediction.classes, prediction.probabilities, strict=True)
        )
    )
    doubtful = " doubtful" if prediction.unusual else ""
    return (
        f'<section class="answer{doubtful}" data-side="{side}" aria-label="What {escape(look.name)} says">'
        f'<p class="of">{escape(look.name)} says</p><p class="said" aria-live="polite">{headline}</p>'
        f"{warnings_html(look)}"
        f'<div class="classes" role="group" aria-label="Top {len(prediction.classes)}: choose a class to see where it '
        f'is found">{buttons}</div>{_how(look)}{instead}</section>'
    )


def warnings_html(look: Look) -> str:
    """What a reader has to mind, if there is anything."""
    return "".join(f'<p class="caution">{escape(warning)}</p>' for warning in look.prediction.warnings)


def _how(look: Look) -> str:
    words = f"{look.classifier.preprocessing.capitalize()}."
    if look.prediction.calibrated:
        temperature = look.classifier.config.temperature
        words += f" The probabilities are calibrated on validation images (temperature {temperature:.2f})."
    return f'<p class="note">{escape(words)}</p>'


def percent(probability: float) -> str:
    """Never 100 % or 0 % by rounding."""
    shown = f"{100 * probability:.1f}"
    if shown == "100.0" and probability < 1:
        return "> 99.9 %"
    return "< 0.1 %" if shown == "0.0" and probability > 0 else f"{shown} %"
