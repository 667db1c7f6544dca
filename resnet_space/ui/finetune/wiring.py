"""What the form's components set in one another, and what they look ahead to: the plan, the data, a suggested rate."""

import time
from collections.abc import Iterator
from typing import Any

import gradio as gr
from gradio.events import Dependency

from resnet_space import plots
from resnet_space.common.errors import UserError
from resnet_space.data.summary import cautions
from resnet_space.serve.context import AppContext
from resnet_space.serve.handlers import costly
from resnet_space.serve.identity import token_of
from resnet_space.training.proposal import CHOICES, STRATEGY_SETTINGS
from resnet_space.ui.events import LATEST, QUIET, Listen, SignedIn, Update
from resnet_space.ui.finetune.data_view import data_html
from resnet_space.ui.finetune.entries import wire_proposal
from resnet_space.ui.finetune.fields import NO_TARGET, Fields, hint_html, start_choices
from resnet_space.ui.finetune.form import cbam_choices, requested_config, requested_plan, suggest
from resnet_space.ui.finetune.more_data import DATASET
from resnet_space.ui.finetune.plan import plan_html
from resnet_space.ui.finetune.proposals import (
    deviates,
    estimate_html,
    form_values,
    proposal_for,
    recommendation_html,
    whole_form,
)
from resnet_space.ui.finetune.slices import quota_html
from resnet_space.ui.finetune.status import RANDOM
from resnet_space.ui.html import cautions_html, note_html
from resnet_space.ui.subject import Shared

TIMED_SECONDS = 5.0  # between two looks whether this machine was timed
PROGRESS_SECONDS = 1.0  # between two words on a range test

# What the drawn samples depend on, besides the start and the data.
AUGMENTED_BY = ("image_size", "crop", "crop_padding", "min_crop_area", "flip", "seed")
SEEN_BY = (*AUGMENTED_BY, "validation_fraction", "grouped_split")


def offered_by(context: AppContext, form: Fields, start: str) -> Update:
    """Of `form.offered`, what is shown for a start: architecture and shortcuts are for random initialisation only."""
    try:
        takes_cbam = start == RANDOM or context.start_model(start).options.get("cbam", "") is None
    except UserError:
        takes_cbam = False
    return {
        component: gr.update(visible=takes_cbam if component is form.architecture_row else start == RANDOM)
        for component in form.offered
    }


def wire_cbam(context: AppContext, opened: Listen, form: Fields) -> None:
    """Offer CBAM where the chosen network takes it."""

    def offered(start: str, architecture: str, chosen: str) -> Any:
        try:
            choices = cbam_choices(context, start, architecture)
        except UserError:  # the plan says why
            return gr.skip()
        if chosen in [value for _, value in choices]:
            return gr.update(choices=choices)
        return gr.update(choices=choices, value="")

    triggers = [opened, form.start.change, form.architecture.change]
    gr.on(triggers, offered, [form.start, form.architecture, form.cbam], form.cbam, **LATEST)


