"""The answer: the most probable classes as bars, the label where it is known, who answers, and what to mind.

Each class is a button: it chooses the heatmap that stands beside that of the first class.
"""

from collections.abc import Sequence
from html import escape

from resnet_space.ui.html import cautions_html, note_html
from resnet_space.ui.predict.looks import SMALL, Choice, Look
from resnet_space.ui.predict.wanted import Wanted

EMPTY = '<div class="empty">Choose an example or add your own picture. The prediction appears here.</div>'
SURE = 0.5  # a class with less is not given as the answer


def answers_html(looks: Sequence[Look], choice: Choice, wanted: Wanted, label: str = "") -> str:
    """The answer of each run.

    Args:
        looks: one or two.
        choice: why it is the first of these runs. The page's address names a run that the visitor chose.
        wanted: the picture, for the address.
        label: the picture's class where it is known, else empty.
    """
    marks = {
        "run": choice.name if choice.is_visitors else "",
        "with": looks[1].name if len(looks) > 1 else "",
        "example": wanted.example,
        "picture": wanted.picture,
        "of": wanted.of,
    }
    data = " ".join(f'data-{name}="{escape(value)}"' for name, value in marks.items())
    answers = "".join(_answer(look, i, label, _who(choice) if i == 0 else "") for i, look in enumerate(looks))
    return f'<div class="answers sides" {data}>{answers}</div>'


def _who(choice: Choice) -> str:
    """Why this run answers, and the way to another."""
    fitting = f"pictures of up to {SMALL} pixels" if choice.is_small else "photographs"
    why = "" if choice.is_visitors else note_html(f"Answers {fitting} unless you choose a run.")
    if not choice.instead:
        return why
    name = escape(choice.instead)
    return f'{why}<button type="button" class="ask" data-choose="{name}">Answer with <b>{name}</b> instead</button>'


def _answer(look: Look, side: int, label: str, who: str) -> str:
    prediction = look.prediction
    name, share = prediction.classes[0], prediction.probabilities[0]
    if prediction.unusual:
        headline = f"No reliable answer. Closest class: {escape(name)}"
    elif share < SURE:
        headline = f"Not sure. Perhaps <b>{escape(name)}</b>"
    else:
        headline = f"<b>{escape(name)}</b>"
    buttons = "".join(
        f'<button type="button" data-class="{index}" data-name="{escape(probable)}" '
        f'aria-pressed="{"false" if i else "true"}" style="--share: {100 * probability:.2f}%" '
        'title="Show the evidence for this class">'
        f'<span class="name">{escape(probable)}</span><span class="percent">{percent(probability)}</span></button>'
        for i, (index, probable, probability) in enumerate(
            zip(prediction.indices, prediction.classes, prediction.probabilities, strict=True)
        )
    )
    doubtful = " doubtful" if prediction.unusual else ""
    return (
        f'<section class="answer{doubtful}" data-side="{side}" aria-label="Answer of {escape(look.name)}">'
        f'<p class="of">{escape(look.name)}</p><p class="said" aria-live="polite">{headline}</p>'
        f"{truth_html(label, name, look.classifier.config.classes)}{warnings_html(look)}"
        f'<div class="classes" role="group" aria-label="Top {len(prediction.classes)} classes. Choose one to see the '
        f'evidence for it.">{buttons}</div>{who}{_how(look)}</section>'
    )


def truth_html(label: str, predicted: str, classes: Sequence[str]) -> str:
    """The label beside the prediction; without a verdict where the run does not know the label's class."""
    if not label:
        return ""
    if label not in classes:
        return f'<p class="truth">Labelled <b>{escape(label)}</b>, which is not a class of this run</p>'
    mark, right = ("✓", "right") if label == predicted else ("✗", "wrong")
    return (
        f'<p class="truth {right}"><span aria-hidden="true">{mark}</span> labelled <b>{escape(label)}</b> · model says '
        f"<b>{escape(predicted)}</b></p>"
    )


def warnings_html(look: Look) -> str:
    """What a reader has to mind, if there is anything."""
    return cautions_html(*look.prediction.warnings)


def _how(look: Look) -> str:
    words = f"Preprocessing: {look.classifier.preprocessing}."
    if look.prediction.calibrated:
        temperature = look.classifier.config.temperature
        words += f" Probabilities are calibrated on the validation set (temperature {temperature:.2f})."
    return f'<details class="note"><summary>How the picture is prepared</summary><p>{escape(words)}</p></details>'


def percent(probability: float) -> str:
    """Never 100 % or 0 % by rounding."""
    shown = f"{100 * probability:.1f}"
    if shown == "100.0" and probability < 1:
        return "> 99.9 %"
    return "< 0.1 %" if shown == "0.0" and probability > 0 else f"{shown} %"
