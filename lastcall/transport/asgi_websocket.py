"""WebSocket over plain ASGI: works on every server, at the price of two tasks a connection."""

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import anyio
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from lastcall.errors import Disconnect, InvalidUtf8, MessageTooBig
from lastcall.protocol.base import Message
from lastcall.transport.base import Frame, Framing, Frozen, Transport, TransportEvents

CLOSE_WAIT = 10.0
"""Seconds that a client has to answer a close, or to read what is before it."""

logger = logging.getLogger(__name__)


class MessageFraming:
    """Leaves the framing to the server: a frame is the messages themselves."""

    name = "asgi"

    def frame(self, messages: Sequence[Message]) -> Frame:
        """The messages, in order."""
        return tuple(messages)


MESSAGES = MessageFraming()


@dataclass(frozen=True, slots=True)
class _Close:
    code: int
    reason: str


class AsgiWebSocket:
    """One accepted WebSocket; `serve` lives as long as it does."""

    framing: Framing = MESSAGES
    movable = False

    def __init__(
        self,
        websocket: WebSocket,
        events: TransportEvents,
        *,
        max_backlog: int,
        max_message_size: int,
    ) -> None:
        """Write to *websocket*, of which nobody else makes use any more, and tell *events*."""
        self._websocket = websocket
        self._events = events
        self._max_backlog = max_backlog
        self._max_message_size = max_message_size
        self._queue: deque[Message | _Close] = deque()
        self._backlog = 0
        self._close_code: int | None = None
        self._overflowed = False
        self._has_work = anyio.Event()
        self._may_read = anyio.Event()
        self._may_read.set()
        self._scope = anyio.CancelScope()

    @property
    def backlog(self) -> int:
        """Bytes that the server has not taken."""
        return self._backlog

    def write(self, frame: Frame) -> None:
        """Queue the messages of *frame*."""
        if self._close_code is not None or self._overflowed:
            return
        messages = cast("tuple[Message, ...]", frame)  # made by our own framing
        size = sum(len(message.data) for message in messages)
        if self._backlog + size > self._max_backlog:
            self._overflowed = True
            self._events.overflowed()
            return
        self._backlog += size
        self._queue.extend(messages)
        self._has_work.set()

    def close(self, code: int, reason: str, *, discard: bool = False) -> None:
        """Queue the close; from then on the client has `CLOSE_WAIT` to let go."""
        if self._close_code is not None:
            return
        self._close_code = code
        if discard:
            self._queue.clear()
            self._backlog = 0
        self._queue.append(_Close(code, reason))
        self._has_work.set()
        self._may_read.set()
        self._scope.deadline = anyio.current_time() + CLOSE_WAIT

    def abort(self) -> None:
        """Leave the endpoint; the server cuts what it has not sent."""
        self._scope.cancel()

    def pause(self) -> None:
        """Take nothing more from the server, which then stops reading."""
        if self._close_code is None:
            self._may_read = anyio.Event()

    def resume(self) -> None:
        """Read again."""
        self._may_read.set()

    def freeze(self) -> Frozen | None:
        """Never: the socket is the server's."""
        return None

    async def serve(self) -> None:
        """Read and write until the connection's end; then `events.ended` has been called."""
        code = 1006
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._write_queued)
                    code = await self._read()
                    tasks.cancel_scope.cancel()
        finally:
            self._events.ended(self._close_code or code)

    async def _write_queued(self) -> None:
        while True:
            while self._queue:
                item = self._queue.popleft()
                try:
                    await self._send(item)
                except (WebSocketDisconnect, RuntimeError, OSError):
                    # The client is gone; the reader is told so by the server.
                    return
            await self._has_work.wait()
            self._has_work = anyio.Event()

    async def _send(self, item: Message | _Close) -> None:
        if isinstance(item, _Close):
            if self._websocket.client_state is not WebSocketState.DISCONNECTED:
                await self._websocket.close(item.code, item.reason)
            return
        if item.binary:
            await self._websocket.send_bytes(item.data)
        else:
            await self._websocket.send_text(item.data.decode())
        self._backlog = max(0, self._backlog - len(item.data))

    async def _read(self) -> int:
        while True:
            await self._may_read.wait()
            event = await self._websocket.receive()
            if event["type"] == "websocket.disconnect":
                return int(event.get("code") or 1005)
            if self._close_code is not None:
                continue
            try:
                self._events.received(self._message(event.get("text"), event.get("bytes")))
            except Disconnect as why:
                self.close(why.code, why.reason)

    def _message(self, text: str | None, data: bytes | None) -> Message:
        try:
            message = Message(data or b"", binary=True) if text is None else Message(text.encode())
        except UnicodeEncodeError as error:
            raise InvalidUtf8 from error
        if len(message.data) > self._max_message_size:
            raise MessageTooBig
        return message


if TYPE_CHECKING:
    _: type[Transport] = AsgiWebSocket
