"""Smaller Gradio sessions for pages and API calls, limited per address."""

import datetime
from collections import OrderedDict
from copy import copy
from typing import Any

import gradio as gr
from gradio import route_utils, routes
from gradio.state_holder import SessionState, StateHolder

from resnet_space.serve.visitors import asking

SESSIONS = 400  # of all; the longest unused goes
SESSIONS_OF_ONE = 100  # of one address: then its own longest unused goes, and nobody else's


class Session(SessionState):
    """Gradio's session, without copies of the page's configuration and of all sent values.

    Gradio keeps it for links to a page's state, which there are none of here: 0.8 MB of each session, some milliseconds
    of each call by a program, and pictures of 20 MB that came as text for as long as the session lives.
    """

    def __init__(self, blocks: gr.Blocks) -> None:
        self.blocks_config = copy(blocks.default_config)
        self.config_values: dict[int, Any] = {}
        self.state_data: dict[int, Any] = {}
        self._state_ttl: dict[int, tuple[float | None, datetime.datetime]] = {}
        self.is_closed = False
        self.STATE_TTL_WHEN_CLOSED = 3_600

    def __setitem__(self, key: int, value: Any) -> None:
        block = self.blocks_config.blocks.get(key)
        if isinstance(block, gr.State):
            self._state_ttl[key] = (block.time_to_live, datetime.datetime.now())
            self.state_data[key] = value
        else:
            self.blocks_config.blocks[key] = value

    def _update_config(self, key: int) -> None:
        pass

    def _update_value_in_config(self, key: int, value: Any) -> None:
        pass


class Sessions(StateHolder):
    """Gradio's sessions, with a share for each address; the guard has determined the current request's address."""

    def __init__(self) -> None:
        super().__init__()
        self._address: OrderedDict[str, str] = OrderedDict()  # of each session, the longest unused first

    def __getitem__(self, session_id: str) -> SessionState:
        with self.lock:
            if session_id not in self.session_data:
                self.session_data[session_id] = Session(self.blocks)
                self._address[session_id] = asking()
                self._keep_to_share(self._address[session_id])
            elif session_id in self._address:
                self._address.move_to_end(session_id)
        state: SessionState = super().__getitem__(session_id)
        return state

    def _keep_to_share(self, address: str) -> None:
        for gone in [session for session in self._address if session not in self.session_data]:
            del self._address[gone]
        own = [session for session in self._address if self._address[session] == address]
        for oldest in own[:-SESSIONS_OF_ONE] if address else ():
            del self._address[oldest]
            del self.session_data[oldest]
            self.time_last_used.pop(oldest, None)
            self.blocks._queue.pending_event_ids_session.pop(oldest, None)


def keep_little_of_sessions() -> None:
    """Replace Gradio's sessions by these."""
    vars(routes)["StateHolder"] = Sessions
    vars(route_utils)["SessionState"] = Session  # of calls without a session
