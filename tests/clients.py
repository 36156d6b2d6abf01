"""A WebSocket client that remembers what it heard, and can wait for more."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

PATIENCE = 10.0
"""Seconds that anything may take on a busy machine before a test gives up."""


class Client:
    """One real client. `heard` grows while the test does something else."""

    def __init__(self, websocket: ClientConnection) -> None:
        """Listen on *websocket* from now on."""
        self.websocket = websocket
        self.heard: list[str | bytes] = []
        self.heard_at: list[float] = []
        self._news = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def connect(cls, url: str, **options: object) -> Self:
        """Connect, without compression and pings, so that only the test's bytes are on the wire."""
        options = {"compression": None, "ping_interval": None, "open_timeout": PATIENCE, **options}
        return cls(await connect(url, **options))  # type: ignore[arg-type]

    @property
    def name(self) -> str:
        """How the server calls this client in its announcements."""
        host, port = self.websocket.local_address[:2]
        return f'Client "[{host}]:{port}"'

    async def send(self, message: str | bytes) -> None:
        """Send *message*."""
        await self.websocket.send(message)

    async def hear(
        self, wanted: str | bytes | Callable[[str | bytes], bool], *, times: int = 1
    ) -> None:
        """Return when *wanted* has been heard *times* times, before or from now on."""
        matches = wanted if callable(wanted) else lambda heard: heard == wanted
        try:
            async with asyncio.timeout(PATIENCE):
                while sum(map(matches, self.heard)) < times:
                    if self._reader.done():
                        raise AssertionError(f"closed before {wanted!r}; heard {self.heard}")
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"did not hear {wanted!r}; heard {self.heard}") from None

    async def closed(self, patience: float = PATIENCE) -> tuple[int, str]:
        """The close code and reason that the server sent; fails if it sent none in time."""
        await asyncio.wait_for(asyncio.shield(self._reader), patience)
        received = self.websocket.protocol.close_rcvd
        assert received is not None, "cut without a close frame (1006)"
        return received.code, received.reason

    async def close(self) -> None:
        """Leave in order."""
        await self.websocket.close()
        await self._reader

    async def cut(self) -> None:
        """Vanish without a word: the server sees a reset or an end."""
        self.websocket.transport.abort()
        await self.websocket.wait_closed()

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in self.websocket:
                self.heard.append(message)
                self.heard_at.append(asyncio.get_running_loop().time())
                self._news.set()
        self._news.set()


@contextlib.asynccontextmanager
async def clients(url: str, count: int, **options: object) -> AsyncIterator[list[Client]]:
    """*count* clients, each of which has heard its own announcement and is closed in the end."""
    connected: list[Client] = []
    try:
        for _ in range(count):
            connected.append(await Client.connect(url, **options))  # noqa: PERF401  (closed on error)
        yield connected
    finally:
        await asyncio.gather(*(client.close() for client in connected), return_exceptions=True)
