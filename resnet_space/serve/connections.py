"""Limit the connections to the server per address, and close idle new ones.

uvicorn has no such limit, and each connection takes one of the process's file handles: when all are taken, nobody else
can connect.
"""

import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

SHARE = 1 / 3  # of the process's file handles, for the connections of one address
MOST = 500  # connections per address; a page has about six
ASK_SECONDS = 20.0  # in which a new connection must send a request


def allowed_of_one() -> int:
    """Maximum number of connections per address."""
    if sys.platform == "win32":
        return MOST
    import resource

    return max(min(MOST, int(resource.getrlimit(resource.RLIMIT_NOFILE)[0] * SHARE)), 1)


def limit_connections(most: int, protocol: type[Any] = H11Protocol) -> Callable[[], None]:
    """Close connections beyond the limit of an address, and those without a request.

    Not for an app behind a proxy, because all its connections come from the proxy.

    Args:
        most: connections of one address.
        protocol: uvicorn's.

    Returns:
        A function that removes the limit.
    """
    made, lost = protocol.connection_made, protocol.connection_lost
    open_now: Counter[str] = Counter()

    def connection_made(self: Any, transport: Any) -> None:
        address = (transport.get_extra_info("peername") or ("",))[0]
        if open_now[address] >= most:
            transport.abort()
            return
        open_now[address] += 1
        self.counted_for = address
        made(self, transport)
        self.loop.call_later(ASK_SECONDS, close_if_silent, self, transport)

    def connection_lost(self: Any, error: Exception | None) -> None:
        address = getattr(self, "counted_for", None)
        if address is None:  # it was never let in
            return
        open_now[address] -= 1
        if not open_now[address]:
            del open_now[address]
        lost(self, error)

    def close_if_silent(self: Any, transport: Any) -> None:
        if self.scope is None and not transport.is_closing():
            transport.close()

    def take_back() -> None:
        protocol.connection_made, protocol.connection_lost = made, lost

    protocol.connection_made, protocol.connection_lost = connection_made, connection_lost
    return take_back
