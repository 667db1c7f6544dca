"""What an answer is wanted for: a picture and the runs that are to answer, as the page's script names them."""

import io
import json
from dataclasses import dataclass, field, replace
from typing import Any, Self

from PIL.Image import Image

from resnet_space.common.errors import UserError
from resnet_space.data.images import open_image
from resnet_space.serve.context import AppContext
from resnet_space.serve.uploads import uploaded_file
from resnet_space.ui.events import Payload
from resnet_space.ui.pictures import ENOUGH, NO_PICTURE, read_picture
from resnet_space.ui.predict.examples import SMALL, examples
from resnet_space.ui.predict.labelled import first_picture, test_picture

FIRST = "first"
SHOWN_FIRST = "cat"  # of the examples


def told_by_page(text: object) -> dict[str, Any]:
    """What the page's script writes as JSON, by name; nothing for anything else."""
    try:
        told = json.loads(str(text))
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


@dataclass(frozen=True)
class Shown:
    """The picture that is looked at.

    Attributes:
        image: in RGB.
        label: its class where that is known, else empty.
        name: of its file.
        content: the file, as it came.
    """

    image: Image
    label: str = ""
    name: str = "picture"
    content: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Wanted:
    """A picture and the runs that answer; without an example or a test picture it is one of the visitor's own.

    Attributes:
        example: the name of a shipped picture.
        picture: a test picture, "split:row", or `FIRST`: one that the run gets right, or where there is none here an
            example.
        of: the run whose test picture it is.
        run: the run that the visitor chose, or empty.
        other: the run beside it, or empty.
    """

    example: str = ""
    picture: str = ""
    of: str = ""
    run: str = ""
    other: str = ""

    @classmethod
    def parse(cls, text: object) -> Self:
        """As the page's script writes it; whatever else it says is left out."""
        told = told_by_page(text)
        return cls(**{name: str(told.get(name) or "") for name in ("example", "picture", "of", "run", "other")})

    @property
    def pick(self) -> str:
        """Which shipped or test picture it is, as the page's script has it."""
        return self.example or f"{self.picture}@{self.of}"

    def found(self, context: AppContext) -> "Wanted":
        """The same with the picture by its own name where it is only known as the `FIRST` of a run."""
        if self.picture != FIRST:
            return self
        if picture := first_picture(context, self.of):
            return replace(self, picture=picture)
        return replace(self, picture="", of="", example=SHOWN_FIRST)

    @property
    def is_own(self) -> bool:
        """Whether it is a picture of the visitor's own."""
        return not (self.example or self.picture)

    def shown(self, context: AppContext, payload: Payload) -> Shown:
        """The picture; `payload` is that of the page's component. Raises UserError."""
        if self.picture:
            image, label = test_picture(context, self.of, self.picture)
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
            return Shown(image, label, f"{self.picture.replace(':', '-')}.png", buffer.getvalue())
        if self.example:
            path = examples().get(self.example)
            if path is None:
                raise UserError(f"There is no example named {self.example[:100]!r}: choose one below the picture.")
            label = path.stem if path.parent == SMALL else ""
            return Shown(open_image(path, short_side=ENOUGH), label, path.name, path.read_bytes())
        return Shown(read_picture(payload))

    def kept(self, context: AppContext, payload: Payload) -> Shown:
        """The same with its file's content, by which it can be kept. Raises UserError."""
        if not self.is_own:
            return self.shown(context, payload)
        if not payload or not payload.get("path"):
            raise UserError(NO_PICTURE)
        path = uploaded_file(payload)
        return Shown(
            open_image(path, short_side=ENOUGH), "", str(payload.get("orig_name") or path.name), path.read_bytes()
        )
