"""The Centrifuge client protocol in Protocol Buffers: the same words as in JSON, other bytes.

Payloads are bytes here. Those that are JSON are what they would be in JSON; others are bytes to
clients of this protocol and `{"b64data":…}` to everybody who reads JSON.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET, Raw
from msgspec.structs import replace

from lastcall.broker.base import Publication
from lastcall.deltas import Deltas
from lastcall.errors import BadRequest, Disconnect, Refused
from lastcall.json_values import is_json
from lastcall.protocol.base import Command, Message, SessionProtocol
from lastcall.protocol.centrifuge import (
    METHODS,
    Call,
    ClientIdentity,
    Connect,
    History,
    Invalid,
    Join,
    Leave,
    Pong,
    Presence,
    PresenceStats,
    Publish,
    PublishBytes,
    Push,
    Refresh,
    Refreshed,
    RefreshResult,
    Reply,
    Request,
    Rpc,
    SendMessage,
    SubRefresh,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Unsubscribed,
    is_joins,
    told_by,
)
from lastcall.protocol.centrifuge_json import DELTA, CentrifugeJson
from lastcall.protocol.protobuf_schema import SUB_REFRESHED, decoded, encoded
from lastcall.protocol.protobuf_wire import (
    Value,
    WireError,
    bytes_field,
    delimited,
    fields_in,
    message_field,
    messages_in,
    number_field,
)

_ENCODER = msgspec.json.Encoder()
_ID, _ERROR, _PUSH, _PING = 1, 2, 4, 11
_REQUESTS: dict[int, type[Request]] = {
    4: Connect,
    5: Subscribe,
    6: Unsubscribe,
    7: PublishBytes,
    8: Presence,
    9: PresenceStats,
    10: History,
    13: Rpc,
    12: SendMessage,
    14: Refresh,
    15: SubRefresh,
}
"""By their fields in a command, in the order in which a command with several is read."""
_RESULTS = {
    "connect": 5,
    "subscribe": 6,
    "unsubscribe": 7,
    "publish": 8,
    "presence": 9,
    "presence_stats": 10,
    "history": 11,
    "rpc": 13,
    "refresh": 14,
    "sub_refresh": 15,
}
_PUSHES = {Join: 5, Leave: 6, Unsubscribed: 7, Subscribed: 9, Refreshed: 12}
_PUB, _MESSAGE, _DISCONNECT = 4, 8, 11


class _About(msgspec.Struct):
    """The members of a publication that stand beside its data."""

    info: ClientIdentity | None = None
    tags: dict[str, str] = {}
    delta: bool = False


class _Told(msgspec.Struct):
    join: Join | None = None
    leave: Leave | None = None


_ABOUT = msgspec.json.Decoder(_About)
_TOLD = msgspec.json.Decoder(_Told)


class CentrifugeProtobuf:
    """What the official SDKs speak where they are told to."""

    name = "centrifuge-protobuf"
    reconnects = True
    only_listens = False
    ping = Message(b"\0", binary=True)

    def __init__(
        self,
        shows_offsets: Callable[[str], bool] = lambda _: True,
        notice_channel: str = "",
        max_commands: int = 1000,
        deltas: Deltas | None = None,
    ) -> None:
        """Like `CentrifugeJson`."""
        self._deltas = deltas or Deltas()
        self._shows_offsets = shows_offsets
        self._notice_channel = notice_channel
        self._max_commands = max_commands
        self._json = CentrifugeJson()

    def decode(self, message: Message) -> Sequence[Command]:
        """The commands, up to the first that is not of this protocol."""
        commands: list[Command] = []
        try:
            if not message.binary or not message.data:
                raise ValueError("not of this protocol")  # noqa: TRY301  (ends like all of them)
            for each in messages_in(message.data):
                if len(commands) == self._max_commands:
                    return (Invalid(BadRequest()),)
                commands.append(_command(each))
        except ValueError:
            commands.append(Invalid(BadRequest()))
        return commands

    def publication(self, publication: Publication) -> Message:
        """Tell a client of *publication*."""
        channel = told_by(publication.channel)
        if is_joins(publication.channel):
            return _pushed(channel, b"".join(_joins(publication.data)))
        return _pushed(channel, message_field(_PUB, self.body(publication)))

    def body(self, publication: Publication) -> bytes:
        """The publication itself: JSON, text and bytes as they are."""
        parts = [bytes_field(4, publication.data)]
        about = _ABOUT.decode(b"{%b}" % publication.about)
        if about.info is not None:
            parts.append(message_field(5, encoded(about.info)))
        if publication.offset and self._shows_offsets(publication.channel):
            parts.append(number_field(6, publication.offset))
        for name, value in about.tags.items():
            entry = bytes_field(1, name.encode()) + bytes_field(2, value.encode())
            parts.append(message_field(7, entry))
        parts.append(number_field(8, about.delta))
        return b"".join(parts)

    def by_delta(self, publication: Publication, base: Publication | None) -> Publication:
        """The bytes of the data, or a delta to those of *base*."""
        data, about = publication.data, publication.about
        delta = self._deltas.between(base.data, data) if base is not None else None
        if delta is None:
            return publication
        about = b",".join([DELTA, about] if about else [DELTA])
        return replace(publication, data=delta, about=about)

    def reply(self, reply: Reply) -> Message:
        """Answer a command."""
        outcome = reply.outcome
        if isinstance(outcome, Refused):
            error = (
                number_field(1, outcome.code)
                + bytes_field(2, outcome.message.encode())
                + number_field(3, outcome.temporary)
            )
            return _reply(number_field(_ID, reply.id) + message_field(_ERROR, error))
        is_short = isinstance(outcome, RefreshResult) and reply.method == METHODS[SubRefresh]
        result = encoded(outcome, SUB_REFRESHED if is_short else None)
        return _reply(number_field(_ID, reply.id) + message_field(_RESULTS[reply.method], result))

    def push(self, push: Push) -> Message:
        """Tell a client what it did not ask for."""
        content = push.content
        if isinstance(content, Raw):
            return _pushed(push.channel, message_field(_PUB, bytes(content)))
        return _pushed(push.channel, message_field(_PUSHES[type(content)], encoded(content)))

    def notice(self, text: str) -> Sequence[Message]:
        """A message of the server, as JSON: `message` events of those SDKs that have them."""
        told = _ENCODER.encode(text)
        notices = [_pushed("", message_field(_MESSAGE, bytes_field(1, told)))]
        if self._notice_channel:
            body = message_field(_PUB, bytes_field(4, told))
            notices.append(_pushed(self._notice_channel, body))
        return notices

    def farewell(self, why: Disconnect) -> tuple[int, str]:
        """The protocol's own codes; a leaving server is 3001."""
        return self._json.farewell(why)

    def goodbye(self, code: int, reason: str) -> Message:
        """A push of its own."""
        told = number_field(1, code) + bytes_field(2, reason.encode())
        return _pushed("", message_field(_DISCONNECT, told))

    def refusal(self, why: Refused) -> Disconnect | None:  # noqa: ARG002  (whatever it is)
        """Clients end the connection themselves when they have read the error."""
        return None


