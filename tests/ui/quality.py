"""What a page is measured by: axe-core's rules, and how much moves by itself once it is painted."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page

# https://web.dev/articles/cls: what moved without anybody having touched the page, and where to.
WATCH_SHIFTS = """
window.shifts = [];
const part = (node) => (node?.nodeType === 1 ? node : node?.parentElement)?.closest("[id]")?.id;
const told = ({ node, previousRect: from, currentRect: to }) =>
  `${node?.nodeName} in #${part(node)}: y ${from.y}, height ${from.height} to y ${to.y}, height ${to.height}`;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries())
    if (!entry.hadRecentInput) window.shifts.push([entry.value, Math.round(entry.startTime), entry.sources.map(told)]);
}).observe({ type: "layout-shift", buffered: true });
"""
MOST_SHIFTED = 0.1  # what web.dev calls good


def watched(browser: Browser, width: int, height: int) -> BrowserContext:
    """A visitor's browser, in whose pages `shifted` works."""
    context = browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True)
    context.add_init_script(WATCH_SHIFTS)
    return context


def expect_unmoved(page: Page) -> None:
    """Fails with what has moved since the page was opened, if it is more than web.dev calls good."""
    shifts = page.evaluate("window.shifts")
    assert sum(value for value, *_ in shifts) < MOST_SHIFTED, "\n".join(map(str, shifts))


def serious_faults(page: Page, part: str | None = None) -> list[str]:
    """What axe-core calls serious or critical in what the page, or a part of it, shows, each with its element."""
    found = Axe().run(page, context=part).response["violations"]
    return [
        f"{fault['id']}: {node['html'][:200]}"
        for fault in found
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]
