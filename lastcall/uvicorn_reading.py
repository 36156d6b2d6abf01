"""The read half of a connection: events from bytes, one at a time, and when to stop."""

import asyncio
from typing import TYPE_CHECKING

from lastcall.protocol.base import Message
from lastcall.uvicorn_writing import SocketWriter
from lastcall.websocket_codec import Event, Failed, FrameReader
from lastcall.websocket_frames import TOO_BIG

if TYPE_CHECKING:
    from collections import deque

    from lastcall.transport.base import TransportEvents

# Why events are not taken from the client's bytes.
UNANSWERED = 1  # the handshake
PAUSED = 2  # whoever receives asked for it
ANSWERS = 4  # pongs wait; a client that sends pings and never reads would fill our memory
EARLY = 8  # what came before the detach is delivered first

_READ_AHEAD = 65_536


class SocketReader(SocketWriter):
    """Delivers messages to `_events`, unless something stops it.

    What is not delivered stays bytes, undecoded: bounded, and ready to be handed over.
    """

    __slots__ = ("_deaf", "_early", "_events", "_heard", "_reader", "_reading", "_stopped_by")

    def __init__(self, limit: int) -> None:
        """Deliver nothing until the handshake is answered."""
        super().__init__()
        self._reader = FrameReader(limit)
        self._events: TransportEvents | None = None
        self._stopped_by = UNANSWERED
        self._reading = True
        """Whether the loop reads from the socket."""
        self._deaf = False
        """Whether messages are dropped, because only the end is awaited."""
        self._heard = False
        """Whether the client gave a sign of life since somebody asked."""
        self._early: deque[Message] | None = None
        """What an ASGI endpoint had not received when it detached."""

    def pause(self) -> None:
        """Deliver nothing more; the client then waits in its own kernel."""
        if not self._deaf:
            self._stop_reading(PAUSED)

    def resume(self) -> None:
        """Deliver and read again, soon."""
        if self._early is not None and self._stopped_by & PAUSED:
            asyncio.get_running_loop().call_soon(self._deliver_early)
        self._release(PAUSED)

    # --- for the layers above

    def _obey(self, event: Event) -> None:
        """Do what a client's event that is no message asks for."""
        raise NotImplementedError

    def _take(self, data: bytes) -> None:
        self._heard = True
        self._reader.feed(data)
        if not self._stopped_by:
            self._read()
        elif self._reader.unread > _READ_AHEAD:
            self._stop_reading(0)

    def _read(self) -> None:
        reader = self._reader
        while not self._stopped_by and (event := reader.next_event()) is not None:
            if type(event) is not Message:
                self._obey(event)
            elif self._events is not None and not self._deaf:
                self._events.received(event)

    def _go_deaf(self) -> None:
        """Read on for the client's close frame only, whatever comes before it."""
        self._deaf, self._early = True, None
        self._release(self._stopped_by)

    def _stop_reading(self, why: int) -> None:
        self._stopped_by |= why
        if self._reading and not self._tcp.is_closing():
            self._reading = False
            self._tcp.pause_reading()

    def _release(self, why: int) -> None:
        """Some reasons to stop are gone; go on, soon, if they were the last."""
        before, self._stopped_by = self._stopped_by, self._stopped_by & ~why
        if not before or self._stopped_by or self._tcp.is_closing():
            return
        if self._reader.unread:
            asyncio.get_running_loop().call_soon(self._read)
        if not self._reading:
            self._reading = True
            self._tcp.resume_reading()

    def _deliver_early(self) -> None:
        while self._early and not self._stopped_by & PAUSED:
            message = self._early.popleft()
            if len(message.data) > self._reader.limit:
                self._early = None  # what follows a mistake is not looked at
                self._obey(Failed(TOO_BIG, "message too big"))
            elif self._events is not None:
                self._events.received(message)
        if not self._early:
            self._early = None
            self._release(EARLY)

    def _end(self, code: int) -> None:
        """Tell whoever receives that nothing more comes; once."""
        events, self._events = self._events, None
        early, self._early = self._early, None
        if events is not None:
            for message in early or ():
                events.received(message)
            events.ended(code)
