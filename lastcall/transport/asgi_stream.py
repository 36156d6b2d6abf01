"""A response that stays open, over plain ASGI: the way to a client; the way back are its requests.

For what has no WebSocket: lines of a long HTTP response, or the events of an `EventSource`.
"""

from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, Protocol

import anyio

from lastcall.protocol.base import Message
from lastcall.transport.base import Frame, Framing, Frozen, Transport, TransportEvents

CLOSE_WAIT = 10.0
"""Seconds that a client has to read what is before the end."""
CHUNK = 65_536
"""Bytes that are given to the server at once; what waits behind them can still be dropped."""
CUT_WAIT = 1.0
"""Seconds until a server that has cut a connection says so; else it would log that we forgot to
finish the response."""
LEFT = 1005
"""How every stream ends that we did not end: a response has no code for who reads it."""

type AsgiMessage = MutableMapping[str, Any]
type Receive = Callable[[], Awaitable[AsgiMessage]]
type Send = Callable[[AsgiMessage], Awaitable[None]]


class StreamForm(Protocol):
    """How one client's stream looks."""

    framing: Framing
    opening: bytes
    """What comes before everything: some proxies wait for it."""

    awaits_outcome: bool
    """Whether nothing is sent before it is known whether the client may come in."""

    def render(self, frame: Frame, /) -> bytes:
        """A frame of `framing` as this client reads it."""
        ...

    def ending(self, code: int, reason: str) -> bytes:
        """The last words, which stand for a close code."""
        ...

    def refusal(self, code: int, reason: str) -> list[AsgiMessage] | None:
        """A whole response instead of a stream that would end before it said anything.

        None: it says why like all others.
        """
        ...


class AsgiStream:
    """One client that reads a response; `serve` lives as long as it does."""

    movable = False

    def __init__(
        self,
        form: StreamForm,
        events: TransportEvents,
        *,
        max_backlog: int,
        max_waiting: int,
        cut: Callable[[], object] = lambda: None,
    ) -> None:
        """Look like *form*, and tell *events*; at most *max_waiting* bytes wait to be received.

        *cut* ends the connection of a client that does not read, if the server has a way to.
        """
        self.framing = form.framing
        self._form = form
        self._events = events
        self._max_backlog = max_backlog
        self._max_waiting = max_waiting
        self._cut = cut
        self._queue: deque[bytes] = deque()
        self._backlog = 0
        self._end: tuple[int, str] | None = None
        self._overflowed = False
        self._has_work = anyio.Event()
        self._scope = anyio.CancelScope()
        self._is_paused = False
        self._is_receiving = False
        self._waiting: deque[Message] = deque()
        self._waiting_size = 0

    @property
    def backlog(self) -> int:
        """Bytes that the server has not taken."""
        return self._backlog

    def write(self, frame: Frame) -> None:
        """Queue *frame*."""
        if self._end is not None or self._overflowed:
            return
        data = self._form.render(frame)
        if self._backlog + len(data) > self._max_backlog:
            self._overflowed = True
            self._events.overflowed()
            return
        self._queue_up(data)

    def close(self, code: int, reason: str, *, discard: bool = False) -> None:
        """Queue the last words; from then on the client has `CLOSE_WAIT` to read up to them."""
        if self._end is not None:
            return
        self._end = code, reason
        self._waiting.clear()
        if discard:
            self._backlog -= sum(map(len, self._queue))
            self._queue.clear()
        self._has_work.set()
        self._scope.deadline = anyio.current_time() + CLOSE_WAIT

    def abort(self) -> None:
        """Leave the response unfinished, and drop what the server has not sent."""
        self._scope.cancel()

    def pause(self) -> None:
        """Let what the client says wait here."""
        self._is_paused = True

    def resume(self) -> None:
        """Receive again, what has waited first."""
        self._is_paused = False
        self._receive_waiting()

    def freeze(self) -> Frozen | None:
        """Never: the socket is the server's."""
        return None

    def take(self, message: Message) -> bool:
        """Receive what the client says, by a request of its own; False: too much waits already."""
        if self._end is not None:
            return True
        if self._waiting_size + len(message.data) > self._max_waiting:
            return False
        self._waiting.append(message)
        self._waiting_size += len(message.data)
        self._receive_waiting()
        return True

    async def serve(self, receive: Receive, send: Send, headers: list[tuple[bytes, bytes]]) -> None:
        """Write until the end; then `events.ended` has been called."""
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._until_left, receive, tasks.cancel_scope)
                    await self._write_all(send, headers)
                    tasks.cancel_scope.cancel()
            if self._scope.cancelled_caught:
                self._cut()
                with anyio.move_on_after(CUT_WAIT):
                    await self._until_left(receive, self._scope)
        finally:
            self._waiting.clear()
            self._events.ended(self._end[0] if self._end is not None else LEFT)

    async def _until_left(self, receive: Receive, scope: anyio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    async def _write_all(self, send: Send, headers: list[tuple[bytes, bytes]]) -> None:
        try:
            if self._form.awaits_outcome:
                await self._has_work.wait()
            if self._end is not None and not self._queue:
                instead = self._form.refusal(*self._end)
                for each in instead or ():
                    await send(each)
                if instead is not None:
                    return
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await self._write(send, self._form.opening)
            await self._write_queued(send)
        except OSError:
            return  # the client is gone; the server says so to `_until_left` as well

    async def _write_queued(self, send: Send) -> None:
        while True:
            while self._queue:
                chunk = self._next_chunk()
                await self._write(send, chunk)
                self._backlog -= len(chunk)
            if self._end is not None:
                await self._write(send, self._form.ending(*self._end), is_last=True)
                return
            await self._has_work.wait()
            self._has_work = anyio.Event()

    async def _write(self, send: Send, data: bytes, *, is_last: bool = False) -> None:
        if data or is_last:
            await send({"type": "http.response.body", "body": data, "more_body": not is_last})

    def _next_chunk(self) -> bytes:
        parts = [self._queue.popleft()]
        size = len(parts[0])
        while self._queue and size + len(self._queue[0]) <= CHUNK:
            parts.append(self._queue.popleft())
            size += len(parts[-1])
        return b"".join(parts)

    def _queue_up(self, data: bytes) -> None:
        self._backlog += len(data)
        self._queue.append(data)
        self._has_work.set()

    def _receive_waiting(self) -> None:
        # What is received may pause and resume us: the messages stay in line all the same.
        if self._is_receiving:
            return
        self._is_receiving = True
        try:
            while self._waiting and not self._is_paused:
                message = self._waiting.popleft()
                self._waiting_size -= len(message.data)
                self._events.received(message)
        finally:
            self._is_receiving = False


if TYPE_CHECKING:
    _: type[Transport] = AsgiStream