def wire_fields(shared: Shared, opened: Listen, form: Fields, taken_back: Dependency) -> None:
    """What the components set in one another, and the plan, the data and the suggestion that they lead to."""
    context, visitor = shared.context, shared.visitor

    def look_at_plan(key: str | None, signed_in: SignedIn, *values: Any) -> Update:
        """What is recommended for the data; the plan, and what to mind, of the form as it stands, or why not."""
        request = form.request(key, values)
        update: Update = {
            form.recommended: "",
            form.recommend_button: gr.update(visible=False),
            form.estimate: "",
            form.hint: hint_html(str(request.settings.get("strategy"))),
            form.data.built_in: gr.update(elem_classes="chosen" if request.dataset == DATASET else ""),
        }
        try:
            summary = context.datasets.summary(context.datasets.named(request.dataset, key))
            proposal = proposal_for(context, request.dataset, key)
            form_now = dict(zip(form.by_name, values, strict=True))
            update |= {
                form.recommended: recommendation_html(proposal),
                form.recommend_button: gr.update(visible=deviates(form_now, proposal)),
            }
            phases, config = requested_plan(context, request)
            own = proposal_for(context, request.dataset, key, form_now, epochs=form_now["epochs"])
            update[form.estimate] = estimate_html(own, form_now)
        except UserError as error:
            refused = cautions_html(error)
            return update | {form.plan: refused, form.caution: gr.update(value=refused, visible=True)}
        sentences = cautions(summary, config.model, config.training)
        quota = quota_html(context, config, sum(summary.counts["train"]), token_of(context, key, signed_in))
        return update | {
            form.plan: plan_html(config.training.strategy, phases, config.model) + quota,
            form.caution: gr.update(value=cautions_html(*sentences), visible=bool(sentences)),
        }

    def look_at_data(key: str | None, *values: Any) -> str:
        request = form.request(key, values)
        try:
            summary = context.datasets.summary(context.datasets.named(request.dataset, key))
        except UserError:  # the plan says why
            return ""
        with context.slots.taken("previews"):
            try:
                return data_html(summary, requested_config(context, request))
            except UserError:
                return data_html(summary, None)

    def on_data(own: dict[str, Any], key: str | None, dataset: str, *_: str) -> dict[str, Any]:
        try:
            return form_values(proposal_for(context, dataset, key, own))
        except UserError:  # the plan says why
            return {}

    def on_start(own: dict[str, Any], key: str | None, dataset: str, start: str) -> dict[str, Any]:
        return on_data(own | {"start": start}, key, dataset)

    def on_strategy(
        _: dict[str, Any], key: str | None, dataset: str, start: str, architecture: str, cbam: str, strategy: str
    ) -> dict[str, Any]:
        chosen = {"start": start, "architecture": architecture, "cbam": cbam, "strategy": strategy}
        return on_data(chosen, key, dataset)

    def recommend(_: dict[str, Any], key: str | None, dataset: str) -> dict[str, Any]:
        return whole_form(proposal_for(context, dataset, key))

    @costly
    def on_suggest(key: str | None, *values: Any) -> Iterator[Update]:
        from resnet_space.training.range_test import STEPS

        # Whose it is is nobody else's business.
        beside = ", beside a training that slows it down" if context.trainer.active() else ""
        shown_at, points, suggestion = 0.0, list[Any](), None
        yield {form.message: note_html(f"Decoding images for a range test{beside}.")}
        for latest in suggest(context, form.request(key, values)):
            points, suggestion = latest or (points, suggestion)
            if time.monotonic() - shown_at > PROGRESS_SECONDS:
                shown_at = time.monotonic()
                words = f"Range test{beside}: step {len(points)} of at most {STEPS}."
                yield {form.message: note_html(words) if points else gr.skip()}
        chart = plots.figure(plots.range_chart(points, suggestion.tested if suggestion else None))
        update = {form.suggestion: gr.update(value=chart, visible=True), form.message: ""}
        if suggestion:
            update |= {settings[name]: getattr(suggestion, name) for name in ("backbone_lr", "head_lr")}
        yield update

    settings, components = form.settings, form.components
    # This machine is timed when the app is up: until then no page knows how long anything takes.
    timed, timer = gr.State(False), gr.Timer(TIMED_SECONDS, active=context.trainer.spawns and not context.readonly)
    wire_cbam(context, opened, form)
    fields = {name: component for name, component in form.by_name.items() if name != "dataset"}
    data = [visitor, form.dataset]

    def suit(listen: Any) -> Any:
        return wire_proposal(listen, on_data, data, fields)

    def suit_start(listen: Any) -> Any:
        others = {name: component for name, component in fields.items() if name != "start"}
        return wire_proposal(listen, on_start, [*data, form.start], others)

    # At what a visitor chooses, not at any change: the form also changes when it is taken back after a reload.
    suit(taken_back.then)
    suit(timed.change)
    suit(form.dataset.input)
    suit_start(form.start.input)
    suit_start(form.architecture.input)
    form.start.change(lambda name: offered_by(context, form, name), form.start, form.offered, **LATEST)
    pulled = form.pulled.change(
        lambda name, key: gr.update(choices=start_choices(context, key), value=name),
        [form.pulled, visitor],
        form.start,
        **LATEST,
    )
    suit_start(pulled.then)
    chosen = [form.start, form.architecture, form.cbam, form.strategy]
    others = {name: component for name, component in fields.items() if name not in CHOICES}
    wire_proposal(form.strategy.input, on_strategy, [*data, *chosen], others, over=STRATEGY_SETTINGS)
    wire_proposal(form.recommend_button.click, recommend, data, fields, over=fields)
    added = form.data.added.change(
        lambda ref, key: {
            form.dataset: gr.update(choices=context.datasets.choices(key), value=ref),
            settings["target"]: gr.update(choices=[NO_TARGET, *context.datasets.targets(key)]),
        },
        [form.data.added, visitor],
        [form.dataset, settings["target"]],
        **LATEST,
    )
    suit(added.then)
    suit(form.data.built_in.click(lambda: DATASET, None, form.dataset, **QUIET).then)

    def look_for_speeds() -> Any:
        return gr.skip() if context.speeds.known() is None else {timed: True, timer: gr.Timer(active=False)}

    timer.tick(look_for_speeds, None, [timed, timer], **QUIET)
    ahead: Any = LATEST | {"concurrency_limit": 2}
    seen_by = [form.start, form.dataset, form.architecture, *(settings[name] for name in SEEN_BY)]
    asked = [visitor, *components]
    looked_at = [form.plan, form.caution, form.recommended, form.recommend_button, form.estimate, form.hint]
    looked_at.append(form.data.built_in)
    for handler, triggers, views, also in (
        (look_at_plan, components, looked_at, [timed.change]),
        (look_at_data, seen_by, [form.data.view], ()),
    ):
        gr.on([component.change for component in triggers], handler, asked, views, **ahead)
        gr.on([opened, *also], handler, asked, views, **ahead)
    suggested = [form.suggestion, settings["backbone_lr"], settings["head_lr"], form.message]
    suggesting = form.suggest_button.click(on_suggest, asked, suggested, concurrency_limit=1, **QUIET)
    suggesting.failure(lambda: "", None, form.message, **QUIET)
