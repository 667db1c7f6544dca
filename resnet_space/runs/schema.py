"""The schema of the lines of `metrics.jsonl`: one model per event, used by `metrics.metric_of`."""

from typing import Annotated, Any, Literal, Self, TypeGuard

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from resnet_space.common.text import quoted

_ABSENT: Any = None  # the default of what need not be there; given, it must be of its type

Number = Annotated[float, Field(ge=-1e15, le=1e15, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, le=1e15, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Correlation = Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]
Loss = Annotated[float, Field(ge=-1e6, le=1e300, allow_inf_nan=False)]  # of a training that diverges, before it ends
Count = Annotated[int, Field(ge=1, le=10**12)]
Text = Annotated[str, Field(max_length=2_000)]
Rates = Annotated[dict[Text, NotNegative], Field(max_length=500)]
LossName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
Losses = Annotated[dict[LossName, Number], Field(max_length=16)]
Quartiles = Annotated[list[NotNegative], Field(min_length=3, max_length=3)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class Phase(_Strict):
    epochs: Count
    rates: Rates
    solved: bool = False


class Residuals(_Strict):
    """Ratios by depth, as `residuals.history` writes them."""

    images: Count
    blocks: Annotated[list[Text], Field(min_length=1, max_length=200)]  # resnet110 has 54
    ratio: list[Quartiles]

    @model_validator(mode="after")
    def _of_every_block(self) -> Self:
        if len(self.blocks) != len(self.ratio):
            raise ValueError("every block must have three ratios")
        return self


class Line(BaseModel):
    """Fields of any event; plain values of other versions of this app are allowed too."""

    model_config = ConfigDict(strict=True, extra="allow")
    __pydantic_extra__: dict[str, bool | Text | Number | None] = Field(init=False)

    event: str
    phases: Annotated[list[Phase], Field(max_length=1_000)] = _ABSENT
    rates: Rates = _ABSENT
    reason: Text = _ABSENT
    cause: Text = _ABSENT
    memory: NotNegative = _ABSENT
    phase: Count = _ABSENT
    test_evaluations: Count = _ABSENT
    residuals: Residuals = _ABSENT
    step: Annotated[int, Field(ge=0, le=10**12)] = _ABSENT
    top5_accuracy: Share = _ABSENT
    ece: Share = _ABSENT
    ece_uncalibrated: Share = _ABSENT
    macro_f1: Share = _ABSENT
    time: Annotated[float, Field(ge=0, le=1e11, allow_inf_nan=False)] = _ABSENT
    seconds: NotNegative = _ABSENT


class StartLine(Line):
    epochs: Count
    steps_per_epoch: Count
    device: Text
    precision: Text
    parameters: Count
    train_images: Count
    validation_images: Count


class StepLine(Line):
    step: Count
    loss: Loss
    losses: Losses = _ABSENT
    measures: Losses = _ABSENT
    images_per_second: NotNegative
    seconds: NotNegative


class EpochLine(Line):
    epoch: Count
    train_accuracy: Share
    validation_accuracy: Share
    losses: Losses = _ABSENT
    measures: Losses = _ABSENT
    target_accuracy: Share = _ABSENT
    seconds: NotNegative


class TestLine(Line):
    split: Text
    images: Count
    accuracy: Share
    target: Text = _ABSENT
    target_images: Count = _ABSENT
    target_accuracy: Share = _ABSENT
    seconds: NotNegative


class CalibrationLine(Line):
    images: Count
    temperature: Annotated[float, Field(ge=0.01, le=100, allow_inf_nan=False)]
    ece_before: Share
    ece_after: Share


class SanityLine(Line):
    method: Text
    parts: Annotated[list[Text], Field(min_length=1, max_length=100)]
    correlations: Annotated[list[Correlation], Field(min_length=1, max_length=100)]
    images: Count


class EndLine(Line):
    status: Literal["finished", "stopped", "failed"]


EVENTS: dict[str, type[Line]] = {
    "start": StartLine,
    "step": StepLine,
    "epoch": EpochLine,
    "test": TestLine,
    "calibration": CalibrationLine,
    "sanity": SanityLine,
    "end": EndLine,
}


def problem_of(metric: dict[str, Any], *, whole: bool) -> str | None:
    """The problem with a line of metrics, as the end of a sentence; None if it is valid.

    Unless it must be `whole`, it may lack fields of its event and have long texts and additional fields.
    """
    model = EVENTS.get(metric["event"], Line)
    try:
        model.model_validate(metric)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
    else:
        return None
    missing = [problem["loc"][0] for problem in problems if problem["type"] == "missing" and len(problem["loc"]) == 1]
    if whole and missing:
        return f"has no {missing[0]!r}"
    for problem in problems:
        name = str(problem["loc"][0])
        bearable = problem["type"] in ("missing", "string_too_long") and len(problem["loc"]) == 1
        if whole or not (bearable or name not in model.model_fields):
            return f"has {quoted(metric[name])} as {quoted(name)}"
    return None


def is_residual_entry(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether it is what `residuals.history.growth_entry` writes; a run's metrics may come from anyone."""
    try:
        Residuals.model_validate(value)
    except ValidationError:
        return False
    return True
