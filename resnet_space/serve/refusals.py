"""Messages to visitors: one sentence, as a toast on the page or as an endpoint's error.

All messages pass through here because the page shows them as HTML, and they often repeat the visitor's input, which may
be markup, a token in the wrong field, or twenty megabytes.
"""

import gradio as gr
from gradio.context import LocalContext

from resnet_space.common.tokens import masked

LONGEST = 600  # letters of a message

# The page shows a message as HTML, and a program as it is: so it has no tags, and no entities either.
_NO_TAGS = {ord("<"): "\u2039", ord(">"): "\u203a"}  # single angle quotation marks


def plain(reason: object) -> str:
    """The reason in a displayable form: short, without tokens, tags, or characters that cannot be sent."""
    words = str(reason)
    if len(words) > LONGEST:
        words = f"{words[:LONGEST]} ..."
    return masked(words.encode("utf-8", "replace").decode()).translate(_NO_TAGS)


def refusal(reason: object) -> gr.Error:
    """The exception to raise. It says what to do, so the page shows it until it is closed."""
    return gr.Error(plain(reason), duration=None, print_exception=False)


def warn(sentence: object) -> None:
    """Show a warning on the page; the handler continues."""
    if LocalContext.event_id.get(None) is not None:  # a call beside the queue has no page to show it on
        gr.Warning(plain(sentence))
