"""uvicorn with our WebSocket class and its entrance, in the loop of the test."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from uvicorn.config import Config
from uvicorn.server import Server, ServerState

from lastcall.protocol.base import Message
from lastcall.uvicorn_entrance import install_entrance
from lastcall.uvicorn_websocket import UvicornWebSocket

if TYPE_CHECKING:
    from lastcall.transport.base import Transport

TIMEOUT = 10
"""Seconds until a test that waits has failed."""


class Host:
    """Where the server listens, and what it knows."""

    def __init__(self, port: int, server: Server) -> None:
        """As `hosting` made it."""
        self.port = port
        self.server = server
        self.config: Config = server.config
        self.state: ServerState = server.server_state
        self.url = f"ws://127.0.0.1:{port}"

    @property
    def connection(self) -> UvicornWebSocket:
        """The only WebSocket that is open."""
        (connection,) = self.state.connections
        assert isinstance(connection, UvicornWebSocket)
        return connection

    async def empty(self) -> None:
        """Wait until no connection and no task is left."""
        await self.until(lambda: not self.state.connections and not self.state.tasks)

    async def until(self, true: Callable[[], object]) -> None:
        """Wait until *true*; for what nobody tells."""
        async with asyncio.timeout(TIMEOUT):
            while not true():  # noqa: ASYNC110  (what it waits for has no event)
                await asyncio.sleep(0)


@asynccontextmanager
async def hosting(
    app: Any, *, http: str = "entrance", entrance_to: str = "httptools", **options: Any
) -> AsyncIterator[Host]:
    """Serve *app*; what is open at the end is closed as uvicorn would.

    Clients come in through our entrance in front of a class of uvicorn's, or through *http* itself.
    """
    options = {"ws": UvicornWebSocket, "log_config": None, **options}
    config = Config(app, http=entrance_to if http == "entrance" else http, **options)
    config.load()
    if http == "entrance":
        install_entrance(config)
    uvicorn = Server(config)
    uvicorn.lifespan = config.lifespan_class(config)
    await uvicorn.on_tick(0)  # sets the default headers
    loop = asyncio.get_running_loop()

    protocol: Any = config.http_protocol_class
    factory = partial(
        protocol, config=config, server_state=uvicorn.server_state, app_state={"key": "value"}
    )
    if config.uds is not None:
        server = await loop.create_unix_server(factory, config.uds)
        host = Host(0, uvicorn)
    else:
        server = await loop.create_server(factory, "127.0.0.1", 0, ssl=config.ssl)
        host = Host(server.sockets[0].getsockname()[1], uvicorn)
    try:
        yield host
    finally:
        server.close()
        for connection in list(host.state.connections):
            connection.shutdown()
        await host.empty()


class Received:
    """`TransportEvents` that keeps what it was told, and lets a test wait for it."""

    def __init__(self) -> None:
        """Nothing was told."""
        self.transport: Transport
        self.messages: list[Message] = []
        self.overflows = 0
        self.ends: list[int] = []
        self.on_message: Callable[[Message], object] = lambda _: None
        self._told = asyncio.Event()

    def received(self, message: Message) -> None:
        """Keep it."""
        self.messages.append(message)
        self.on_message(message)
        self._told.set()

    def overflowed(self) -> None:
        """What a connection does then."""
        self.overflows += 1
        self.transport.close(3008, "slow", discard=True)
        self._told.set()

    def ended(self, code: int) -> None:
        """Keep the code."""
        self.ends.append(code)
        self._told.set()

    async def until(self, true: Callable[["Received"], object]) -> None:
        """Wait until *true*."""
        async with asyncio.timeout(TIMEOUT):
            while not true(self):
                self._told.clear()
                await self._told.wait()


def detaching(
    events: Received, *, max_backlog: int = 1_048_576, max_message_size: int = 65_536
) -> Any:
    """An application whose every WebSocket is accepted and given to *events*."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "websocket"
        assert await receive() == {"type": "websocket.connect"}
        await send({"type": "websocket.accept"})
        detach = scope["extensions"]["lastcall.detach"]
        events.transport = detach(
            events, max_backlog=max_backlog, max_message_size=max_message_size
        )

    return app


class RawClient:
    """A client that says what it is told to, byte by byte, and may not read."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """As `raw_client` made it."""
        self.reader = reader
        self.writer = writer

    async def response(self) -> bytes:
        """The head of the server's answer."""
        async with asyncio.timeout(TIMEOUT):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def frame(self) -> tuple[int, bytes]:
        """First byte and payload of the next frame."""
        async with asyncio.timeout(TIMEOUT):
            first, size = await self.reader.readexactly(2)
            if size == 126:
                size = int.from_bytes(await self.reader.readexactly(2))
            elif size == 127:
                size = int.from_bytes(await self.reader.readexactly(8))
            return first, await self.reader.readexactly(size)

    async def rest(self) -> bytes:
        """All until the server closes."""
        async with asyncio.timeout(TIMEOUT):
            return await self.reader.read()


HANDSHAKE = (
    b"GET /ws?a=b HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
END = b"\r\n"


@asynccontextmanager
async def raw_client(
    host: Host, sent: bytes = HANDSHAKE + END, *, receive_buffer: int | None = None
) -> AsyncIterator[RawClient]:
    """Connect and send *sent*; a small *receive_buffer* fills up soon."""
    sock = socket.socket()
    sock.settimeout(0)
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", host.port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=10_000_000)
    try:
        writer.write(sent)
        yield RawClient(reader, writer)
    finally:
        writer.transport.abort()
