"""Connections by uvicorn's own protocol, over transports that note what is done to them."""

import resource
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from resnet_space.serve.connections import allowed_of_one, limit_connections


class Transport:
    def __init__(self, address: str) -> None:
        self.address = address
        self.done = ""

    def get_extra_info(self, name: str) -> Any:
        return (self.address, 1) if name == "peername" else None

    def abort(self) -> None:
        self.done = "aborted"

    def close(self) -> None:
        self.done = "closed"

    def is_closing(self) -> bool:
        return bool(self.done)


class Protocol:
    """What of uvicorn's is used."""

    def __init__(self) -> None:
        self.scope: object = None
        self.later: list[Callable[[], None]] = []
        self.loop = SimpleNamespace(call_later=lambda _, call, *args: self.later.append(lambda: call(*args)))
        self.seen: list[str] = []

    def connection_made(self, transport: Transport) -> None:
        self.seen.append("made")

    def connection_lost(self, error: Exception | None) -> None:
        self.seen.append("lost")


@pytest.fixture(autouse=True)
def limited() -> Iterator[None]:
    take_back = limit_connections(2, Protocol)
    yield
    take_back()


def connect(address: str = "192.0.2.1") -> tuple[Protocol, Transport]:
    protocol, transport = Protocol(), Transport(address)
    protocol.connection_made(transport)
    return protocol, transport


def test_an_address_has_so_many_connections_and_others_get_in() -> None:
    first, second = connect(), connect()
    refused, transport = connect()
    assert (refused.seen, transport.done) == ([], "aborted")
    refused.connection_lost(None)  # which counts for nothing
    assert connect()[1].done == "aborted"
    assert connect("192.0.2.2")[0].seen == ["made"]
    first[0].connection_lost(None)
    assert first[0].seen == ["made", "lost"]
    assert connect()[0].seen == ["made"]
    assert not second[1].done


def test_a_connection_that_asks_for_nothing_is_closed_and_one_that_asked_stays() -> None:
    (silent, closed), (asking, kept) = connect(), connect()
    asking.scope = {"type": "http"}
    for protocol in (silent, asking):
        (close_if_silent,) = protocol.later
        close_if_silent()
    assert (closed.done, kept.done) == ("closed", "")


def test_one_address_never_takes_all_files_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for files, most in ((256, 85), (1, 1), (1_000_000, 500)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, files=files: (files, files))
        assert allowed_of_one() == most
