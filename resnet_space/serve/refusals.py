"""How a visitor is told that something cannot be done: one sentence, in the page's corner or as an endpoint's error."""

import errno
import re

import gradio as gr

from resnet_space.tokens import masked

# The page shows a message as HTML, and a program as it is: so it has no tags, and no entities either.
_NO_TAGS = {ord("<"): "\u2039", ord(">"): "\u203a"}  # single angle quotation marks

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
# Of libraries that tell the system's error in words only: safetensors, numpy.
_SAYS_FULL = re.compile(r"No space left on device|Disk quota exceeded|StorageFull|\d+ requested and \d+ written")
_SAYS_READ_ONLY = re.compile(r"Read-only file system|ReadOnlyFilesystem")
DISK_FULL = "The disk is full: try again later, or delete runs and data sets that nobody needs."
DISK_READ_ONLY = "The disk cannot be written to at the moment: try again later."


def refusal(reason: object) -> gr.Error:
    """To be raised. The reason often repeats what was given, which may be a token in the wrong field, or HTML."""
    return gr.Error(masked(str(reason)).translate(_NO_TAGS), print_exception=False)


def disk_words(error: BaseException | None) -> str | None:
    """What to say where an error, or one that it came from, is that the disk takes no more; None for all others."""
    while error is not None:
        number, said = getattr(error, "errno", None), str(error)
        if number in _FULL or _SAYS_FULL.search(said):
            return DISK_FULL
        if number == errno.EROFS or _SAYS_READ_ONLY.search(said):
            return DISK_READ_ONLY
        error = error.__cause__ or error.__context__
    return None
