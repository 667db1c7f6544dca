"""Files that visitors send: only what was uploaded is ever opened, whatever path or address a request names."""

from pathlib import Path
from typing import Any

from gradio import processing_utils
from gradio.exceptions import InvalidPathError
from gradio.utils import get_upload_folder

from resnet_space.serve.refusals import refusal

NOT_UPLOADED = "This file was not uploaded here: upload it first."


def uploaded_file(payload: dict[str, Any]) -> Path:
    """The file of a component's payload, which is taken as it came (`preprocess=False`).

    Gradio checks only payloads that call themselves its files; one of the same form without that mark reaches the
    handler with any path in it.

    Raises:
        gr.Error: for a path that is not in the folder of uploads.
    """
    path = Path(str(payload.get("path"))).resolve()
    if not path.is_relative_to(Path(get_upload_folder()).resolve()) or not path.is_file():
        raise refusal(NOT_UPLOADED)
    return path


def close_other_ways() -> None:
    """Refuse in a sentence what gradio looks at before any handler does: addresses, which it would fetch for whoever
    asks, and paths, which it refuses with a traceback.
    """
    functions = vars(processing_utils)
    check = functions["_check_allowed"]

    async def fetch(url: str, cache_dir: str) -> str:
        raise refusal("A file is uploaded, not fetched from an address: upload it.")

    def checked(path: str | Path, check_in_upload_folder: bool) -> None:
        try:
            check(path, check_in_upload_folder)
        except InvalidPathError:
            if not check_in_upload_folder:  # what a handler gives out
                raise
            raise refusal(NOT_UPLOADED) from None

    functions["async_ssrf_protected_download"] = fetch
    functions["_check_allowed"] = checked
