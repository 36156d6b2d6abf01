"""One unix stream connection of the host bus, either side of it."""

import asyncio
import logging
import os
from typing import TYPE_CHECKING, cast

import msgspec

from lastcall.broker.bus_messages import FrameReader, FromSequencer, FromWorker, frame
from lastcall.forked_child import forget, keep_from_children
from lastcall.peer_credentials import peer_of

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

MAX_BACKLOG = 32 * 2**20
"""Bytes that wait for one peer; one that reads too slowly is cut, and catches up afterwards."""


class BusConnection[Incoming](asyncio.Protocol):
    """Messages in, messages out, one write a turn of the loop.

    *received* gets each message; *lost* is called once, when the connection is over. Garbage from
    the peer ends the connection and nothing else.
    """

    def __init__(
        self,
        decoder: msgspec.msgpack.Decoder[Incoming],
        received: "Callable[[BusConnection[Incoming], Incoming], None]",
        lost: "Callable[[BusConnection[Incoming]], None]",
    ) -> None:
        """Speak to whoever connects next."""
        self.peer_pid = 0
        self._decode = decoder.decode
        self._received = received
        self._lost = lost
        self._frames = FrameReader()
        self._outgoing: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._descriptor = -1
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Find out who it is; processes of other users are none of ours."""
        self._transport = cast("asyncio.Transport", transport)
        self._descriptor = transport.get_extra_info("socket").fileno()
        keep_from_children(self._descriptor)
        self.peer_pid, user = peer_of(self._descriptor)
        if user != os.geteuid():
            logger.warning("a process of user %d was turned away from the host bus", user)
            self.cut()

    def data_received(self, data: bytes) -> None:
        """Pass on what is complete."""
        try:
            for encoded in self._frames.feed(data):
                self._received(self, self._decode(encoded))
        except (ValueError, msgspec.MsgspecError) as error:
            logger.warning("process %d does not speak the host bus: %s", self.peer_pid, error)
            self.cut()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (asyncio's signature)
        """Say that it is over."""
        forget(self._descriptor)
        self._transport = None
        self._outgoing.clear()
        self._lost(self)

    def send(self, message: FromWorker | FromSequencer) -> None:
        """Send *message*."""
        self.send_frame(frame(message))

    def send_frame(self, encoded: bytes) -> None:
        """Send what `frame` made, after all that was sent before."""
        if self._transport is None:
            return
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append(encoded)

    def close(self) -> None:
        """End it after what was sent."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def cut(self) -> None:
        """End it now."""
        if self._transport is not None:
            self._transport.abort()

    def _flush(self) -> None:
        if self._transport is None or not self._outgoing:
            return
        self._transport.write(b"".join(self._outgoing))
        self._outgoing.clear()
        if self._transport.get_write_buffer_size() > MAX_BACKLOG:
            logger.warning("process %d reads the host bus too slowly", self.peer_pid)
            self.cut()
