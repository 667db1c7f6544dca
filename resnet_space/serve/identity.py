"""The Hub account for requests: the visitor's own or none; never that of the owner of a public app."""

import os
from typing import TYPE_CHECKING

import gradio as gr
from huggingface_hub import get_token

from resnet_space.serve import visitors

if TYPE_CHECKING:
    from resnet_space.serve.context import AppContext


def has_sign_in() -> bool:
    """Whether visitors can sign in here: on a Space whose front matter has `hf_oauth: true`."""
    return os.environ.get("SYSTEM") == "spaces" and bool(os.environ.get("OAUTH_CLIENT_ID"))


def sign_in_button(app: gr.Blocks) -> None:
    """Place the sign-in button if sign-in is available. Elsewhere Gradio would require the machine's own token."""
    if not has_sign_in():
        return
    button = gr.LoginButton("Sign in with Hugging Face", size="sm", elem_id="sign-in", min_width=190)
    # Gradio itself would make an endpoint for programs of what writes the visitor's name on it.
    assert button.load_event_to_attach is not None
    name_on_it, *_ = button.load_event_to_attach
    button.load_event_to_attach = None
    app.load(name_on_it, None, button, api_visibility="private", show_progress="hidden")


def token_of(
    context: "AppContext", key: str | None, signed_in: gr.OAuthToken | None, header: str | None = None
) -> str | None:
    """The token for a visitor's requests to the Hub.

    Args:
        context: the shared state.
        key: the visitor's.
        signed_in: Gradio's token of the signed-in user.
        header: the `X-HF-Token` header of a program.

    Returns:
        None for the login that is saved on this machine where the app is its owner's alone (`hf auth login`), and for
        nobody's where it is public: `hub.client.sent_token` sees to that.
    """
    if header:
        return str(header)
    if signed_in is not None:
        return signed_in.token
    if context.public and visitors.is_owner_of_all(key):
        return get_token()
    return None


def how_to_sign_in(context: "AppContext") -> str:
    """One sentence on how to sign in."""
    if has_sign_in():
        return "Sign in with Hugging Face at the top of the page to push with your own account."
    if context.public:
        return "Sign-in is not available here: run the app on your own machine or as a Space to push with your account."
    return "Run `hf auth login` on this machine to push with your account."
