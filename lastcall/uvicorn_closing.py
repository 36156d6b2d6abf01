"""The end of a connection: the closing handshake, a client's mistakes, and signs of life."""

from typing import TYPE_CHECKING, ClassVar

from lastcall.uvicorn_reading import ANSWERS, PAUSED, SocketReader
from lastcall.websocket_codec import Closed, Event, Failed, Ping
from lastcall.websocket_frames import PING_FRAME, close_frame, pong_frame

if TYPE_CHECKING:
    from lastcall.uvicorn_endpoint import Endpoint
    from lastcall.uvicorn_shared import Shared

# Stages of a connection, in order.
HANDSHAKE = 0
OPEN = 1
FAILING = 2
"""The client broke the protocol; an ASGI endpoint still answers what came before that."""
CLOSING = 3
"""Our close frame is sent or waits behind other frames; the client's is awaited."""
CLOSED = 4
"""Nothing is read or written any more; what the loop still has leaves."""
GONE = 5

ABNORMAL = 1006
_KEEPALIVE_TIMEOUT = (1011, "keepalive ping timeout")


class SocketCloser(SocketReader):
    """Answers a client's close, or makes it answer ours; ends what breaks rules or falls silent."""

    __slots__ = ("_code", "_endpoint", "_host", "_pinged", "_stage", "_unsent", "due_step")

    handshake_timeout: ClassVar[float] = 60
    close_timeout: ClassVar[float] = 10

    def __init__(self, limit: int, host: "Shared") -> None:
        """Begin with the handshake."""
        super().__init__(limit)
        self.due_step = 0
        self._host = host
        self._stage = HANDSHAKE
        self._endpoint: Endpoint | None = None
        self._code = 0
        self._pinged = False
        self._unsent = 0
        """What the loop still had when the last sign of life was looked for."""

    def close(self, code: int, reason: str, *, discard: bool = False) -> None:
        """Close behind what was written; cut the connection if that takes longer than 10 s."""
        frame = close_frame(code, reason)
        if self._stage == FAILING:
            self._break_off(code, reason)
        if self._stage != OPEN:
            return
        self._stage, self._code = CLOSING, code
        self._refuse_frames()
        if discard:
            self._drop_queue()
        self._transmit(frame)
        self._host.deadlines.set(self, self.close_timeout)
        self._go_deaf()

    def abort(self) -> None:
        """Cut the connection now; its end is told soon, not inside this call."""
        if self._stage != GONE:
            self._stage, self._deaf, self._early = CLOSED, True, None
            super().abort()

    def eof_received(self) -> None:
        """The client is gone without a close frame, or answers our last one so."""
        self.caught_up()
        if self._stage in {OPEN, CLOSING}:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing can be sent or read any more; an error is the client's end, not ours."""
        super().connection_lost(exc)
        self._stage = GONE
        self._host.connections.discard(self)
        self._host.deadlines.clear(self)
        self._end(self._code or ABNORMAL)

    def due(self) -> None:
        """A deadline has come: of the handshake, of the close, or for a sign of life."""
        if self._stage == HANDSHAKE and self._endpoint is not None:
            self._endpoint.expire()
        elif self._stage == OPEN:
            self._keep_alive()
        elif self._stage == FAILING:
            self.caught_up()
        else:
            self.abort()

    def _keep_alive(self) -> None:
        host = self._host
        interval = host.ping_interval or 0
        unsent = self._tcp.get_write_buffer_size() if self._blocked else 0
        # That the client reads is a sign of life too; and while paused we could not hear it.
        alive = self._heard or unsent < self._unsent or self._stopped_by & PAUSED
        self._unsent, self._heard = unsent, False
        if alive:
            self._pinged = False
            host.deadlines.set(self, interval)
        elif self._pinged:
            self.close(*_KEEPALIVE_TIMEOUT, discard=True)
        else:
            if not self._blocked:  # a client that does not read needs no more to read
                self._transmit(PING_FRAME)
            self._pinged = host.ping_timeout is not None
            host.deadlines.set(self, interval if host.ping_timeout is None else host.ping_timeout)

    def _expect_life(self, within: float | None) -> None:
        if within is None:
            self._host.deadlines.clear(self)
        else:
            self._host.deadlines.set(self, within)

    # --- what the client says that is no message

    def _obey(self, event: Event) -> None:
        if self._stage > CLOSING:
            return
        if isinstance(event, Closed):
            self._answer_close(event)
        elif isinstance(event, Failed):
            self._fail(event)
        elif isinstance(event, Ping) and self._stage == OPEN:
            self._transmit(pong_frame(event.data))
            if self._blocked:
                self._stop_reading(ANSWERS)

    def _answer_close(self, closed: Closed) -> None:
        """Complete the closing handshake, whoever began it (RFC 6455, 5.5.1 and 7.1.1)."""
        if self._stage == OPEN:
            self._code = closed.code
            if self._endpoint is not None:
                self._endpoint.ended(closed.code, closed.reason)
            self._transmit_last(close_frame(closed.code))
        elif self._queue:
            self._transmit_last(self._queue[-1])  # our own close frame
        self._stage = CLOSED
        self._finish()
        self._end(self._code)

    def _fail(self, failed: Failed) -> None:
        if self._stage != OPEN:
            self.abort()
        elif self._endpoint is not None and self._endpoint.is_behind:
            # It runs later than we read: what was said before the mistake is still to be answered.
            self._stage, self._endpoint.mistake = FAILING, failed
            self._host.deadlines.set(self, self.close_timeout)
        else:
            self._break_off(failed.code, failed.reason)

    def caught_up(self) -> None:
        """The endpoint has answered all that came before a mistake, or had its time for it."""
        if self._stage == FAILING and self._endpoint and self._endpoint.mistake:
            self._break_off(self._endpoint.mistake.code, self._endpoint.mistake.reason)

    def _break_off(self, code: int, reason: str) -> None:
        """Tell the client what it did wrong, and listen to it no more (RFC 6455, 7.1.7)."""
        self._stage, self._code, self._deaf = CLOSED, code, True
        if self._endpoint is not None:
            self._endpoint.ended(code, reason)
        self._transmit_last(close_frame(code, reason))
        self._host.deadlines.set(self, self.close_timeout)
        if self._tcp.can_write_eof() and not self._tcp.is_closing():
            # A full close would reset what the client is still sending, and the reset could
            # overtake our close frame. So we end our half, and throw away what comes.
            self._tcp.write_eof()
        else:
            self._tcp.close()
        self._end(code)

    def _finish(self) -> None:
        """Let what is written leave, for a bounded time."""
        self._host.deadlines.set(self, self.close_timeout)
        self._tcp.close()

    def _end(self, code: int) -> None:
        self._endpoint = None
        super()._end(code)

    # --- what the write half asks

    def _overflow(self) -> None:
        if self._events is not None:
            self._events.overflowed()

    def _all_sent(self) -> None:
        if self._endpoint is not None:
            self._endpoint.drained()
        self._release(ANSWERS)
