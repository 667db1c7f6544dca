"""Push the subject to the Hub: where to, who may see it, and what came of it."""

import os
from collections.abc import Callable
from contextlib import suppress
from html import escape
from typing import Any

import gradio as gr

from resnet_space.common.errors import UserError
from resnet_space.common.hub_client import HubError, Progress
from resnet_space.hub.jobs import jobs_space
from resnet_space.hub.licence import CHOICES, licence_of
from resnet_space.hub.push import push_request, push_run, suggested_repo_id
from resnet_space.runs import Run
from resnet_space.serve.context import AppContext
from resnet_space.serve.handlers import costly
from resnet_space.serve.identity import how_to_sign_in, token_of
from resnet_space.ui.events import PRIVATE, PROGRESS, QUIET, SignedIn, Update, reporter
from resnet_space.ui.finetune.take import exported_file, reporting
from resnet_space.ui.html import place_html
from resnet_space.ui.subject import Shared

FOR_ALL, FOR_OWNER = "public", "private"
MODEL, PAGE = "model", "page"
WHAT = (
    "A push uploads the run as one commit: configuration, weights as safetensors, metrics, figures, and a model card. "
    "It loads in timm and transformers; if they lack the network, a `model.py` comes with it. The training state stays "
    "here. A web page becomes a static Space, free of charge: the model runs in the browser."
)


def choices_of(run: Run | None) -> list[Any]:
    """The licences; the first is the run's own, that of the weights that it started from."""
    return [(f"{licence_of(run)} (its own)" if run else "its own", ""), *CHOICES]


def publish(
    context: AppContext,
    name: str,
    repo_id: str,
    key: str | None,
    token: str | None,
    *,
    private: bool,
    licence: str,
    page: bool,
    exporting: Callable[[str], None] | None = None,
    uploading: Progress | None = None,
) -> str:
    """Push a visitor's run, or as a page that runs it, which becomes a static Space.

    Returns:
        The commit's URL, or the Space's.

    Raises:
        HubError, UserError: with one sentence.
    """
    run = context.own_run(name, key)
    if not page:
        space = os.environ.get("SPACE_ID") or jobs_space()
        return push_run(run, repo_id, token=token, private=private, licence=licence, progress=uploading, space=space)
    from resnet_space.hub.page.space import push_page  # which takes torch

    push_request(run, repo_id, token, licence=licence)  # refuses before the minute that the page takes
    made = exported_file(context, name, PAGE, exporting)
    return push_page(run, made.path, repo_id, token=token, private=private, licence=licence)


def build_share(shared: Shared) -> None:
    """Place the panel, which is about the subject, and wire its events."""
    context, visitor, subject = shared.context, shared.visitor, shared.subject
    with gr.Accordion("Publish on the Hugging Face Hub", open=False, visible=not context.readonly) as panel:
        who = gr.Markdown(WHAT)
        kind = gr.Radio(
            [("Model repository", MODEL), ("Web page that runs the model", PAGE)], value=MODEL, label="Publish as"
        )
        with gr.Row():
            target = gr.Textbox(label="Repository", placeholder="user/name", min_width=180)
            visible_to = [("private", FOR_OWNER), ("public", FOR_ALL)]
            visibility = gr.Radio(visible_to, value=FOR_OWNER, label="A new repository is", min_width=150)
            licence = gr.Dropdown(choices_of(None), value="", label="Licence", min_width=150)
        button = gr.Button("Push", variant="primary", size="sm")
        report = place_html(elem_classes="told")

    def on_open(name: str | None, key: str | None, signed_in: SignedIn) -> Update:
        user = None
        with suppress(HubError):  # the push itself says what is wrong
            user = context.user_name(token_of(context, key, signed_in))
        account = f"You are signed in as **{user}**." if user else how_to_sign_in(context)
        try:
            run = context.own_run(name or "", key)
        except UserError as error:
            return {who: f"{WHAT} {error}", button: gr.update(interactive=False)}
        suggested = gr.update(value=suggested_repo_id(run, user)) if user else gr.skip()
        return {
            who: f"{WHAT} {account}",
            target: suggested,
            licence: gr.update(choices=choices_of(run), value=""),
            button: gr.update(interactive=run.has_weights),
        }

    @costly
    def on_push(
        name: str | None,
        repo_id: str | None,
        seen_by: str,
        licence: str,
        chosen: str,
        key: str | None,
        signed_in: SignedIn,
        progress: gr.Progress = PROGRESS,
    ) -> str:
        is_page = chosen == PAGE
        if not is_page:
            progress(0.0, desc="Writing the card")
        url = publish(
            context,
            name or "",
            (repo_id or "").strip(),
            key,
            token_of(context, key, signed_in),
            private=seen_by == FOR_OWNER,
            licence=licence,
            page=is_page,
            exporting=reporting(progress) if is_page else None,
            uploading=reporter(progress, "Uploading {mb}"),
        )
        page = url.partition("/commit/")[0]
        words = "runs as a page" if is_page else "is on the Hub"
        more = "" if is_page else f", {_link(url, 'this commit')}"
        return f'<div class="report"><p><b>{escape(name or "")}</b> {words}: {_link(page, page)}{more}.</p></div>'

    panel.expand(on_open, [subject.run, visitor], [who, target, licence, button], **QUIET)
    # Opened again, it is about the new one.
    subject.run.change(lambda: gr.update(open=False), None, panel, **QUIET)
    # What came of the last push goes first: it must not stand beside the refusal of this one.
    button.click(lambda: "", None, report, **QUIET).then(
        on_push,
        [subject.run, target, visibility, licence, kind, visitor],
        report,
        show_progress_on=report,
        concurrency_limit=2,
        **PRIVATE,
    )


def _link(url: str, words: str) -> str:
    return f'<a href="{escape(url)}" target="_blank" rel="noopener">{escape(words)}</a>'
