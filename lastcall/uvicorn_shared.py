"""What all connections of one uvicorn server share."""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from lastcall.uvicorn_deadlines import Deadlines, deadlines_of

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState


@dataclass(frozen=True, slots=True)
class Shared:
    """The server's own set of connections, the one timer, and how signs of life are asked for."""

    connections: set[Any]
    deadlines: Deadlines
    ping_interval: float | None
    ping_timeout: float | None


_SHARED: "WeakKeyDictionary[ServerState, Shared]" = WeakKeyDictionary()


def shared_by(config: "Config", server_state: "ServerState") -> Shared:
    """The same for every connection of the server of *server_state*."""
    shared = _SHARED.get(server_state)
    if shared is None:
        shared = _SHARED[server_state] = Shared(
            server_state.connections,
            deadlines_of(asyncio.get_running_loop()),
            config.ws_ping_interval or None,
            config.ws_ping_timeout,
        )
    return shared
