"""Remove Hub tokens from everything that is shown or written."""

import re

_TOKEN = re.compile(r"hf_[A-Za-z0-9_.\-]{8,}")  # that of a sign-in, hf_oauth_..., is a JSON Web Token: with dots


def masked(text: str) -> str:
    """The text without tokens: one pasted into the wrong field must not appear in a message or a log."""
    return _TOKEN.sub("hf_***", text)
