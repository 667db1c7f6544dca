"""The look of the page: one theme, light and dark."""

import gradio as gr

from resnet_space.ui.scripts import STATIC

FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")  # nothing to download
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def theme() -> gr.themes.Base:
    base = gr.themes.Default(primary_hue="blue", neutral_hue="slate", font=FONT, font_mono=MONO)
    # Gradio's own are lighter than the 4.5 : 1 that WCAG 2.2 (1.4.3) asks of text.
    return base.set(
        color_accent="*primary_700",
        body_text_color_subdued="*neutral_600",
        block_label_text_color="*neutral_700",
        block_title_text_color="*neutral_700",
        block_info_text_color="*neutral_600",
        input_placeholder_color="*neutral_600",
        input_placeholder_color_dark="*neutral_400",
        link_text_color="*primary_700",
        link_text_color_dark="*primary_300",
        link_text_color_hover_dark="*primary_200",
        link_text_color_visited_dark="*primary_300",
        link_text_color_active_dark="*primary_300",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_border_color="*primary_700",
        button_primary_border_color_hover="*primary_800",
    )


STYLES = ("page.css", "finetune.css", "teach.css", "map.css", "review.css", "predict.css", "explore.css")
CSS = "\n".join((STATIC / name).read_text(encoding="utf-8") for name in STYLES)
