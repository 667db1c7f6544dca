"""HTML on the page: its components, and the pieces that several panels are made of."""

from collections.abc import Iterable
from html import escape
from typing import Any

import gradio as gr

from resnet_space.ui.scripts import SCRIPTS

LIVE_LINE = '<div class="live">${value}</div>'  # its words come by the stream of what trains
ARGUMENTS = "(element, props, trigger, watch)"
DRAW = "report(element, props, watch)"


def place_html(value: Any = "", script: str = "", *, inside: str = "", **options: Any) -> gr.HTML:
    """HTML without Gradio's own styles.

    Args:
        value: what it shows.
        script: a function of the page's scripts that is called once the component is there, with `ARGUMENTS` if it has
            none. The component names the scripts, as Gradio waits for those that one names.
        inside: the class of an empty element that the script fills; without one, the value is shown as it is.
        options: as of `gr.HTML`.
    """
    call = f"resnetSpace.{script}{'' if '(' in script else ARGUMENTS}"
    given: dict[str, Any] = {"js_on_load": call, "head": SCRIPTS} if script else {}
    given |= {"html_template": f'<div class="{inside}"></div>'} if inside else {}
    return gr.HTML(value, apply_default_css=False, **(given | options))


def place_note(words: str, **options: Any) -> gr.HTML:
    return place_html(note_html(words), **options)


def place_heading(words: str) -> gr.HTML:
    return place_html(f"<h2>{words}</h2>", elem_classes="heading")


def place_report(elem_id: str, value: Any = None, script: str = DRAW) -> gr.HTML:
    """Text with charts in it: its value is {"html": ..., "figures": {name: chart}}, drawn by the page's script."""
    return place_html(value, script, inside="body", elem_id=elem_id)


def note_html(words: str) -> str:
    return f'<p class="note">{words}</p>'


def finding_html(words: str) -> str:
    return f'<p class="finding">{escape(words)}</p>' if words else ""


def cautions_html(*sentences: object) -> str:
    return "".join(f'<p class="caution">{escape(str(sentence))}</p>' for sentence in sentences)


def table_html(label: str, heads: Iterable[str], rows: Iterable[str]) -> str:
    """A table that scrolls sideways, also by the keyboard; `rows`: of `row_html`."""
    return (
        f'<div class="runs" tabindex="0" role="region" aria-label="{label}"><table><thead><tr>'
        f"{''.join(f'<th>{head}</th>' for head in heads)}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def row_html(cells: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def bar_html(share: float, label: str = "progress") -> str:
    """A bar filled to a share from 0 to 1; `label` is for those who do not see it."""
    return (
        f'<div class="bar" role="progressbar" aria-label="{label}" aria-valuenow="{100 * share:.0f}" aria-valuemin="0" '
        f'aria-valuemax="100"><div style="width: {100 * share:.1f}%"></div></div>'
    )


def progress_html(
    words: str,
    numbers: str = "",
    *,
    share: float | None = None,
    label: str = "progress",
    state: str = "",
    more: str = "",
) -> str:
    """The line with the numbers at its end, and below it the bar.

    Args:
        words: HTML.
        numbers: HTML.
        share: how full the bar is, 0 to 1; None: there is none.
        label: of the bar, for those who do not see it.
        state: a class by which it is styled.
        more: HTML below.
    """
    bar = "" if share is None else bar_html(share, label)
    line = f'<div class="line"><span>{words}</span><span class="subdued">{numbers}</span></div>'
    return f'<div class="status {state}">{line}{bar}{more}</div>'
