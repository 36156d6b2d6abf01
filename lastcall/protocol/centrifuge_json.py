"""The Centrifuge client protocol in JSON: lines in, lines out.

Framing, malformed input and the traps of the SDKs follow the reference server (Centrifugo 6).
"""

from base64 import b64encode
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType
from msgspec.structs import replace

from lastcall.broker.base import Kind, Publication
from lastcall.deltas import Deltas
from lastcall.errors import BadRequest, Disconnect, Refused, ServerShutdown, WorkerFailed
from lastcall.protocol.base import Command, Message, SessionProtocol
from lastcall.protocol.centrifuge import (
    METHODS,
    PUSHES,
    Call,
    Connect,
    History,
    Invalid,
    Pong,
    Presence,
    PresenceStats,
    Push,
    Reply,
    Rpc,
    SendMessage,
    SubRefresh,
    Subscribe,
    Unsubscribe,
    is_joins,
    told_by,
)
from lastcall.protocol.centrifuge import Publish as PublishRequest
from lastcall.protocol.centrifuge import Refresh as RefreshRequest

DELTA = b'"delta":true'
"""The member of a publication that says that its data is a delta."""

SHUTDOWN = 3001
"""What the SDKs know as "the server goes away, come back": 1012 in other protocols."""


class _Line(msgspec.Struct):
    """One object as it comes; a request that is `null` is not one."""

    id: Annotated[int, Meta(ge=0, lt=2**32)] = 0
    connect: Connect | UnsetType = UNSET
    subscribe: Subscribe | UnsetType = UNSET
    unsubscribe: Unsubscribe | UnsetType = UNSET
    publish: PublishRequest | UnsetType = UNSET
    presence: Presence | UnsetType = UNSET
    presence_stats: PresenceStats | UnsetType = UNSET
    history: History | UnsetType = UNSET
    rpc: Rpc | UnsetType = UNSET
    send: SendMessage | UnsetType = UNSET
    refresh: RefreshRequest | UnsetType = UNSET
    sub_refresh: SubRefresh | UnsetType = UNSET
    ping: Raw | UnsetType = UNSET


class _End(msgspec.Struct):
    code: int
    reason: str


_DECODER = msgspec.json.Decoder(_Line)
_ENCODER = msgspec.json.Encoder()
_NAMES = tuple(dict.fromkeys(METHODS.values()))


