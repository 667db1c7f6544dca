"""The networks of the registry as a history: charts by year, the idea and the block of each, and a short guide.

It is folded away at the end of the tab, and nothing of it is made before it is opened.
"""

from html import escape

import gradio as gr
from gradio.events import Dependency

from resnet_space.common.errors import UserError
from resnet_space.common.text import NO_BREAK, percent
from resnet_space.models.ideas import BLOCKS, GUIDE, PUBLISHED, Idea, idea_of
from resnet_space.models.registry import Entry, entries
from resnet_space.plots.blocks import block_svg
from resnet_space.plots.history import Milestone, error_chart, parameters_chart
from resnet_space.ui.events import LATEST, QUIET, Update
from resnet_space.ui.explore.networks import RANDOM, Network
from resnet_space.ui.explore.view_tab import place_chart
from resnet_space.ui.exports import Export, place_exports
from resnet_space.ui.html import place_html

FIRST = "resnet50"
ABOUT = (
    "Every network here by the year of its paper. Click a point, or choose a network below, to read its idea. Filled "
    "points: the error is from the network's own paper. Open points: from its authors' repository or from torchvision, "
    "as the paper reports none. Crops and image sizes differ between papers, so small differences mean little."
)
CAPTION = (
    "Top-5 error on ImageNet's validation images as published, and parameters, by year. Filled points: from the paper; "
    "open points: from the authors' or torchvision's repository."
)
# An update that opens the fold is lost while its tab is just opening.
UNFOLD = """() => {
  const { linked } = resnetSpace;
  const fold = document.querySelector("#history > button:not(.open)");
  if (linked.tab === "explore" && linked.about) fold?.click();
}"""
PYTHON = """\
from resnet_space.models.ideas import PUBLISHED
from resnet_space.models.registry import entries

for name, entry in entries(trains=False).items():
    if name in PUBLISHED:
        print(entry.year, name, entry.parameters, PUBLISHED[name].top5, PUBLISHED[name].source)
"""
COLUMNS = ("network", "title", "year", "paper", "parameters", "top-5 error", "source")


def milestones() -> list[Milestone]:
    """The networks of the registry that have a place in the history, by year."""
    known = entries(trains=False)
    found = [
        Milestone(name, _title(entry), entry.family, entry.year, entry.parameters, published.top5, published.of_paper)
        for name, published in PUBLISHED.items()
        if (entry := known.get(name))
    ]
    return sorted(found, key=lambda network: network.year)


def _idea(entry: Entry) -> Idea:
    idea = idea_of(entry.name)
    assert idea is not None, entry.name
    return idea


def _title(entry: Entry) -> str:
    return entry.label or _idea(entry).title


def network_html(name: str) -> str:
    """What one brought: the idea, the numbers, and the block. Raises UserError for one without a place here."""
    entry = entries(trains=False).get(name)
    if entry is None or name not in PUBLISHED:
        raise UserError("This network has no place in the history: choose one of the list.")
    idea, published = _idea(entry), PUBLISHED[name]
    numbers = [f"{_title(entry)}, {entry.year}", f"{_millions(entry.parameters)} parameters"]
    if entry.multiply_adds:
        numbers.append(f"{entry.multiply_adds / 1e9:.2g}{NO_BREAK}G multiply-adds per image")
    if published.top5 is not None:
        numbers.append(f"top-5 error {percent(published.top5, space=NO_BREAK)} ({published.source})")
    others = dict.fromkeys(
        other for weights in entry.pretrained if (other := idea_of(weights.name)) not in (None, idea)
    )
    more = "".join(f"<p><b>{escape(other.title)}</b> weights: {escape(other.words)}</p>" for other in others if other)
    return (
        f'<div class="milestone"><div><h4>{escape(idea.title)}</h4><p class="note">{escape(" · ".join(numbers))}</p>'
        f'<p>{escape(idea.words)}</p>{more}<p><a href="{escape(entry.paper)}" target="_blank" rel="noopener">Paper</a>'
        f"</p></div>{block_svg(BLOCKS[idea.block], f'Block of {idea.title}')}</div>"
    )


def _millions(count: int) -> str:
    return f"{count / 1e6:.3g}{NO_BREAK}M"


def guide_html() -> str:
    """Which network for what, as a table."""
    known = entries(trains=False)
    rows = "".join(
        f"<tr><td>{escape(case)}</td><td>{escape(known[name].title)}</td><td>{escape(why)}</td></tr>"
        for case, name, why in GUIDE
        if name in known
    )
    return (
        '<h4>Which network for what?</h4><div class="scrolled"><table><thead><tr><th>For</th><th>Take</th><th>Because'
        f"</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )


def history_export() -> Export:
    """Both charts, and the numbers with their sources."""
    known, networks = entries(trains=False), milestones()
    rows = [
        (n.name, n.title, n.year, known[n.name].paper, n.parameters, n.top5, PUBLISHED[n.name].source) for n in networks
    ]
    return Export("networks", [error_chart(networks), parameters_chart(networks)], CAPTION, (COLUMNS, rows), PYTHON)


def build_history(network: gr.Dropdown, settled: Dependency) -> None:
    """Place the fold and wire its events.

    Args:
        network: the tab's choice, which the fold's button changes.
        settled: the event after which the page's address may open the fold.
    """
    with gr.Accordion("Networks: history and guide", open=False, elem_id="history") as fold:
        gr.Markdown(ABOUT, elem_classes="about")
        charts = [place_chart(f"history-{name}", 400) for name in ("error", "parameters")]
        place_exports([], history_export)
        titles = [(f"{network.title} ({network.year})", network.name) for network in milestones()]
        chosen = gr.Dropdown(titles, value=FIRST, label="Network to read about")
        shown = place_html(elem_id="milestone")
        explore = gr.Button("Explore its residual blocks, with random weights", size="sm")
        place_html(guide_html(), elem_id="guide")

    def on_open(name: str) -> Update:
        networks = milestones()
        made = (error_chart(networks), parameters_chart(networks))
        return {**dict(zip(charts, made, strict=True)), shown: network_html(name)}

    def on_point(event: gr.EventData) -> Update:
        name = str(next(iter(getattr(event, "point", None) or ()), ""))
        return {chosen: name, shown: network_html(name)}

    def on_link(request: gr.Request) -> Update:
        asked = dict(request.query_params)
        name = asked.get("about", "")
        is_there = asked.get("tab") == "explore" and name in {value for _, value in titles}
        return {chosen: name if is_there else gr.skip()}

    tell = "(name) => resnetSpace.show('explore', { about: name })"
    outputs = [chosen, shown]
    fold.expand(on_open, chosen, [*charts, shown], **QUIET).then(None, chosen, None, js=tell, **QUIET)
    fold.collapse(None, None, None, js="() => resnetSpace.show('explore', { about: '' })", **QUIET)
    chosen.input(network_html, chosen, shown, **LATEST).then(None, chosen, None, js=tell, **QUIET)
    for chart in charts:
        clicked = chart.select(on_point, None, outputs, trigger_mode="multiple", **QUIET)
        clicked.then(None, chosen, None, js=tell, **QUIET)
    settled.then(on_link, None, chosen, **QUIET).then(None, None, None, js=UNFOLD, **QUIET)
    led = explore.click(lambda name: str(Network(name, RANDOM)), chosen, network, **QUIET)
    led.then(None, None, None, js="() => resnetSpace.explore.reveal()", **QUIET)
