"""Where clients come in on uvicorn: the first packet shows what a client is.

uvicorn makes an HTTP object for each client, with a parser of its own; a WebSocket throws both away
after one request. Ours looks first. A handshake that is beyond doubt is read here, and the object
goes on as the WebSocket. Everything else is uvicorn's, from its first byte.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from lastcall.uvicorn_closing import GONE
from lastcall.uvicorn_handshake import read_packet
from lastcall.uvicorn_websocket import UvicornWebSocket

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

type MakeHttp = Callable[..., asyncio.Protocol]
"""uvicorn's HTTP class, or what stands for it."""

_TRIED = ("auto", "httptools", "h11")


def install_entrance(config: "Config") -> None:
    """Let the clients of *config*'s server come in here, if its HTTP class is one that we know."""
    if config.http in _TRIED and config.ws_protocol_class is UvicornWebSocket:
        make: Any = partial(Entrance, config.http_protocol_class)
        config.http_protocol_class = make


class Entrance(UvicornWebSocket):
    """A client that has not said yet what it wants; it becomes a WebSocket, or uvicorn's."""

    __slots__ = ("_make_http",)

    def __init__(
        self,
        make_http: MakeHttp,
        config: "Config",
        server_state: "ServerState",
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Wait for the first packet."""
        super().__init__(config, server_state, app_state)
        self._make_http = make_http

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count as one of the server's connections."""
        self._tcp = cast("asyncio.Transport", transport)
        self._host.connections.add(self)

    def shutdown(self) -> None:
        """End the connection, because uvicorn stops."""
        if self._start is None:
            super().shutdown()
        else:
            self._tcp.close()

    def _receive_request(
        self, data: bytes, config: "Config", state: "ServerState", app_state: dict[str, Any]
    ) -> None:
        self._start = None
        found = read_packet(data)
        if found is None:
            self._leave_to_uvicorn(data, config, state, app_state)
            return
        upgrade, rest = found
        self._reader.feed(rest)
        self._set_up_writing()
        self._run(self._endpoint_for(upgrade, config, state, app_state), config, state.tasks)

    def _leave_to_uvicorn(
        self, packet: bytes, config: "Config", state: "ServerState", app_state: dict[str, Any]
    ) -> None:
        self._stage = GONE
        self._host.connections.discard(self)
        http = self._make_http(config=config, server_state=state, app_state=app_state)
        self._tcp.set_protocol(http)
        http.connection_made(self._tcp)
        http.data_received(packet)
