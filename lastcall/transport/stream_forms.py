"""How streams look: lines or bytes, events, and events by whose ids a reader can come back."""

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import msgspec

from lastcall.broker.base import StreamPosition
from lastcall.event_ids import event_id
from lastcall.protocol.base import Message, Positioned, SessionProtocol
from lastcall.transport.asgi_stream import AsgiMessage, StreamForm
from lastcall.transport.base import Frame, Framing

LOST_RETRY = 1000, 3000
"""Milliseconds after which a reader comes back that lost us; spread, because all of them may."""
SHUTDOWN_RETRY = 1000, 5000
"""The same for those who were told that the server leaves."""

STATUSES = {3005: 401, 3500: 401, 3507: 403}
"""What some codes are as a status; others that mean "stay away" are 400."""


class LineFraming:
    """Each message on a line of its own."""

    name = "http_stream"

    def frame(self, messages: Sequence[Message]) -> bytes:
        """The lines of *messages*."""
        return b"".join([b"%b\n" % message.data for message in messages])


class EventFraming:
    """Each message as an event (HTML, "Server-sent events"); messages have no line breaks."""

    name = "sse"

    def frame(self, messages: Sequence[Message]) -> bytes:
        """The events of *messages*."""
        return b"".join([b"data: %b\n\n" % message.data for message in messages])


class BytesFraming:
    """Messages one after the other: those of Protobuf say themselves how long they are."""

    name = "http_stream"

    def frame(self, messages: Sequence[Message]) -> bytes:
        """The bytes of *messages*."""
        return b"".join([message.data for message in messages])


class MessagesFraming:
    """Leaves the rest to the client's own form: a frame is the messages themselves."""

    name = "sse"

    def frame(self, messages: Sequence[Message]) -> tuple[Message, ...]:
        """The messages, in order."""
        return tuple(messages)


LINES = LineFraming()
BYTES = BytesFraming()
EVENTS = EventFraming()
MESSAGES = MessagesFraming()


class PlainForm:
    """What all clients of a framing read alike."""

    awaits_outcome = False

    def __init__(self, protocol: SessionProtocol, framing: Framing, opening: bytes = b"") -> None:
        """End in the words of *protocol*."""
        self.framing = framing
        self.opening = opening
        self._protocol = protocol

    def render(self, frame: Frame) -> bytes:
        """As it is."""
        return cast("bytes", frame)  # made by our own framing

    def ending(self, code: int, reason: str) -> bytes:
        """What the protocol says where there is no close code."""
        return cast("bytes", self.framing.frame([self._protocol.goodbye(code, reason)]))

    def refusal(self, code: int, reason: str) -> list[AsgiMessage] | None:  # noqa: ARG002  (none)
        """Never: the SDKs read the end from the stream."""
        return None


class EventSourceForm:
    """What a browser's own `EventSource` reads: it comes back by itself and says how far it came.

    It stays away after a status, and for no other reason. So a connect that is refused for good is
    a status, and everything else is an event that tells it when to come back.
    """

    framing: Framing = MESSAGES
    awaits_outcome = True

    def __init__(self, protocol: SessionProtocol) -> None:
        """Stand nowhere yet."""
        self._protocol = protocol
        self._positions: dict[str, StreamPosition] = {}
        self.opening = _retry(LOST_RETRY) + b"\n"

    def render(self, frame: Frame) -> bytes:
        """The messages as events, with an id wherever the client has come further."""
        messages = cast("tuple[Message, ...]", frame)  # made by our own framing
        return b"".join([self._event(message) for message in messages])

    def ending(self, code: int, reason: str) -> bytes:
        """The protocol's words, and when to come back."""
        goodbye = self._protocol.goodbye(code, reason)
        return _retry(SHUTDOWN_RETRY) + b"data: %b\n\n" % goodbye.data

    def refusal(self, code: int, reason: str) -> list[AsgiMessage] | None:
        """A status for who shall not come back as it is."""
        is_for_good = 3500 <= code < 4000 or 4500 <= code < 5000  # noqa: PLR2004  (see `Disconnect`)
        if not is_for_good and code not in STATUSES:
            return None
        body = msgspec.json.encode({"code": code, "reason": reason})
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
        ]
        status = STATUSES.get(code, 400)
        return [
            {"type": "http.response.start", "status": status, "headers": headers},
            {"type": "http.response.body", "body": body},
        ]

    def _event(self, message: Message) -> bytes:
        if isinstance(message, Positioned) and self._go_on(message):
            return b"id: %b\ndata: %b\n\n" % (event_id(self._positions), message.data)
        return b"data: %b\n\n" % message.data

    def _go_on(self, message: Positioned) -> bool:
        has_moved = False
        for channel, offset, epoch in message.moves:
            known = self._positions.get(channel)
            if offset is None:
                has_moved |= self._positions.pop(channel, None) is not None
            elif known is not None or message.begins:
                epoch = epoch or (known.epoch if known is not None else "")  # noqa: PLW2901
                self._positions[channel] = StreamPosition(offset, epoch)
                has_moved = True
        return has_moved


def _retry(milliseconds: tuple[int, int]) -> bytes:
    return b"retry: %d\n" % random.randint(*milliseconds)  # noqa: S311  (no secret)


if TYPE_CHECKING:
    _: tuple[type[StreamForm], type[StreamForm]] = (PlainForm, EventSourceForm)
    __: tuple[type[Framing], ...] = (LineFraming, BytesFraming, EventFraming, MessagesFraming)
