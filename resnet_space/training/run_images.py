"""The images of a run's training, and checks before it."""

from collections.abc import Callable

from resnet_space.common.errors import UserError
from resnet_space.data.members import SplitMembers
from resnet_space.data.splits import Splits, load_splits
from resnet_space.runs import MEMBERS, RESUME, STATE, Run, replaced_atomically


def splits_of(run: Run, *, record: bool = False, progress: Callable[[int, int], None] | None = None) -> Splits:
    """The decoded images of a run's training; for a resumed one, the same as at its start.

    Args:
        run: trained or untrained.
        record: store the list of these pictures for resuming, if that was not done before.
        progress: called with (decoded, total) for each split.

    Raises:
        UserError: for data that cannot be read, has other classes, or lacks a picture from the start of the training.
    """
    model = run.config.model
    members = SplitMembers.load(run.path / MEMBERS) if (run.path / STATE).exists() else None
    splits = load_splits(
        run.config.training,
        model.stored_size,
        classes=model.classes,
        members=members,
        progress=progress,
        folder=run.path / RESUME,
    )
    if splits.train.classes != model.classes:
        raise UserError(f"The classes of {run.name} differ from those of the dataset {run.config.training.dataset}.")
    if record and members is None and (members := SplitMembers.of(splits)) is not None:
        with replaced_atomically(run.path / MEMBERS) as file:
            members.save(file)
    return splits


def check_untrained(run: Run, resume: bool) -> None:
    """Refuse to overwrite an existing training. Raises UserError."""
    has_state = (run.path / STATE).exists()
    if resume and run.has_weights and not has_state:
        raise UserError(f"{run.name} cannot be resumed: its {STATE} is not on this machine.")
    if not resume and (run.has_weights or has_state or run.metrics()):
        raise UserError(f"{run.name} has already been trained: continue with --resume, or create a new run.")
