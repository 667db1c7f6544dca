"""The look of the page: one theme, light and dark."""

import gradio as gr

from resnet_space.ui.scripts import STATIC

FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")  # nothing to download
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def theme() -> gr.themes.Base:
    return gr.themes.Default(primary_hue="blue", neutral_hue="slate", font=FONT, font_mono=MONO)


STYLES = ("page.css", "finetune.css", "teach.css", "predict.css", "explore.css")
CSS = "\n".join((STATIC / name).read_text(encoding="utf-8") for name in STYLES)
