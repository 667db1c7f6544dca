"""The top-5 in words and bars. Each class is a button: which of them the maps are about."""

from collections.abc import Sequence
from html import escape

from resnet_space.ui.predict.looks import Look

EMPTY = '<div class="empty">Choose an example below the picture, or bring your own: the answer appears here.</div>'
SURE = 0.5  # a class with less is not given as the answer


def answers_html(looks: Sequence[Look], example: str | None) -> str:
    """What each run says; `example` is the name of the example that the picture is, if it is one."""
    marks = {"run": looks[0].name, "with": looks[1].name if len(looks) > 1 else "", "example": example or ""}
    data = " ".join(f'data-{name}="{escape(value)}"' for name, value in marks.items())
    return f'<div class="answers sides" {data}>{"".join(_answer(look, i) for i, look in enumerate(looks))}</div>'


def _answer(look: Look, side: int) -> str:
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
        f"{warning_html(look)}"
        f'<div class="classes" role="group" aria-label="Top {len(prediction.classes)}: choose a class to see where it '
        f'is found">{buttons}</div>{_how(look)}</section>'
    )


def warning_html(look: Look) -> str:
    """What a reader has to mind, if there is anything."""
    warning = look.prediction.warning
    return f'<p class="caution">{escape(warning)}</p>' if warning else ""


def _how(look: Look) -> str:
    config = look.classifier.config
    if config.temperature == 1.0 and look.classifier.feature_statistics is None:
        sure = "The probabilities are the model's own: they were not calibrated"
    else:
        sure = f"The probabilities are calibrated on validation images (temperature {config.temperature:.2f})"
    return f'<p class="note">{escape(look.classifier.preprocessing.capitalize())}. {sure}.</p>'


def percent(probability: float) -> str:
    """Never 100 % or 0 % by rounding."""
    shown = f"{100 * probability:.1f}"
    if shown == "100.0" and probability < 1:
        return "> 99.9 %"
    return "< 0.1 %" if shown == "0.0" and probability > 0 else f"{shown} %"
