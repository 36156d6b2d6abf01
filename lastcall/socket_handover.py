"""A unix stream on which messages and sockets travel from one worker to another."""

import array
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio

from lastcall.forked_child import forget, keep_from_children
from lastcall.handover_messages import MAX_MESSAGE, HandoverMessage, decode, encode
from lastcall.peer_credentials import peer_of
from lastcall.run_directory import RunDirectory

BATCH = 64
"""Connections in one offer, at most; each has two descriptors, and 253 can be passed at once."""
_LENGTH = 4
_READ = 262_144


class HandoverChannel:
    """One conversation. Everything it raises means that the conversation is over."""

    def __init__(self, peer: socket.socket) -> None:
        """Speak through *peer*, which belongs to the channel from here on."""
        peer.settimeout(0)
        keep_from_children(peer.fileno())
        self._socket = peer
        self._received = bytearray()
        self._descriptors: list[int] = []

    @property
    def peer(self) -> tuple[int, int]:
        """The pid and the user of the other side."""
        return peer_of(self._socket.fileno())

    async def send(self, message: HandoverMessage, descriptors: Sequence[int] = ()) -> None:
        """Send *message*, with duplicates of *descriptors*.

        Raises:
            OSError: the other side is gone, or the system is short of something.
        """
        encoded = encode(message)
        rest = memoryview(len(encoded).to_bytes(_LENGTH) + encoded)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        while rest:
            try:
                sent = self._socket.sendmsg([rest], rights if descriptors else [])
            except BlockingIOError:
                await anyio.wait_writable(self._socket)
            else:
                # The descriptors went with the first byte.
                rest, descriptors = rest[sent:], ()

    async def receive(self) -> tuple[HandoverMessage, list[int]]:
        """Receive a message, and the descriptors that came with it, which are the caller's.

        Raises:
            EOFError: the other side is gone.
            OSError: the same, less politely.
            ValueError: it does not speak our language, or we are short of descriptors.
        """
        head = await self._take(_LENGTH)
        length = int.from_bytes(head)
        if length > MAX_MESSAGE:
            raise ValueError(f"a message of {length} bytes is none of ours")
        message = decode(await self._take(length))
        descriptors, self._descriptors = self._descriptors, []
        return message, descriptors

    async def expect[Expected: HandoverMessage](self, kind: type[Expected]) -> Expected:
        """Receive a message of *kind* that comes without descriptors.

        Raises:
            EOFError, OSError, ValueError: as `receive`; another message is a ValueError, too.
        """
        message, descriptors = await self.receive()
        close_all(descriptors)
        if not isinstance(message, kind):
            raise ValueError(f"{type(message).__name__} instead of {kind.__name__}")  # noqa: TRY004  (what was said, not a type)
        return message

    def close(self) -> None:
        """End it, and close the descriptors that nobody took; harmless when repeated."""
        close_all(self._descriptors)
        self._descriptors = []
        if self._socket.fileno() >= 0:
            forget(self._socket.fileno())
            self._socket.close()

    async def _take(self, size: int) -> bytearray:
        while len(self._received) < size:
            await anyio.wait_readable(self._socket)
            self._read()
        taken = self._received[:size]
        del self._received[:size]
        return taken

    def _read(self) -> None:
        room = socket.CMSG_SPACE(2 * BATCH * array.array("i").itemsize)
        close_on_exec = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
        try:
            data, ancillary, flags, _ = self._socket.recvmsg(_READ, room, close_on_exec)
        except BlockingIOError:
            return
        for level, kind, rights in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                descriptors = array.array("i")
                whole = len(rights) - len(rights) % descriptors.itemsize
                descriptors.frombytes(rights[:whole])
                for descriptor in descriptors:
                    keep_from_children(descriptor)
                self._descriptors += descriptors
        if flags & socket.MSG_CTRUNC:
            raise ValueError("this worker is short of descriptors")
        if not data:
            raise EOFError("the other side of the hand-over is gone")
        self._received += data


class Claims:
    """Whose each connection of a batch is: the kernel has an event for each; who takes it has it.

    It gives an event to one reader. So two workers that look at the same moment never both
    have a connection, and neither has to wait for the word of one that is stopped or dead.
    """

    def __init__(self, descriptors: Sequence[int]) -> None:
        """Take part by *descriptors*, one for each place, which are ours from here on."""
        self.descriptors = list(descriptors)

    @classmethod
    def of(cls, count: int) -> "Claims":
        """Nobody has claimed any of *count* connections yet.

        Raises:
            OSError: this worker is short of descriptors.
        """
        made = cls([])
        try:
            for _ in range(count):
                made.descriptors.append(os.eventfd(1, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
                keep_from_children(made.descriptors[-1])
        except OSError:
            made.close()
            raise
        return made

    def take(self, place: int) -> bool:
        """Claim the one at *place*; False: the other worker has it, or we have already."""
        try:
            os.eventfd_read(self.descriptors[place])
        except BlockingIOError:
            return False
        return True

    def rest(self) -> set[int]:
        """Claim whatever is left; their places."""
        return {place for place in range(len(self.descriptors)) if self.take(place)}

    def close(self) -> None:
        """Claim nothing any more; harmless when repeated."""
        close_all(self.descriptors)
        self.descriptors = []


def close_all(descriptors: Sequence[int]) -> None:
    """Close descriptors that nobody needs."""
    for descriptor in descriptors:
        forget(descriptor)
        with suppress(OSError):
            os.close(descriptor)


def socket_path(run_dir: Path, pid: int) -> Path:
    """Where the worker *pid* listens for connections that are handed to it."""
    return RunDirectory(run_dir).handover_path(pid)


async def reach(path: Path) -> HandoverChannel:
    """Begin a conversation with the worker that listens at *path*.

    Raises:
        OSError: nobody listens there, or nobody that may.
    """
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        peer.settimeout(0)
        peer.connect(str(path))
        channel = HandoverChannel(peer)
    except BaseException:
        peer.close()
        raise
    _refuse_strangers(channel)
    return channel


@asynccontextmanager
async def listening(path: Path) -> AsyncIterator[socket.socket]:
    """Listen at *path*, which may have been a dead worker's, until left.

    Raises:
        OSError: that is not possible.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.settimeout(0)
    keep_from_children(listener.fileno())
    try:
        with suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108  (one name of a local directory)
        listener.bind(str(path))
        listener.listen(BATCH)
        yield listener
    finally:
        forget(listener.fileno())
        listener.close()
        with suppress(OSError):
            os.unlink(path)  # noqa: PTH108  (the same)


async def accept(listener: socket.socket) -> HandoverChannel | None:
    """Wait for the next conversation; None: it was a stranger, or it is over already.

    Raises:
        OSError: this worker is short of descriptors.
    """
    await anyio.wait_readable(listener)
    try:
        peer, _ = listener.accept()
    except (BlockingIOError, ConnectionAbortedError):
        return None
    channel = HandoverChannel(peer)
    try:
        _refuse_strangers(channel)
    except OSError:
        return None
    return channel


def _refuse_strangers(channel: HandoverChannel) -> None:
    try:
        _, user = channel.peer
        if user != os.geteuid():
            raise PermissionError(f"user {user} has no part in this server")
    except OSError:
        channel.close()
        raise
