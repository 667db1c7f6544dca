"""The lines of Python that reproduce a view."""

from typing import Literal

View = Literal["norms", "direction", "responses", "gradients", "lesions", "readings", "pictures", "growth"]


def snippet(
    view: View,
    run: str,
    *,
    dataset: str = "cifar10-mini",
    split: str = "test",
    images: int = 64,
    picture: str | None = None,
    block: str = "",
    channel: int | None = None,
) -> str:
    """A few lines that print the numbers behind a view, as they would be run in the repository's folder.

    Args:
        view: "norms" stands for the norms and the ratio by depth.
        run: its name.
        dataset, split, images: what was measured.
        picture: a file's name instead of these, for a picture of one's own.
        block, channel: of the pictures.
    """
    raise NotImplementedError
