"""Start a check of a dataset, or a map of its pictures, for a visitor."""

from resnet_space.common.errors import UserError
from resnet_space.serve.context import AppContext
from resnet_space.training.data_map import DataMap
from resnet_space.training.data_report import DataReport

RECOMMENDED = ""  # the shipped backbone that suits the pictures


def start_check(
    context: AppContext, dataset: str, key: str | None, *, backbone: str = RECOMMENDED, mapped: bool = False
) -> str:
    """Check a dataset in a process of its own; `mapped`: whether a map is wanted with it. Returns the check's name.

    Raises:
        UserError: with one sentence; then nothing was started.
    """
    key = context.writer(key)
    ref, _ = context.dataset_to_judge(dataset, key)
    chosen = context.start_run(backbone).name if backbone else ""
    return context.start_work(context.checks, DataReport(dataset=str(ref), mapped=mapped, backbone=chosen), key)


def start_map(context: AppContext, check: object, key: str | None) -> str:
    """Draw a map of a check's pictures in a process of its own. Returns its name.

    Raises:
        UserError: with one sentence; then nothing was started.
    """
    key = context.writer(key)
    found = context.checks.open(check)
    if not found.counts or found.state == "running":
        raise UserError("There are no pictures for a map yet: check them first.")
    return context.start_work(context.maps, DataMap(dataset=found.dataset, check=str(check)), key)


def map_of(context: AppContext, check: object, key: str | None) -> tuple[str, DataMap] | None:
    """The visitor's newest map, with its name, if it is one of this check."""
    name = context.maps.newest(key)
    if name is None:
        return None
    found = context.maps.open(name)
    return (name, found) if found.check == check else None
