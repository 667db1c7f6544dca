"""Start a check of a dataset, for a visitor."""

import time

from resnet_space.config import TrainConfig
from resnet_space.serve import visitors
from resnet_space.serve.context import AppContext
from resnet_space.training.data_report import DataReport
from resnet_space.training.speeds import machine_words

RECOMMENDED = ""  # the shipped backbone that suits the pictures


def start_check(context: AppContext, dataset: str, key: str | None, *, backbone: str = RECOMMENDED) -> str:
    """Check a dataset in a process of its own.

    Args:
        context: what all share.
        dataset: a choice's value.
        key: the visitor's.
        backbone: the run whose network computes the features.

    Returns:
        The check's name.

    Raises:
        UserError: with one sentence; then nothing was started.
    """
    context.require_writable()
    key = visitors.require_key(key, public=context.public)
    ref = context.datasets.named(dataset, key)
    data = context.datasets.summary(ref)
    context.limits.check(TrainConfig(dataset=ref.name, epochs=1), sum(map(sum, data.counts.values())))
    asked = DataReport(
        dataset=str(ref),
        backbone=context.start_run(backbone).name if backbone else "",
        minutes=context.limits.minutes,
        busy=context.trainer.active() is not None,
        machine=machine_words(),
        created=round(time.time(), 1),
    )
    context.storage.room_for(0, "The check")
    return context.checks.start(asked, lambda owners: context.claim(owners, key) if key else None)
