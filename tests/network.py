"""A network between workers and what they talk to, as bad as a test wants it."""

import asyncio
import contextlib
from collections.abc import Iterator
from contextlib import contextmanager

from anyio.from_thread import BlockingPortal, start_blocking_portal


class Network:
    """Passes bytes on between a port of its own and another one, unless told otherwise."""

    def __init__(self, portal: BlockingPortal, to: int) -> None:
        """Lead to the port *to* of this machine, in *portal*'s loop."""
        self._portal = portal
        self._to = to
        self._ways: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._is_cut = self._swallows = False
        self._delay = 0.0
        self.swallowed = 0
        """Bytes that arrived nowhere."""
        self._server = portal.call(self._listen)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Reset every connection, and every new one."""
        self._is_cut = True
        self._portal.call(self._abort)

    def swallow(self) -> None:
        """Lose every packet: connections stay, and nothing arrives in either direction."""
        self._swallows = True

    def delay(self, seconds: float) -> None:
        """Let each answer arrive so many *seconds* later, from the next on."""
        self._delay = seconds

    def heal(self) -> None:
        """Be a good network again; connections that have lost something are reset."""
        if self._swallows:
            self._portal.call(self._abort)
        self._is_cut = self._swallows = False
        self._delay = 0.0

    def stop(self) -> None:
        """End every connection, and listen no more."""
        self._portal.call(self._stop)

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._connected, "127.0.0.1", 0)

    async def _stop(self) -> None:
        self._server.close()
        self._is_cut = True
        self._abort()
        if self._ways:
            await asyncio.wait(self._ways)

    def _abort(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        way = asyncio.current_task()
        assert way is not None
        self._ways.add(way)
        self._writers.add(writer)
        try:
            if not self._is_cut:
                await self._lead(reader, writer)
        finally:
            writer.transport.abort()
            self._writers.discard(writer)
            self._ways.discard(way)

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            return
        self._writers.add(far_writer)
        try:
            ways = (self._ask(reader, far_writer), self._answer(far_reader, writer))
            tasks = [asyncio.create_task(way) for way in ways]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            far_writer.transport.abort()
            self._writers.discard(far_writer)

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await self._read(reader):
            self._pass_on(data, writer)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what comes, each piece after its delay and none before another."""
        loop, due = asyncio.get_running_loop(), 0.0
        while data := await self._read(reader):
            due = max(due, loop.time() + self._delay)
            if due > loop.time():
                loop.call_at(due, self._pass_on, data, writer)
            else:
                self._pass_on(data, writer)

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        with contextlib.suppress(ConnectionError):
            return await reader.read(65536)
        return b""

    def _pass_on(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        if self._swallows:
            self.swallowed += len(data)
        elif not writer.is_closing():
            writer.write(data)


@contextmanager
def run_network(to: int) -> Iterator[Network]:
    """A way to the port *to*, until the block is left."""
    with start_blocking_portal() as portal:
        network = Network(portal, to)
        try:
            yield network
        finally:
            network.stop()
