"""The sequencer's socket: lets the workers of this server in and hands them to the sequencer."""

import asyncio
import os
import socket
from pathlib import Path

import anyio
import anyio.to_thread

from lastcall.broker.bus_connection import BusConnection
from lastcall.broker.bus_messages import (
    DECODE_FROM_WORKER,
    NEWEST,
    OLDEST,
    FromWorker,
    Hello,
    Outgoing,
    Ping,
    Pong,
    Refusal,
    Welcome,
    common_version,
)
from lastcall.broker.sequencer import Peer, Sequencer
from lastcall.forked_child import forget, keep_from_children

CLOSE_SECONDS = 1.0
"""How long the last words may take to reach the other workers."""
_BACKLOG = 256


class BusServer:
    """Listens on *path*, which belongs to whoever holds the lock of the bus.

    It answers from the start, also while the log is being opened, so that nobody takes a slow
    start for a hung sequencer.
    """

    def __init__(self, path: Path) -> None:
        """Name the socket; see `open`."""
        self._path = path
        self._server: asyncio.Server | None = None
        self._sequencer: Sequencer | None = None
        self._connections: set[BusConnection[FromWorker]] = set()
        self._welcome_later: dict[BusConnection[FromWorker], int] = {}
        self._peers: dict[BusConnection[FromWorker], Peer] = {}
        self._descriptor = -1
        self._empty = anyio.Event()

    async def open(self) -> None:
        """Listen; what a dead sequencer left at this path is removed."""
        listener = await anyio.to_thread.run_sync(self._bind)
        self._descriptor = listener.fileno()
        keep_from_children(self._descriptor)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(self._accept, sock=listener)

    def serve(self, sequencer: Sequencer) -> None:
        """Let *sequencer* have all workers that are here and come."""
        self._sequencer = sequencer
        for connection, version in self._welcome_later.items():
            self._admit(sequencer, connection, version)
        self._welcome_later.clear()

    async def close(self) -> None:
        """Send the last words and end every connection; the path stays."""
        if self._server is None:
            return
        forget(self._descriptor)
        self._server.close()
        for connection in tuple(self._connections):
            connection.close()
        with anyio.move_on_after(CLOSE_SECONDS):
            while self._connections:
                self._empty = anyio.Event()
                await self._empty.wait()
        for connection in tuple(self._connections):
            connection.cut()

    def _bind(self) -> socket.socket:
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(os.fsencode(self._path))
            self._path.chmod(0o600)
            listener.listen(_BACKLOG)
            listener.setblocking(False)  # noqa: FBT003  (the standard library's signature)
        except BaseException:
            listener.close()
            raise
        return listener

    def _accept(self) -> BusConnection[FromWorker]:
        connection = BusConnection(DECODE_FROM_WORKER, self._received, self._lost)
        self._connections.add(connection)
        return connection

    def _received(self, connection: BusConnection[FromWorker], message: FromWorker) -> None:
        if (peer := self._peers.get(connection)) is not None and self._sequencer is not None:
            self._sequencer.receive(peer, message)
        elif isinstance(message, Hello):
            self._greet(connection, message)
        elif isinstance(message, Ping):
            connection.send(Pong(writable=False))
        else:
            raise ValueError("a message before hello")

    def _greet(self, connection: BusConnection[FromWorker], hello: Hello) -> None:
        version = common_version(hello)
        if version is None:
            connection.send(
                Refusal(
                    f"this host's sequencer speaks versions {OLDEST} to {NEWEST} of the bus, the"
                    f" worker {hello.oldest} to {hello.newest}: their releases are too far apart"
                )
            )
            connection.close()
        elif self._sequencer is None:
            self._welcome_later[connection] = version
        else:
            self._admit(self._sequencer, connection, version)

    def _admit(
        self, sequencer: Sequencer, connection: BusConnection[FromWorker], version: int
    ) -> None:
        def send(outgoing: Outgoing) -> None:
            connection.send_frame(outgoing.frame)

        connection.send(Welcome(version))
        peer = self._peers[connection] = Peer(send)
        sequencer.attach(peer)

    def _lost(self, connection: BusConnection[FromWorker]) -> None:
        self._connections.discard(connection)
        self._welcome_later.pop(connection, None)
        peer = self._peers.pop(connection, None)
        if peer is not None and self._sequencer is not None:
            self._sequencer.detach(peer)
        self._empty.set()
