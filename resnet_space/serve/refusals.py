"""How a visitor is told something: one sentence, in the page's corner or as an endpoint's error.

All text that comes to the page as a message goes through here, and nothing else makes one: the page shows it as HTML,
and what it says often repeats what was asked, which may be markup, a token in the wrong field, or twenty megabytes.
"""

import gradio as gr
from gradio.context import LocalContext

from resnet_space.common.tokens import masked

LONGEST = 600  # letters of a message

# The page shows a message as HTML, and a program as it is: so it has no tags, and no entities either.
_NO_TAGS = {ord("<"): "\u2039", ord(">"): "\u203a"}  # single angle quotation marks


def plain(reason: object) -> str:
    """The reason as it may be shown: short, without tokens, tags, or letters that cannot be sent."""
    words = str(reason)
    if len(words) > LONGEST:
        words = f"{words[:LONGEST]} ..."
    return masked(words.encode("utf-8", "replace").decode()).translate(_NO_TAGS)


def refusal(reason: object) -> gr.Error:
    """To be raised. It says what to do, so the page shows it until somebody closes it."""
    return gr.Error(plain(reason), duration=None, print_exception=False)


def warn(sentence: object) -> None:
    """Show a sentence in the page's corner; what is under way goes on."""
    if LocalContext.event_id.get(None) is not None:  # a call beside the queue has no page to show it on
        gr.Warning(plain(sentence))
