"""What a page is measured by: axe-core's rules, and how much moves by itself once it is painted."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page

# The sum of https://web.dev/articles/cls, of what moved without anybody having touched the page.
WATCH_SHIFTS = """
window.shifted = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifted += entry.value;
}).observe({ type: "layout-shift", buffered: true });
"""
MOST_SHIFTED = 0.1  # what web.dev calls good


def watched(browser: Browser, width: int, height: int) -> BrowserContext:
    """A visitor's browser, in whose pages `shifted` works."""
    context = browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True)
    context.add_init_script(WATCH_SHIFTS)
    return context


def shifted(page: Page) -> float:
    """How much has moved since the page was opened."""
    return float(page.evaluate("window.shifted"))


def serious_faults(page: Page) -> list[str]:
    """What axe-core calls serious or critical in what the page shows, each with the element that has it."""
    found = Axe().run(page).response["violations"]
    return [
        f"{fault['id']}: {node['html'][:200]}"
        for fault in found
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]
