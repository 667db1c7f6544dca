"""The page: three tabs, and what they pass to one another."""

from typing import Any

import gradio as gr

from resnet_space.serve.context import AppContext
from resnet_space.serve.handlers import Guarded
from resnet_space.serve.identity import sign_in_button
from resnet_space.ui.events import QUIET
from resnet_space.ui.explore import build_explore
from resnet_space.ui.finetune import build_finetune
from resnet_space.ui.predict import build_predict

__all__ = ["AppContext", "build_app"]


def build_app(context: AppContext) -> gr.Blocks:
    """The app, ready to launch."""
    app = Guarded(context.limits, title="resnet_space")
    with app:
        with gr.Row(elem_id="head"):
            gr.Markdown(
                "# resnet_space\nFine-tune a ResNet, see what it looks at, and see what its residual blocks do.",
                elem_id="title",
            )
            sign_in_button(app)
        # Kept by the browser, so that whoever started a run is known again after a reload. Nothing secret is in the
        # page itself: the value is, and nobody can guess it.
        visitor = gr.BrowserState(None, storage_key="resnet_space", secret="resnet_space")
        names = gr.State(context.trained_names())  # of the runs that can predict
        with gr.Tabs() as tabs:
            with gr.Tab("Fine-tune", id="finetune") as finetune_tab:
                finetune = build_finetune(context, app, visitor, names)
            with gr.Tab("Predict", id="predict") as predict_tab:
                predict = build_predict(context, app, predict_tab, visitor, names)
            with gr.Tab("Explore residuals", id="explore") as explore_tab:
                explore = build_explore(context, app, visitor, names)

        def show(tab: str, run: gr.Dropdown, *chosen: gr.Textbox) -> Any:
            return lambda name, known: {
                tabs: gr.Tabs(selected=tab),
                run: gr.update(choices=[*dict.fromkeys([*known, name])], value=name),
                **dict.fromkeys(chosen, name),
            }

        def open_tab(request: gr.Request) -> Any:
            asked = request.query_params.get("tab")
            return gr.Tabs(selected=asked) if asked in opened else gr.skip()

        def learn_from(name: str, key: str | None) -> tuple[Any, Any, str]:
            choices = context.datasets.choices(key)
            return gr.Tabs(selected="finetune"), gr.update(choices=choices, value=name), name

        asked = [finetune.followed, names]
        tried = finetune.try_it.click(
            show("predict", predict.run, predict.chosen), asked, [tabs, predict.run, predict.chosen], **QUIET
        )
        predict.with_example(tried.then)
        explored = finetune.explore_it.click(show("explore", explore.run), asked, [tabs, explore.run], **QUIET)
        explore.with_own_data(explored.then, finetune.followed)
        mistakes = predict.mistakes.dataset
        mistakes.change(
            lambda key: gr.update(choices=context.datasets.choices(key)), visitor, finetune.dataset, **QUIET
        )
        learned = predict.mistakes.use.click(
            learn_from, [mistakes, visitor], [tabs, finetune.dataset, finetune.added], **QUIET
        )
        taught = finetune.teach
        shown = taught.try_it.click(
            show("predict", predict.run, predict.chosen),
            [taught.run, names],
            [tabs, predict.run, predict.chosen],
            **QUIET,
        )
        taught.use.click(learn_from, [taught.dataset, visitor], [tabs, finetune.dataset, finetune.added], **QUIET)
        # The open tab is in the page's address, and back from there.
        opened = {"finetune": finetune_tab, "predict": predict_tab, "explore": explore_tab}
        for name, tab in opened.items():
            tab.select(None, js=f"() => resnetSpace.open('{name}')", **QUIET)
        for name, led in (("predict", tried), ("predict", shown), ("explore", explored), ("finetune", learned)):
            led.then(None, js=f"() => resnetSpace.open('{name}')", **QUIET)
        # Not before: a tab that is opened without a picture chooses one.
        arrived = predict.opened.then(open_tab, None, tabs, **QUIET)
        arrived.then(None, js="resnetSpace.arrive", **QUIET)
    return app
