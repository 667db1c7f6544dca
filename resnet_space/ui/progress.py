"""How something stands, as HTML: words, the numbers beside them, and a bar that fills."""


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