class CentrifugeJson:
    """What the official SDKs speak by default."""

    name = "centrifuge-json"
    reconnects = True
    ping = Message(b"{}")
    only_listens = False

    def __init__(
        self,
        shows_offsets: Callable[[str], bool] = lambda _: True,
        notice_channel: str = "",
        max_commands: int = 1000,
        deltas: Deltas | None = None,
    ) -> None:
        """Name offsets where *shows_offsets* (by channel): elsewhere no client can use them.

        Notices are publications of *notice_channel*, too, if there is one. A message may hold
        *max_commands*. *deltas* may be shared with other protocols.
        """
        self._deltas = deltas or Deltas()
        self._max_commands = max_commands
        self._shows_offsets = shows_offsets
        self._notice_channel = notice_channel

    def decode(self, message: Message) -> Sequence[Command]:
        """One command for each line, up to the first that is not of this protocol."""
        lines = message.data.removesuffix(b"\n").split(b"\n", self._max_commands)
        if len(lines) > self._max_commands:
            return (Invalid(BadRequest()),)
        commands: list[Command] = []
        if message.binary and not _is_utf8(message.data):
            # Payloads are not looked into: they would go to other clients as text that is none.
            return (Invalid(BadRequest()),)
        for line in lines:
            try:
                commands.append(_command(_DECODER.decode(line)))
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
                commands.append(Invalid(BadRequest()))
                break
        return commands

    def publication(self, publication: Publication) -> Message:
        """Tell a client of *publication*."""
        channel = _ENCODER.encode(told_by(publication.channel))
        if is_joins(publication.channel):
            return Message(b'{"push":{"channel":%b,%b}}' % (channel, publication.data))
        body = self.body(publication)
        return Message(b'{"push":{"channel":%b,"pub":%b}}' % (channel, body))

    def body(self, publication: Publication) -> bytes:
        """The publication itself, as it also stands in a history."""
        parts = [b'{"data":', as_json(publication)]
        if publication.offset and self._shows_offsets(publication.channel):
            parts.append(b',"offset":%d' % publication.offset)
        if publication.about:
            parts += b",", publication.about
        parts.append(b"}")
        return b"".join(parts)

    def by_delta(self, publication: Publication, base: Publication | None) -> Publication:
        """Data is a string: JSON text, or a delta to the text of *base*."""
        text, about = as_json(publication), publication.about
        delta = self._deltas.between(as_json(base), text) if base is not None else None
        if delta is not None:
            about = b",".join([DELTA, about] if about else [DELTA])
        data = _ENCODER.encode((text if delta is None else delta).decode())
        return replace(publication, data=data, kind=Kind.JSON, about=about)

    def reply(self, reply: Reply) -> Message:
        """Answer a command."""
        outcome = reply.outcome
        if isinstance(outcome, Refused):
            error: dict[str, object] = {"code": outcome.code, "message": outcome.message}
            if outcome.temporary:
                error["temporary"] = True
            return Message(b'{"id":%d,"error":%b}' % (reply.id, _ENCODER.encode(error)))
        result = _ENCODER.encode(outcome)
        return Message(b'{"id":%d,"%b":%b}' % (reply.id, reply.method.encode(), result))

    def push(self, push: Push) -> Message:
        """Tell a client what it did not ask for."""
        kind = PUSHES[type(push.content)].encode()
        content = _ENCODER.encode(push.content)
        if not push.channel:
            return Message(b'{"push":{"%b":%b}}' % (kind, content))
        channel = _ENCODER.encode(push.channel)
        return Message(b'{"push":{"channel":%b,"%b":%b}}' % (channel, kind, content))

    def notice(self, text: str) -> Sequence[Message]:
        """A message of the server: `message` events of those SDKs that have them."""
        told = _ENCODER.encode(text)
        notices = [Message(b'{"push":{"message":{"data":%b}}}' % told)]
        if self._notice_channel:
            channel = _ENCODER.encode(self._notice_channel)
            notices.append(Message(b'{"push":{"channel":%b,"pub":{"data":%b}}}' % (channel, told)))
        return notices

    def farewell(self, why: Disconnect) -> tuple[int, str]:
        """The protocol's own codes; a leaving server is 3001."""
        if isinstance(why, ServerShutdown | WorkerFailed):
            return SHUTDOWN, "shutdown"
        return why.code, why.reason

    def goodbye(self, code: int, reason: str) -> Message:
        """A push of its own."""
        return Message(b'{"push":{"disconnect":%b}}' % _ENCODER.encode(_End(code, reason)))

    def refusal(self, why: Refused) -> Disconnect | None:  # noqa: ARG002  (whatever it is)
        """Clients end the connection themselves when they have read the error."""
        return None


def _command(line: _Line) -> Command:
    for name in _NAMES:
        request = getattr(line, name)
        if request is not UNSET:
            if name == "send":
                return Call(0, request)
            if line.id == 0:
                raise ValueError("a command without an id")
            return Call(line.id, request)
    if line.id or line.ping is not UNSET:
        raise ValueError("no command that is known")
    return Pong()


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def as_json(publication: Publication) -> bytes:
    """The data of *publication* as one JSON value; bytes are an object with `b64data`."""
    if publication.kind is Kind.JSON:
        return publication.data
    if publication.kind is Kind.TEXT:
        return _ENCODER.encode(publication.data.decode())
    return bytes_as_json(publication.data)


def bytes_as_json(data: bytes) -> bytes:
    """Bytes that are no JSON, for those who read nothing else."""
    return b'{"b64data":"%b"}' % b64encode(data)


def in_one_line(value: Raw) -> bytes:
    """A JSON value without line breaks: they would end it in the middle."""
    data = bytes(value)
    return msgspec.json.format(data, indent=-1) if b"\n" in data or b"\r" in data else data


if TYPE_CHECKING:
    _: type[SessionProtocol] = CentrifugeJson
