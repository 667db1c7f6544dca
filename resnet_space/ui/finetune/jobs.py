"""Send a training to a GPU of the Hub: which, for how long at most, and what it costs, before it starts."""

import math
import time
from collections.abc import Sequence
from html import escape
from typing import Any

import gradio as gr

from resnet_space.common.errors import UserError
from resnet_space.common.hub_client import HubError
from resnet_space.hub.jobs import MAX_MINUTES, MIN_MINUTES, Flavour, estimated_seconds, jobs_space
from resnet_space.serve.handlers import costly
from resnet_space.serve.identity import how_to_sign_in, token_of
from resnet_space.ui.events import PRIVATE, PROGRESS, QUIET, SignedIn, Update
from resnet_space.ui.finetune.fields import Fields
from resnet_space.ui.finetune.form import create_run, requested_config, start_training, training_images
from resnet_space.ui.finetune.status import duration
from resnet_space.ui.html import cautions_html, place_html
from resnet_space.ui.subject import Shared

WHAT = (
    "The training runs on a GPU that you rent from Hugging Face by the minute, and you follow it here. The run comes "
    "back through a private repository of yours."
)
MINUTES = 20


def cost_html(flavour: Flavour, seconds: float, minutes: float) -> str:
    """What a training costs on a machine, about and at most."""
    estimate = "The duration of this training on that machine is not known; it costs "
    if math.isfinite(seconds):
        estimate = (
            f"This training takes about {duration(seconds)} there, which is <b>about ${flavour.cost(seconds):.2f}</b> "
            "(a rough estimate), and "
        )
    return (
        f'<div class="report"><p>{escape(flavour.words)}: ${flavour.price_per_hour:.2f} an hour. {estimate}'
        f"<b>at most ${flavour.cost(60 * minutes):.2f}</b> at the time limit. Hugging Face bills it to your account."
        "</p></div>"
    )


def build_jobs(shared: Shared, form: Fields) -> Any:
    """Place the panel, which nobody sees where no jobs are set up, and wire its events. Returns the event that started
    a job, for what is to follow it.
    """
    context, visitor, subject = shared.context, shared.visitor, shared.subject
    with gr.Accordion("On a rented GPU: Hugging Face Jobs", open=False, visible=jobs_space() is not None) as panel:
        who = gr.Markdown(WHAT)
        machine = gr.Dropdown([], label="Machine")
        with gr.Row():
            minutes = gr.Number(MINUTES, label="Time limit", info="minutes", precision=0, min_width=110)
            target = gr.Textbox(label="Repository", placeholder="user/name", info="a new one", min_width=130)
        cost = place_html(elem_classes="told")
        start = gr.Button("Start the job", size="sm", variant="primary")

    def flavour_named(name: str | None, token: str | None) -> Flavour | None:
        return next((flavour for flavour in context.flavours(token) if flavour.name == name), None)

    def new_repository(user: str) -> str:
        return f"{user}/{context.library.free_name('fine-tune', secret=True)}"

    def on_open(key: str | None, signed_in: SignedIn) -> Update:
        token = token_of(context, key, signed_in)
        try:
            user = context.user_name(token)
            choices = [(f"${f.price_per_hour:.2f}/h, {f.words}", f.name) for f in context.flavours(token)]
        except HubError as error:
            return {who: f"{WHAT} {error}"}
        account = f"You are signed in as **{user}**." if user else how_to_sign_in(context)
        return {
            who: f"{WHAT} {account}",
            machine: gr.update(choices=choices, value=choices[0][1] if choices else None),
            target: new_repository(user) if user else gr.skip(),
        }

    def on_look(name: str | None, limit: float | None, key: str | None, signed_in: SignedIn, *values: Any) -> str:
        try:
            flavour = flavour_named(name, token_of(context, key, signed_in))
            if flavour is None or not limit:
                return ""
            config = requested_config(context, form.request(key, values))
            seconds = estimated_seconds(config, training_images(context, config), flavour)
            return cost_html(flavour, seconds, limit)
        except UserError as error:
            return cautions_html(error)

    @costly
    def on_start(
        name: str | None,
        limit: float | None,
        repo_id: str | None,
        key: str | None,
        signed_in: SignedIn,
        *values: Any,
        progress: gr.Progress = PROGRESS,
    ) -> Update:
        if not isinstance(limit, int | float) or not MIN_MINUTES <= limit <= MAX_MINUTES:
            raise UserError(f"The time limit must be from {MIN_MINUTES} to {MAX_MINUTES} minutes.")
        left = math.inf if signed_in is None else (signed_in.expires_at - time.time()) / 60 - MIN_MINUTES
        if limit > left:  # the job pushes with it
            raise UserError(
                f"Your sign-in ends in {max(left, 0):.0f} minutes: sign in again, or set a shorter time limit."
            )
        if not name:
            raise UserError("Choose a machine first.")
        request = form.request(key, values)
        token = token_of(context, key, signed_in)
        progress(0.0, desc="Uploading the start weights")

        def send(run: Any) -> None:
            context.start_job(run, (repo_id or "").strip(), name, int(limit), token=token)

        run = start_training(context, lambda: create_run(context, request, elsewhere=True), key, start=send)
        owner = (repo_id or "").strip().partition("/")[0]
        return subject.become(run.name, context.trained_names(key)) | {target: new_repository(owner)}

    panel.expand(on_open, visitor, [who, machine, target], **QUIET)
    looked_at: Sequence[Any] = [machine, minutes, visitor, *form.components]
    # Not at every change of the form: three listeners to all its fields start one another again without end.
    for component in (machine, minutes, form.settings["epochs"], form.settings["batch_size"]):
        component.change(on_look, looked_at, cost, **QUIET)
    asked_for = [machine, minutes, target, visitor, *form.components]
    return start.click(on_start, asked_for, [*subject.outputs, target], show_progress_on=cost, **PRIVATE)
