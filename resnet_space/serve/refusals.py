"""How a visitor is told that something cannot be done: one sentence, in the page's corner or as an endpoint's error."""

import gradio as gr

from resnet_space.tokens import masked

# The page shows a message as HTML, and a program as it is: so it has no tags, and no entities either.
_NO_TAGS = {ord("<"): "\u2039", ord(">"): "\u203a"}  # single angle quotation marks


def refusal(reason: object) -> gr.Error:
    """To be raised. The reason often repeats what was given, which may be a token in the wrong field, or HTML."""
    return gr.Error(masked(str(reason)).translate(_NO_TAGS), print_exception=False)
