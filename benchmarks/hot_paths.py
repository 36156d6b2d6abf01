"""The hot paths, each driven a fixed number of times; `benchmarks.instructions` counts them.

Real objects and real sockets, but hardly a clock and no chance: the same program takes the same
instructions. Run by hand, without the library of `counting.c`, it counts nothing.
"""

import asyncio
import ctypes
import gc
import os
import socket
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop
from uvicorn.config import Config
from uvicorn.server import Server

from lastcall.protocol.base import Message
from lastcall.transport.framing import WEBSOCKET
from lastcall.uvicorn_handshake import read_packet
from lastcall.websocket_codec import FrameReader

CLIENTS = 32
PUBLICATIONS = 10
WARM_UP = 3
"""Times that everything is done before it is counted: the interpreter adapts to what it runs."""
COUNTED = 3
"""Times that it is counted: timers come in between, and the least count has the fewest of them."""

HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
TEXT = b"x" * 128
MASKED = b"\x81\xfe" + len(TEXT).to_bytes(2) + b"\0\0\0\0" + TEXT

SETTINGS = {
    "ANNOUNCEMENTS": "false",
    "HEARTBEAT_INTERVAL": "0",
    "MESSAGE_RATE": "0",
}

type Drive = Callable[[], Awaitable[object]]


class Counter:
    """Tells callgrind what to count."""

    def __init__(self, library: str | None) -> None:
        """Use the *library* that was made of `counting.c`; without it nothing is counted."""
        self._library = ctypes.CDLL(library) if library else None

    async def count(
        self, name: str, drive: Drive, tidy: Callable[[], object] | None = None
    ) -> None:
        """Count one *drive* after it has been done some times, without the *tidy* behind each."""
        for _ in range(WARM_UP):
            await drive()
            if tidy is not None:
                tidy()
        for _ in range(COUNTED):
            await self.once(name, drive)
            if tidy is not None:
                tidy()

    async def once(self, name: str, drive: Drive) -> None:
        """Count one *drive*."""
        gc.collect()
        if self._library is not None:
            self._library.begin()
        await drive()
        if self._library is not None:
            self._library.end(name.encode())


async def count_what_is_pure(counter: Counter) -> None:
    """Everything that needs no socket, and a yardstick."""
    reader = FrameReader(65_536)

    async def read() -> None:
        for _ in range(200):
            reader.feed(MASKED)
            while reader.next_event() is not None:
                pass

    async def write() -> None:
        for _ in range(200):
            WEBSOCKET.frame([Message(TEXT)])

    async def handshake() -> None:
        for _ in range(50):
            read_packet(HANDSHAKE)

    await counter.count("yardstick", _yardstick)
    await counter.count("read 200 frames", read)
    await counter.count("write 200 frames", write)
    await counter.count("read 50 handshakes", handshake)


async def _yardstick() -> None:
    """A bit of everything that interpreters differ in: calls, attributes, bytes, dicts."""
    total, seen = 0, {}
    for number in range(5000):
        name = b"%d" % number
        seen[name] = _Pair(number, name[:2])
        total += seen[name].size()


class _Pair:
    __slots__ = ("left", "right")

    def __init__(self, left: int, right: bytes) -> None:
        self.left, self.right = left, right

    def size(self) -> int:
        return self.left + len(self.right)


class Clients:
    """The other side of the server, in its thread: what they do is there when the loop looks."""

    def __init__(self, port: int) -> None:
        """Nobody is connected."""
        self._address = ("127.0.0.1", port)
        self._sockets: list[socket.socket] = []

    def come(self) -> None:
        """All connect and ask for a WebSocket."""
        for _ in range(CLIENTS):
            client = socket.socket()
            client.connect(self._address)
            client.sendall(HANDSHAKE)
            self._sockets.append(client)

    def speak(self) -> None:
        """One sends a message."""
        self._sockets[0].sendall(MASKED)

    def read(self) -> None:
        """All read what is there for them."""
        for client in self._sockets:
            if not client.recv(65_536):
                raise RuntimeError("the server has closed a connection")

    def leave(self) -> None:
        """All are gone at once, without a word."""
        for client in self._sockets:
            client.close()
        self._sockets.clear()


class Served:
    """What clients of `main:app` meet."""

    def __init__(self, port: int) -> None:
        """The server listens on *port*."""
        from main import lastcall  # noqa: PLC0415  (its settings are read when it is imported)

        self._lastcall = lastcall
        self._worker = lastcall.now.worker
        self._clients = Clients(port)

    async def count(self, counter: Counter) -> None:
        """Count everything."""
        for _ in range(WARM_UP):
            await self._come()
            await self._leave()
        for _ in range(COUNTED):
            await counter.once(f"connect {CLIENTS} clients", self._come)
            await counter.once(f"see {CLIENTS} clients leave", self._leave)
        await self._come()
        self._clients.read()
        to_all = f"{PUBLICATIONS} times to {CLIENTS} clients"
        await counter.count(f"publish {to_all}", self._publish, self._clients.read)
        await counter.count(f"pass a message on {to_all}", self._pass_on, self._clients.read)
        await self._leave()

    async def _come(self) -> None:
        self._clients.come()
        while self._worker.connections.count < CLIENTS:  # noqa: ASYNC110  (turns are counted)
            await asyncio.sleep(0)
        await _turns(3)

    async def _leave(self) -> None:
        self._clients.leave()
        while self._worker.connections.count:  # noqa: ASYNC110  (the same)
            await asyncio.sleep(0)
        await _turns(3)

    async def _publish(self) -> None:
        for _ in range(PUBLICATIONS):
            self._lastcall.publish("ws", "x" * 128)
            await _turns(3)

    async def _pass_on(self) -> None:
        for _ in range(PUBLICATIONS):
            self._clients.speak()
            await _turns(5)


async def _turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def main(library: str | None) -> None:
    """Count everything, under a uvicorn server in this process."""
    gc.disable()
    counter = Counter(library)
    await count_what_is_pure(counter)
    server = Server(Config("main:app", port=0, log_level="warning", access_log=False))
    with server.capture_signals():
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        await server.startup()
        await server.on_tick(0)  # makes the default headers
        await Served(server.servers[0].sockets[0].getsockname()[1]).count(counter)
        server.should_exit = True
        await server.shutdown()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="lcb-") as name:
        for each in ("run", "state"):
            (Path(name) / each).mkdir(mode=0o700)
            os.environ[f"LASTCALL_{each.upper()}_DIR"] = f"{name}/{each}"
        os.environ.update({f"LASTCALL_{key}": value for key, value in SETTINGS.items()})
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main(sys.argv[1] if len(sys.argv) > 1 else None))
