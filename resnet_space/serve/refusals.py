"""How a visitor is told something: one sentence, in the page's corner or as an endpoint's error.

All text that comes to the page as a message goes through here, and nothing else makes one: the page shows it as HTML,
and what it says often repeats what was asked, which may be markup, a token in the wrong field, or twenty megabytes.
"""

import errno
import re

import gradio as gr
from gradio.context import LocalContext

from resnet_space.tokens import masked

LONGEST = 600  # letters of a message

# The page shows a message as HTML, and a program as it is: so it has no tags, and no entities either.
_NO_TAGS = {ord("<"): "\u2039", ord(">"): "\u203a"}  # single angle quotation marks
_OF_THE_SYSTEM = {
    errno.ENOSPC: "The disk is full: delete runs or data sets that nobody needs, then try again.",
    errno.EDQUOT: "The disk is full: delete runs or data sets that nobody needs, then try again.",
    errno.EROFS: "The disk can only be read: choose another folder with --checkpoints and --data.",
    errno.EMFILE: "The app has too many files and connections open: try again in a moment.",
    errno.ENFILE: "The machine has too many files open: try again in a moment.",
    errno.ENOMEM: "The machine has too little memory left: try again in a moment.",
    errno.EACCES: "The app may not write there: the folder belongs to another user of this machine.",
}

# Of libraries that tell the system's error in words only: safetensors, numpy.
_IN_WORDS = {
    errno.ENOSPC: re.compile(r"No space left on device|Disk quota exceeded|\d+ requested and \d+ written"),
    errno.EROFS: re.compile(r"Read-only file system"),
}


def plain(reason: object) -> str:
    """The reason as it may be shown: short, without tokens, tags, or letters that cannot be sent."""
    words = str(reason)
    if len(words) > LONGEST:
        words = f"{words[:LONGEST]} ..."
    return masked(words.encode("utf-8", "replace").decode()).translate(_NO_TAGS)


def refusal(reason: object) -> gr.Error:
    """To be raised."""
    return gr.Error(plain(reason), print_exception=False)


def warn(sentence: object) -> None:
    """Show a sentence in the page's corner; what is under way goes on."""
    if LocalContext.event_id.get(None) is not None:  # a call beside the queue has no page to show it on
        gr.Warning(plain(sentence))


def system_words(error: BaseException) -> str | None:
    """What a visitor is told where the machine is the reason: its disk, files or memory; else None."""
    if isinstance(error, MemoryError):
        return _OF_THE_SYSTEM[errno.ENOMEM]
    if isinstance(error, OSError) and error.errno:
        return _OF_THE_SYSTEM.get(error.errno)
    for number, said in _IN_WORDS.items():
        if said.search(str(error)):
            return _OF_THE_SYSTEM[number]
    return None if error.__cause__ is None else system_words(error.__cause__)
