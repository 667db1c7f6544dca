"""The tab's part of the page's address: `network` where it is not the subject, `with=A,B` for comparing."""

from typing import Any

import gradio as gr
from gradio.events import Dependency

from resnet_space.common.errors import UserError
from resnet_space.models.registry import entries
from resnet_space.serve.context import AppContext
from resnet_space.ui.events import QUIET
from resnet_space.ui.explore.compare import MOST_NETWORKS
from resnet_space.ui.explore.networks import RANDOM, Network, network_choices

# The tab's part of the address, where the page's script keeps one for each tab.
SHOW_NETWORK = """(network) => {
  window.resnetSpace.show('explore', { network: network === window.resnetSpace.state.run ? '' : network });
}"""
# What a page was opened with stays in its address, although nothing has changed since. The script may come late.
SHOW_LINKED = """(others) => {
  const show = () =>
    window.resnetSpace ? window.resnetSpace.show('explore', { with: others }) : setTimeout(show, 100);
  if (others) show();
}"""
SHOW_COMPARED = "(names) => { window.resnetSpace?.show?.('explore', { with: (names ?? []).slice(1).join(',') }); }"


def linked_networks(context: AppContext, asked: dict[str, str]) -> list[Network]:
    """Those that an address names, and that there are: the first, then those to compare it with."""
    if asked.get("tab") != "explore":
        return []
    named = [asked.get("network") or asked.get("run", ""), *asked.get("with", "").split(",")]
    return [network for network in dict.fromkeys(map(Network.parse, named)) if _is_there(context, network)]


def wire_address(context: AppContext, settled: Dependency, network: gr.Dropdown, compared: gr.Dropdown) -> None:
    """Choose what the address names when the page opens, and keep the choice in it."""

    def open_link(request: gr.Request) -> Any:
        linked = linked_networks(context, dict(request.query_params))
        if not linked:
            return gr.skip(), gr.skip(), ""
        ids, known = list(map(str, linked)), network_choices(context.trained_names())
        choices = [*dict.fromkeys([*((network.label, str(network)) for network in linked), *known])]
        several = gr.update(choices=choices, value=ids[:MOST_NETWORKS]) if len(ids) > 1 else gr.skip()
        return gr.update(choices=choices, value=ids[0]), several, ",".join(ids[1:MOST_NETWORKS])

    network.change(None, network, None, js=SHOW_NETWORK, **QUIET)
    compared.change(None, compared, None, js=SHOW_COMPARED, **QUIET)
    others = gr.Textbox(visible=False)
    opened = settled.then(open_link, None, [network, compared, others], **QUIET)
    opened.then(None, others, None, js=SHOW_LINKED, **QUIET)


def _is_there(context: AppContext, network: Network) -> bool:
    if network.kind == RANDOM:
        return network.name in entries(trains=False)
    try:
        return context.library.open(network.name).has_weights
    except UserError:
        return False
