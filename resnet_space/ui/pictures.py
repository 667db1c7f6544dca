"""Pictures that visitors bring, and pictures and arrays that the page has in itself, as data: addresses."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from resnet_space.common.errors import UserError
from resnet_space.data.images import ImageError, open_image
from resnet_space.serve.uploads import uploaded_file
from resnet_space.ui.events import Payload

ENOUGH = 512  # pixels of the short side of a picture that is shown, and looked at by a model of usual size

NO_PICTURE = "There is no image yet: upload one, take one, paste one, or choose an example."


def read_picture(payload: Payload) -> Image:
    """The picture in an image component's payload, which is taken as it came (`preprocess=False`).

    Gradio's own preprocessing opens the file first and has no sentence for one that is not an image.

    Raises UserError for a missing or unusable picture, or one that was not uploaded.
    """
    source = (payload or {}).get("path") or (payload or {}).get("url")
    if not payload or not source:
        raise UserError(NO_PICTURE)
    inline = str(source).startswith("data:")
    return open_image(_inline(str(source)) if inline else uploaded_file(payload), short_side=ENOUGH)


def _inline(url: str) -> io.BytesIO:
    """What a data: URL has in it. Raises ImageError."""
    kind, _, content = url.partition(",")
    try:
        if not kind.endswith(";base64"):
            raise ValueError
        return io.BytesIO(base64.b64decode(content, validate=True))
    except ValueError:
        form = "data:image/...;base64, and the file in base64"
        raise ImageError(f"The data: URL cannot be read: it must be {form}.") from None


def jpeg_url(picture: Image) -> str:
    """A photograph; a small picture is kept as it is, to the pixel."""
    buffer = io.BytesIO()
    if min(picture.size) <= 64:
        picture.save(buffer, "PNG")
        return data_url(buffer.getvalue(), "image/png")
    picture.save(buffer, "JPEG", quality=88)
    return data_url(buffer.getvalue(), "image/jpeg")


def npy_url(array: NDArray[np.float32]) -> str:
    """What `numpy.load` reads."""

    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return data_url(buffer.getvalue(), "application/octet-stream")


def data_url(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
