"""Models of the Hub as runs of this app: a search, what a model is and how large before it comes, and the download."""

from html import escape
from typing import Any

import gradio as gr

from resnet_space.common.errors import UserError
from resnet_space.common.hub_client import HubError
from resnet_space.hub.pull import RemoteModel, describe_model, search_models
from resnet_space.serve.handlers import costly
from resnet_space.serve.identity import token_of
from resnet_space.ui.events import PRIVATE, PROGRESS, QUIET, SignedIn, Update, reporter
from resnet_space.ui.html import cautions_html, place_html
from resnet_space.ui.subject import Shared

HOW = "user/name or user/name@revision; press Enter to search for other words"


def split_revision(text: str) -> tuple[str, str | None]:
    """ "user/name@revision" -> (user/name, revision or None)."""
    repo_id, _, revision = text.strip().partition("@")
    return repo_id, revision or None


def model_html(model: RemoteModel) -> str:
    """What would come."""
    size = f"{model.bytes / 1e6:,.1f} MB"
    classes = f"{model.classes:,} classes" if model.classes else "no classifier: fine-tune it before it predicts"
    return (
        f'<div class="report"><p><b>{escape(model.repo_id)}</b>, commit {escape(model.revision[:7])}: '
        f"{escape(model.config.model.architecture)}, {classes}. Licence: {escape(model.licence)}. {size} to download."
        "</p></div>"
    )


def build_pull(shared: Shared) -> gr.State:
    """Place the panel and wire its events. Returns a state that changes to the name of the run that was just pulled."""
    context, visitor = shared.context, shared.visitor
    pulled = gr.State(None)
    with gr.Accordion("From the Hugging Face Hub", open=False, visible=not context.readonly) as panel:
        model = gr.Dropdown([], label="Model", info=HOW, allow_custom_value=True, value=None)
        report = place_html(elem_classes="told")
        pull = gr.Button("Download", size="sm")

    def on_open() -> Any:
        try:
            return gr.update(choices=search_models(""))
        except HubError:  # without a network the panel still takes a name, and says then why it cannot be had
            return gr.skip()

    def on_wanted(text: str | None, key: str | None, signed_in: SignedIn) -> Update:
        """Describe the model where it is one; else search for the words."""
        text = (text or "").strip()
        if not text:
            return {report: ""}
        token = token_of(context, key, signed_in)
        try:
            if "/" in text:
                repo_id, revision = split_revision(text)
                return {report: model_html(describe_model(repo_id, revision=revision, token=token))}
            models = search_models(text, token=token)
            if not models:
                raise HubError(
                    f"The Hub has no model of this app for {text!r}: try other words, or user/name of a timm model."
                )
        except HubError as error:
            return {report: cautions_html(error)}
        return {model: gr.update(choices=models, value=models[0]), report: ""}

    @costly
    def on_pull(text: str | None, key: str | None, signed_in: SignedIn, progress: gr.Progress = PROGRESS) -> Update:
        repo_id, revision = split_revision(text or "")
        if not repo_id:
            raise UserError("Choose a model first, or type its name: user/name.")
        token, downloading = token_of(context, key, signed_in), reporter(progress, "Downloading {mb}")
        run = context.pull(repo_id, key, revision=revision, token=token, progress=downloading)
        return {pulled: run.name, report: f'<div class="report"><p><b>{escape(run.name)}</b> is here.</p></div>'}

    panel.expand(on_open, None, model, **QUIET)
    model.change(on_wanted, [model, visitor], [model, report], show_progress="minimal", **PRIVATE)
    pull.click(on_pull, [model, visitor], [pulled, report], show_progress_on=report, concurrency_limit=2, **PRIVATE)
    return pulled


def wire_pull(pulled: gr.State, shared: Shared) -> None:
    """Let what was pulled be what the page is about."""
    names, subject = shared.names, shared.subject

    def on_pulled(name: str, known: list[str]) -> Update:
        return {names: [*dict.fromkeys([name, *known])]} | subject.become(name, known)

    pulled.change(on_pulled, [pulled, names], [names, *subject.outputs], **QUIET)
