"""Which pictures a training began with, so that a resumed one goes on with the same."""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnet_space.common.errors import UserError

if TYPE_CHECKING:
    from resnet_space.data.splits import ImageSet, Splits


@dataclass(frozen=True)
class SplitMembers:
    """The pictures of each set of a training, by digest (int64, in the set's order), their splits, and the notes."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    validation_name: str
    test_name: str
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, splits: "Splits") -> "SplitMembers | None":
        """None if the digests are unknown."""
        train, validation, test = (data.digests for data in (splits.train, splits.validation, splits.test))
        if train is None or validation is None or test is None:
            return None
        digests = train.numpy(), validation.numpy(), test.numpy()
        return cls(*digests, splits.validation_name, splits.test_name, splits.notes)

    def save(self, file: Path) -> None:
        with file.open("wb") as opened:
            np.savez(opened, **vars(self))

    @classmethod
    def load(cls, file: Path) -> "SplitMembers | None":
        """None if the file is missing or damaged."""
        try:
            with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
                train, validation, test = (arrays[name].astype(np.int64) for name in ("train", "validation", "test"))
                notes = tuple(map(str, arrays["notes"])) if "notes" in arrays else ()
                return cls(train, validation, test, str(arrays["validation_name"]), str(arrays["test_name"]), notes)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def positions_in(
        self, sets: "Mapping[str, ImageSet]", dataset: str
    ) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[str, ...]]:
        """Where the pictures of (train, validation, test) are in a dataset, and what there is to say of it.

        Raises UserError if one is missing, as the dataset may have changed since.
        """
        rows: dict[tuple[str, int], list[int]] = {}  # where each picture is; copies in their order
        for split, data in sets.items():
            assert data.digests is not None
            for row, digest in enumerate(data.digests.tolist()):
                rows.setdefault((split, digest), []).append(row)
        for found in rows.values():
            found.reverse()

        def taken(split: str, digests: NDArray[np.int64]) -> Tensor:
            found = [rows[split, digest].pop() if rows.get((split, digest)) else -1 for digest in digests.tolist()]
            return torch.tensor(found, dtype=torch.int64)

        train = taken("train", self.train)
        validation, test = taken(self.validation_name, self.validation), taken(self.test_name, self.test)
        lost = int((torch.cat([train, validation, test]) < 0).sum())
        if lost:
            raise UserError(
                f"The dataset {dataset!r} has changed since the training started: {lost:,} of its images "
                "are missing or have another class; restore them to resume, or start a new run."
            )
        used = {"train", self.validation_name, self.test_name}
        added = sum(len(left) for (split, _), left in rows.items() if split in used)
        were, are = ("image was", "is") if added == 1 else ("images were", "are")
        told = f"{added:,} {were} added to the dataset after the training started and {are} not used."
        return (train, validation, test), (told,) if added else ()
