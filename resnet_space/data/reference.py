"""References to datasets, and the names of their splits."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl, urlencode

if TYPE_CHECKING:
    from resnet_space.config import TrainConfig

SPLITS = ("train", "validation", "test")
SPLIT_NAMES = {  # what people call them, as the `datasets` library reads it
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}


@dataclass(frozen=True)
class DatasetRef:
    """A reference to a dataset: on this machine by its name, or on the Hub.

    A Hub dataset is written "owner/name@revision#config?label=column&image=column", where everything except the name is
    optional; `label` and `image` override the columns chosen by `classification_columns`.
    """

    name: str
    config: str | None = None
    revision: str | None = None
    label: str | None = None
    image: str | None = None

    @property
    def is_on_hub(self) -> bool:
        return "/" in self.name

    @property
    def words(self) -> str:
        """Its name, with whatever distinguishes it from others of the same name."""
        parts = ", ".join(part for part in (self.config, self.label, self.image) if part)
        return f"{self.name} ({parts})" if parts else self.name

    @classmethod
    def parse(cls, text: str) -> Self:
        """The inverse of `str`."""
        if "/" not in text:  # a folder's name may have anything in it
            return cls(text)
        rest, _, columns = text.partition("?")
        rest, _, config = rest.partition("#")
        name, _, revision = rest.partition("@")
        chosen = dict(parse_qsl(columns))
        return cls(name, config or None, revision or None, chosen.get("label"), chosen.get("image"))

    @classmethod
    def of(cls, training: "TrainConfig") -> Self:
        """The dataset that a run is trained with."""
        return cls(
            training.dataset,
            training.dataset_config,
            training.dataset_revision,
            training.dataset_label,
            training.dataset_image,
        )

    @property
    def settings(self) -> dict[str, Any]:
        """The inverse of `of`: the values of TrainConfig's fields."""
        return {
            "dataset": self.name,
            "dataset_config": self.config,
            "dataset_revision": self.revision,
            "dataset_label": self.label,
            "dataset_image": self.image,
        }

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        chosen = {name: column for name, column in (("label", self.label), ("image", self.image)) if column}
        columns = urlencode(chosen) if self.is_on_hub else ""  # a folder's name may have anything in it
        config = f"#{self.config}" if self.config else ""
        return f"{self.name}{revision}{config}{f'?{columns}' if columns else ''}"