def _command(message: bytes) -> Command:
    fields: dict[int, Value] = dict(fields_in(message))
    number = fields.get(_ID, 0)
    for field, kind in _REQUESTS.items():
        value = fields.get(field)
        if value is None:
            continue
        if not isinstance(value, bytes) or not isinstance(number, int):
            raise WireError("a number where there is none, or the other way round")
        if kind is SendMessage:
            return Call(0, decoded(value, kind))
        if not 0 < number < 2**32:
            raise ValueError("a command without an id")
        request = decoded(value, kind)
        return Call(number, _published(request) if isinstance(request, PublishBytes) else request)
    if number or _PING in fields:
        raise ValueError("no command that is known")
    return Pong()


def _published(request: PublishBytes) -> Request:
    if request.data and not is_json(request.data):
        return request
    return Publish(request.channel, Raw(request.data) if request.data else UNSET)


def _joins(data: bytes) -> Iterator[bytes]:
    told = _TOLD.decode(b"{%b}" % data)
    for each in (told.join, told.leave):
        if each is not None:
            yield message_field(_PUSHES[type(each)], encoded(each))


def _pushed(channel: str, content: bytes) -> Message:
    return _reply(message_field(_PUSH, bytes_field(2, channel.encode()) + content))


def _reply(message: bytes) -> Message:
    return Message(delimited(message), binary=True)


if TYPE_CHECKING:
    _: type[SessionProtocol] = CentrifugeProtobuf
