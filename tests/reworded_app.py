"""The app with other words: every label, and every choice's, ends in a mark. Ids and values stay as they are.

`python -m tests.reworded_app` takes the options of `python app.py`.
"""

import runpy
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import gradio as gr

from resnet_space import ui

MARK = " §"


def reworded(choices: Iterable[Any]) -> list[tuple[str, Any]]:
    pairs = (choice if isinstance(choice, tuple | list) else (choice, choice) for choice in choices)
    return [(f"{label}{MARK}", value) for label, value in pairs]


def reword(app: gr.Blocks) -> gr.Blocks:
    for block in app.blocks.values():
        words: Any = vars(block)
        if words.get("label"):
            words["label"] += MARK
        if words.get("choices"):
            words["choices"] = reworded(words["choices"])
        if isinstance(block, gr.Button) and words.get("value"):
            words["value"] += MARK
    return app


def update_in_other_words(update: Callable[..., Any]) -> Callable[..., Any]:
    def updated(*args: Any, **options: Any) -> Any:
        if options.get("choices"):
            options["choices"] = reworded(options["choices"])
        return update(*args, **options)

    return updated


def main() -> None:
    build_app = ui.build_app
    vars(ui)["build_app"] = lambda context: reword(build_app(context))
    vars(gr)["update"] = update_in_other_words(gr.update)
    runpy.run_path(str(Path(__file__).parents[1] / "app.py"), run_name="__main__")


if __name__ == "__main__":
    main()
