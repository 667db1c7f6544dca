"""Start a study of what transfer is worth, for a visitor."""

from resnet_space.common.errors import UserError
from resnet_space.hub.pretrained import is_pretrained
from resnet_space.serve.context import AppContext
from resnet_space.serve.proposals import speeds_of
from resnet_space.training.study import Study, planned

MINUTES, MOST_MINUTES = 60.0, 6_000.0  # that a study may be expected to take


def plan_study(
    context: AppContext,
    dataset: str,
    key: str | None,
    *,
    start: str,
    sizes: object,
    seeds: object,
    steps: object,
    minutes: object = MINUTES,
) -> Study:
    """A study with the sizes that the data and the minutes allow, not yet started. Raises UserError.

    Args:
        start: the run, or pretrained weights, to transfer.
        sizes: images per class, as text: "5, 10, 30".
        seeds, steps: as of a `Study`.
        minutes: that all may take, as far as that can be told beforehand.
    """
    if not isinstance(minutes, int | float) or not 0 < minutes <= MOST_MINUTES:
        raise UserError(f"The minutes must be above 0 and at most {MOST_MINUTES:g}, not {minutes!r}.")
    if start not in context.trained_names(key) and not is_pretrained(start):
        raise UserError("Choose weights to start from in the form above: a study asks what they are worth.")
    ref, data = context.dataset_to_judge(dataset, key, "train")
    limit = context.limits.minutes
    study = Study(
        dataset=str(ref),
        start=start,
        sizes=sizes_of(sizes),
        seeds=whole(seeds),
        steps=whole(steps),
        budget=minutes if limit is None else min(minutes, limit),
        minutes=limit,
        most_epochs=context.limits.epochs,
    )
    return planned(study, data, context.start_model(start), speeds_of(context))


def start_study(context: AppContext, study: Study, key: str | None) -> str:
    """Start a planned study. Returns its name. Raises UserError; then nothing was started."""
    return context.start_work(context.studies, study, context.writer(key))


def sizes_of(text: object) -> tuple[int, ...]:
    """Of "5, 10, 30". Raises UserError."""
    try:
        return tuple(int(part) for part in str(text).replace(",", " ").split())
    except ValueError:
        raise UserError(f"The images per class must be whole numbers, such as 5, 10, 30, not {text!r}.") from None


def whole(value: object) -> int:
    """Of a number field, which gives 3.0 for 3; anything else goes on as it is, to be refused by name."""
    return int(value) if isinstance(value, float) and value.is_integer() else value  # pyrefly: ignore[bad-return]
