"""The app as others' programs find it: its description, MCP, and the README's example."""

import asyncio
import base64
import json
import re
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Any

from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, TextContent

from tests.ui.conftest import REPOSITORY, SHIPPED, App

PUBLIC = {
    "start_training",
    "training_status",
    "stop_training",
    "predict",
    "explore_residuals",
    "check_data",
    "clean_data",
    "compare_models",
    "push",
    "pull",
    "export",
    "add_data",
}
EXAMPLE = REPOSITORY / "resnet_space" / "datasets" / "examples" / "horse.jpg"
_, SHOWPIECE = SHIPPED


def asked(app: App, ask: Callable[[ClientSession], Awaitable[Any]]) -> Any:
    """What an MCP client, the protocol's own, gets as the answer."""

    async def converse() -> Any:
        async with (
            streamable_http_client(f"{app.url}/gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            return await ask(session)

    return asyncio.run(converse())


def called(app: App, tool: str, **arguments: Any) -> CallToolResult:
    result: CallToolResult = asked(app, lambda session: session.call_tool(tool, arguments))
    return result


def text(result: CallToolResult) -> str:
    return " ".join(content.text for content in result.content if isinstance(content, TextContent))


def test_every_public_endpoint_is_described_and_no_choice_of_runs_is_fixed(app: App) -> None:
    with urllib.request.urlopen(f"{app.url}/gradio_api/info") as answer:
        endpoints = json.load(answer)["named_endpoints"]
    assert set(endpoints) == {f"/{name}" for name in PUBLIC}
    for endpoint in endpoints.values():
        assert re.match(r"[A-Z].*\.$", endpoint["description"])
    assert SHOWPIECE not in json.dumps([parameter["type"] for e in endpoints.values() for parameter in e["parameters"]])


def test_the_tools_are_the_public_endpoints_and_each_argument_is_explained(app: App) -> None:
    tools = {tool.name: tool for tool in asked(app, lambda session: session.list_tools()).tools}
    assert set(tools) == PUBLIC
    for tool in tools.values():
        assert tool.description
        for name, schema in tool.inputSchema["properties"].items():
            # Gradio reads one line of an argument's description: a longer one would end in the middle.
            assert re.search(r"[^,]\.$", schema["description"]), (tool.name, name)


def test_a_tool_call_classifies_a_picture_that_comes_with_it(app: App) -> None:
    picture = "data:image/jpeg;base64," + base64.b64encode(EXAMPLE.read_bytes()).decode()
    answer = called(app, "predict", image=picture, run=SHOWPIECE)
    assert not answer.isError
    assert re.search(r"'label': 'horse', 'confidences': \[\{'label': 'horse'", text(answer))
    assert f"'run': '{SHOWPIECE}', 'warnings': []" in text(answer)
    assert f"'run': '{SHOWPIECE}', 'warnings': []" in text(called(app, "predict", image=picture))


def test_a_tool_call_is_refused_in_a_sentence_and_fetches_no_address(app: App) -> None:
    asked_before = len(app.hub.requests)
    refused = called(app, "predict", image=f"{app.hub.url}/picture.png", run=SHOWPIECE)
    assert refused.isError
    assert "Files are not downloaded from a URL: upload the file instead." in text(refused)
    assert len(app.hub.requests) == asked_before
    unknown = called(app, "training_status", run="gone")
    assert unknown.isError
    assert "There is no run named gone, or it has been deleted: choose another one." in text(unknown)
