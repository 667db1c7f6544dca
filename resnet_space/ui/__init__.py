"""The page: three tabs, and what they pass to one another."""

from typing import Any

import gradio as gr

from resnet_space.serve import visitors
from resnet_space.serve.context import AppContext
from resnet_space.serve.handlers import Guarded
from resnet_space.serve.identity import sign_in_button
from resnet_space.ui.events import QUIET, Looks
from resnet_space.ui.explore import build_explore
from resnet_space.ui.finetune import build_finetune
from resnet_space.ui.predict import build_predict
from resnet_space.ui.subject import Shared, place_subject, wire_subject

__all__ = ["AppContext", "build_app"]

WHAT = "Fine-tune an image classifier, see what it looks at, and see what its residual blocks do."
WHAT_FOR_READING = (
    "**Read-only:** look at results, classify your own pictures and explore residuals; training and dataset uploads "
    "are off."
)


def build_app(context: AppContext) -> gr.Blocks:
    """The app, ready to launch."""
    app = Guarded(context.limits, title="resnet_space")
    with app:
        with gr.Row(elem_id="head"):
            gr.Markdown(f"# resnet_space\n{WHAT_FOR_READING if context.readonly else WHAT}", elem_id="title")
            subject = place_subject(context)
            sign_in_button(app)
        # Kept by the browser, so that whoever started a run is known again after a reload. Nothing secret is in the
        # page itself: the value is, and nobody can guess it.
        visitor = gr.BrowserState(None, storage_key="resnet_space", secret="resnet_space")
        names = gr.State(context.trained_names())  # of the runs that can predict
        known = app.load(None, visitor, visitor, js=visitors.KEY_IN_BROWSER, **QUIET)
        settled = wire_subject(context, subject, visitor, names, known)
        shared = Shared(context, visitor, subject, names, settled)
        looks = Looks("finetune")
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("Fine-tune", id="finetune") as finetune_tab:
                finetune = build_finetune(shared, app, looks)
            with gr.Tab("Predict", id="predict") as predict_tab:
                predict = build_predict(shared, predict_tab)
            with gr.Tab("Explore residuals", id="explore") as explore_tab:
                explore = build_explore(shared, explore_tab)

        def show(tab: str) -> Any:
            return lambda name, known: {tabs: gr.Tabs(selected=tab)} | subject.become(name, known)

        def learn_from(name: str, key: str | None) -> tuple[Any, Any, str]:
            choices = context.datasets.choices(key)
            return gr.Tabs(selected="finetune"), gr.update(choices=choices, value=name), name

        asked, led = [subject.run, names], [tabs, *subject.outputs]
        tried = finetune.try_it.click(show("predict"), asked, led, **QUIET)
        predict.with_example(tried.then)
        explored = finetune.explore_it.click(show("explore"), asked, led, **QUIET)
        explore.with_own_data(explored.then, subject.run)
        mistakes = predict.mistakes.dataset
        mistakes.change(
            lambda key: gr.update(choices=context.datasets.choices(key)), visitor, finetune.dataset, **QUIET
        )
        learned = predict.mistakes.use.click(
            learn_from, [mistakes, visitor], [tabs, finetune.dataset, finetune.added], **QUIET
        )
        taught = finetune.teach
        shown = taught.try_it.click(show("predict"), [taught.run, names], led, **QUIET)
        taught.use.click(learn_from, [taught.dataset, visitor], [tabs, finetune.dataset, finetune.added], **QUIET)
        # The open tab is in the page's address, and back from there.
        opened = {"finetune": finetune_tab, "predict": predict_tab, "explore": explore_tab}
        for name, tab in opened.items():
            tab.select(None, js=f"() => resnetSpace.open('{name}')", **QUIET)
        looks.wire(finetune_tab, app.load, settled.then, subject.run.change)
        for name, event in (("predict", tried), ("predict", shown), ("explore", explored), ("finetune", learned)):
            event.then(None, js=f"() => resnetSpace.open('{name}')", **QUIET)
        # Not before: a tab that is opened without a picture chooses one.
        predict.opened.then(None, js="resnetSpace.arrive", **QUIET)
    return app
