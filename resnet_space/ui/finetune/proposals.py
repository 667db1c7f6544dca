"""What the form proposes for a visitor's data, by the names and values of its fields."""

from collections.abc import Mapping
from html import escape
from typing import Any

from resnet_space.config import OBJECTIVES
from resnet_space.serve.context import AppContext
from resnet_space.serve.proposals import proposed
from resnet_space.training.proposal import CHOICES, Proposal
from resnet_space.ui.finetune.form import MODEL_SETTINGS, training_fields
from resnet_space.ui.finetune.status import RANDOM
from resnet_space.ui.html import note_html

MOST_EPOCHS = 1_000  # whose time is told
OWN_BUSINESS = ("seed", "validation_fraction", "grouped_split")  # settings that no proposal is about


def proposal_for(
    context: AppContext,
    dataset: str,
    key: str | None,
    chosen: Mapping[str, Any] | None = None,
    *,
    epochs: object = None,
) -> Proposal:
    """A training for a dataset that a visitor may use. Raises UserError for what does not go together.

    Args:
        chosen: what they have settled already: values of the form's fields, of which those of `CHOICES` count.
        epochs: how many they want, where that is a number that may be.
    """
    settled = {name: value for name, value in (chosen or {}).items() if name in CHOICES and value not in (None, "")}
    if settled.get("start") == RANDOM:
        settled["start"] = None
    elif "architecture" in settled:  # the start has its own
        del settled["architecture"]
    if isinstance(epochs, int | float) and 1 <= epochs <= MOST_EPOCHS and epochs == int(epochs):
        settled["epochs"] = int(epochs)
    return proposed(context, context.datasets.summary(context.datasets.named(dataset, key)), settled)


def form_values(proposal: Proposal) -> dict[str, Any]:
    """What the form's fields become."""
    start = RANDOM if proposal.start is None else proposal.start
    return proposal.values | {"start": start}


def whole_form(proposal: Proposal) -> dict[str, Any]:
    """As `form_values`, with the defaults of all other fields but the data and what is nobody else's business."""
    others = training_fields() | dict.fromkeys(set(MODEL_SETTINGS) - {"image_size"}, "")
    values = {name: value for name, value in others.items() if name not in OWN_BUSINESS}
    return values | form_values(proposal)


def deviates(values: Mapping[str, Any], proposal: Proposal) -> bool:
    """Whether the form's values are not those that are proposed."""
    from_start = () if proposal.start is None else ("architecture", "shortcut")  # which the start has
    proposed_values = whole_form(proposal)
    return any(values.get(name) != value for name, value in proposed_values.items() if name not in from_start)


def recommendation_html(proposal: Proposal) -> str:
    more = f' <span class="subdued">{escape(proposal.more)}</span>' if proposal.more else ""
    return f'<p class="recommended">{escape(proposal.reason)}{more}</p>'


def estimate_html(proposal: Proposal, values: Mapping[str, Any]) -> str:
    """How long the form's training takes, as the proposal for its choices and epochs says."""
    if proposal.seconds is None or values.get("image_size") != proposal.settings.get("image_size"):
        return ""
    objective = OBJECTIVES.get(str(values.get("objective")))
    twice = (
        " The target's batches about double the time of the steps." if objective and objective.has_second_stream else ""
    )
    return note_html(f"{proposal.time[0].upper()}{proposal.time[1:]}.{twice}")
