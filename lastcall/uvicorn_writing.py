"""The write half of a connection: straight to the socket, and a bounded queue behind it.

Apart from `UvicornWebSocket` only so that each can be read in one go; together they are one
object, because two would cost every idle connection another hundred bytes and every write a call.
"""

import asyncio
import os
import sys
from collections import deque
from typing import Any, cast

from uvicorn.protocols.utils import is_ssl

from lastcall.forked_child import keep_from_children

_AT_ONCE = 65_536
_OUT_OF_REACH = -1


class SocketWriter(asyncio.Protocol):
    """Writes whole frames in order, and never waits.

    Three places a byte can be: the kernel has it; the loop has the rest of one write that the
    kernel did not take whole (`_tail`); or it stands in `_queue`, which is ours to bound, to
    drop by whole frames, and to hand over. The loop gets nothing while it still has something.
    """

    __slots__ = (
        "_accepts",
        "_backlog_limit",
        "_blocked",
        "_fd",
        "_queue",
        "_queued",
        "_ready",
        "_tail",
        "_tcp",
        "movable",
    )

    def __init__(self) -> None:
        """Wait for `connection_made`, then for `_accept_frames`."""
        self._tcp: asyncio.Transport = cast("asyncio.Transport", None)
        self._fd = _OUT_OF_REACH
        self._accepts = False
        """Whether `write` may still be called."""
        self._ready = False
        """Whether a frame may go to the socket at once: accepted, and nothing is before it."""
        self._blocked = False
        self._tail: bytes | None = None
        self._queue: deque[bytes] | None = None
        self._queued = 0
        self._backlog_limit = sys.maxsize
        self.movable = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection over from uvicorn's HTTP class."""
        self._tcp = cast("asyncio.Transport", transport)
        self._set_up_writing()

    def _set_up_writing(self) -> None:
        tcp = self._tcp
        self.movable = not is_ssl(tcp)
        # The loop keeps no more than the rest of one write. (At 0 TLS would never be writable.)
        tcp.set_write_buffer_limits(high=0 if self.movable else 1, low=0)
        # An earlier response of this connection may still be on its way: overtake nothing.
        self._blocked = tcp.get_write_buffer_size() > 0
        if self.movable and sys.platform != "win32":
            self._fd = tcp.get_extra_info("socket").fileno()

    @property
    def backlog(self) -> int:
        """Bytes that were written here and that the kernel has not taken."""
        return self._queued + (self._tcp.get_write_buffer_size() if self._blocked else 0)

    def write(self, frame: Any, /) -> None:
        """Send *frame*, as a framing of `transport.framing` made it: one system call, if it can.

        That call is all that fan-out costs for a client that keeps up.
        """
        if self._ready:
            try:
                sent = os.write(self._fd, frame)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.abort()
                return
            if sent != len(frame):
                self._give_to_loop(frame[sent:])
        elif self._accepts:
            self._write_later(frame)

    def abort(self) -> None:
        """Cut the connection now; its end is told soon, not inside this call."""
        self._refuse_frames()
        self._drop_queue()
        self._tcp.abort()

    def pause_writing(self) -> None:
        """The loop could not send all that it was given."""
        self._blocked, self._ready = True, False

    def resume_writing(self) -> None:
        """It has now; go on with the queue."""
        self._blocked, self._tail = False, None
        while self._queue and not self._blocked:
            self._send(self._next_frames())
        if not self._blocked:
            self._queue = None
            self._ready = self._accepts and self._fd >= 0
            self._all_sent()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (asyncio's signature)
        """The descriptor may soon be another connection's: never touch it again."""
        self._refuse_frames()
        self._drop_queue()
        self._fd, self._blocked, self._tail = _OUT_OF_REACH, False, None

    # --- for the layers above

    def _overflow(self) -> None:
        """The backlog passed its limit; nothing more is accepted."""
        raise NotImplementedError

    def _all_sent(self) -> None:
        """The client has caught up."""
        raise NotImplementedError

    def _accept_frames(self) -> None:
        self._accepts = True
        self._ready = self._fd >= 0 and not self._blocked and not self._queue

    def _refuse_frames(self) -> None:
        self._accepts = self._ready = False

    def _transmit(self, data: bytes) -> None:
        """Send what is not a message behind everything that waits, whatever the limit."""
        if self._blocked or self._queue:
            self._enqueue(data)
        else:
            self._send(data)

    def _transmit_first(self, data: bytes) -> None:
        """Send *data* before the queue, but behind the rest of what was begun."""
        if self._blocked:
            self._tail = None if self._tail is None else self._tail + data
            self._tcp.write(data)
        else:
            self._send(data)

    def _transmit_last(self, data: bytes) -> None:
        """Send *data* and then nothing more; what no byte was sent of is dropped."""
        self._refuse_frames()
        self._drop_queue()
        self._transmit_first(data)

    def _not_sent(self) -> list[bytes] | None:
        """The rest of a write that was begun (or nothing), then the frames of the queue.

        None while the loop has bytes that were written before we came.
        """
        size = self._tcp.get_write_buffer_size()
        tail = self._tail or b""
        if size > len(tail):
            return None
        return [tail[len(tail) - size :], *(self._queue or ())]

    def _put_back(self, unsent: list[bytes]) -> None:
        """Go on where `_not_sent` was taken from another connection."""
        rest, *queue = unsent
        if queue:
            self._queue, self._queued = deque(queue), sum(map(len, queue))
        self._accepts = True
        if rest:
            self._send(rest)
        if not self._blocked:
            self.resume_writing()

    def _let_go(self) -> int:
        """Leave the client alone; it sees neither an end nor a reset as long as somebody has it.

        Returns a duplicate of its socket; our own is closed, and never shut down.
        """
        descriptor = os.dup(self._fd)
        keep_from_children(descriptor)
        self._refuse_frames()
        self._drop_queue()
        self._fd, self._blocked, self._tail = _OUT_OF_REACH, False, None
        self._tcp.set_protocol(asyncio.Protocol())
        self._tcp.abort()
        return descriptor

    def _drop_queue(self) -> None:
        self._queue, self._queued = None, 0

    def _write_later(self, frame: bytes) -> None:
        if not self._blocked and not self._queue:
            self._give_to_loop(frame)  # TLS, or a loop whose sockets we cannot write to
        elif self.backlog + len(frame) > self._backlog_limit:
            self._refuse_frames()
            self._overflow()
        else:
            self._enqueue(frame)

    def _enqueue(self, frame: bytes) -> None:
        if self._queue is None:
            self._queue = deque()
        self._queue.append(frame)
        self._queued += len(frame)

    def _next_frames(self) -> bytes:
        """Whole frames from the queue's front: one at least, else what one write may well hold."""
        queue = cast("deque[bytes]", self._queue)
        frames, size = [queue.popleft()], 0
        while queue and (size := size + len(frames[-1])) + len(queue[0]) <= _AT_ONCE:
            frames.append(queue.popleft())
        data = b"".join(frames)
        self._queued -= len(data)
        return data

    def _send(self, data: bytes) -> None:
        """Send *data*, when nothing is before it."""
        sent = 0
        if self._fd >= 0:
            try:
                sent = os.write(self._fd, data)
            except BlockingIOError:
                pass
            except OSError:
                self.abort()
                return
        if sent != len(data):
            self._give_to_loop(data[sent:])

    def _give_to_loop(self, rest: bytes) -> None:
        """Let the loop send *rest* when it can; it calls `pause_writing` if that is not now."""
        self._tail = rest
        self._tcp.write(rest)
        if not self._blocked:
            self._tail = None
