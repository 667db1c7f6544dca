"""Push a run to the Hub: which, where to, for whom to see, and what came of it."""

from html import escape
from typing import Any

import gradio as gr

from resnet_space.common.errors import UserError
from resnet_space.common.hub_client import HubError
from resnet_space.hub.push import suggested_repo_id
from resnet_space.serve.context import AppContext
from resnet_space.serve.handlers import costly
from resnet_space.serve.identity import how_to_sign_in, token_of
from resnet_space.ui.events import PRIVATE, PROGRESS, QUIET, reporter

FOR_ALL, FOR_OWNER = "public", "private"
WHAT = (
    "A run is pushed as one commit: configuration, weights as safetensors, metrics, figures, and a model card that is "
    "made from them. What is needed to go on training stays here."
)


def build_share(context: AppContext, visitor: gr.BrowserState, subject: gr.Dropdown) -> None:
    """Place the panel and wire its events; `subject` is the run that the page is about."""
    with gr.Accordion("Push to the Hugging Face Hub", open=False, visible=not context.readonly) as panel:
        who = gr.Markdown(WHAT)
        with gr.Row():
            run = gr.Dropdown([], label="Run", min_width=180)
            target = gr.Textbox(label="Repository", placeholder="user/name", min_width=180)
            visible_to = [("public", FOR_ALL), ("private", FOR_OWNER)]
            visibility = gr.Radio(visible_to, value=FOR_ALL, label="A new one is", min_width=150)
        button = gr.Button("Push", variant="primary", size="sm")
        report = gr.HTML("", elem_classes="told", apply_default_css=False)

    def name_of(key: str | None, signed_in: gr.OAuthToken | None) -> str | None:
        try:
            return context.user_name(token_of(context, key, signed_in))
        except HubError:  # the push itself says what is wrong
            return None

    def suggestion(name: str | None, user: str | None) -> Any:
        try:
            return suggested_repo_id(context.library.open(name or ""), user) if user else gr.skip()
        except UserError:
            return gr.skip()

    def on_open(name: str | None, key: str | None, signed_in: gr.OAuthToken | None) -> dict[Any, Any]:
        trained = context.trained_names(key)
        own = [n for n in context.finetuned_names(key) if n in trained]
        chosen = name if name in own else next(iter(own), None)
        user = name_of(key, signed_in)
        account = f"You are **{user}** there." if user else how_to_sign_in(context)
        return {who: f"{WHAT} {account}", run: gr.update(choices=own, value=chosen), target: suggestion(chosen, user)}

    def on_run(name: str | None, key: str | None, signed_in: gr.OAuthToken | None) -> Any:
        return suggestion(name, name_of(key, signed_in))

    @costly
    def on_push(
        name: str | None,
        repo_id: str | None,
        seen_by: str,
        key: str | None,
        signed_in: gr.OAuthToken | None,
        progress: gr.Progress = PROGRESS,
    ) -> str:
        progress(0.0, desc="Writing the card")
        url = context.push(
            name or "",
            (repo_id or "").strip(),
            key,
            token=token_of(context, key, signed_in),
            private=seen_by == FOR_OWNER,
            progress=reporter(progress, "Uploading {mb}"),
        )
        page = url.partition("/commit/")[0]
        return (
            f'<div class="report"><p><b>{escape(name or "")}</b> is on the Hub: '
            f'<a href="{escape(page)}" target="_blank" rel="noopener">{escape(page)}</a>, '
            f'<a href="{escape(url)}" target="_blank" rel="noopener">this commit</a>.</p></div>'
        )

    panel.expand(on_open, [subject, visitor], [who, run, target], **QUIET)
    run.input(on_run, [run, visitor], target, **QUIET)
    # What came of the last push goes first: it must not stand beside the refusal of this one.
    button.click(lambda: "", None, report, **QUIET).then(
        on_push, [run, target, visibility, visitor], report, show_progress_on=report, concurrency_limit=2, **PRIVATE
    )
