"""The Centrifuge client protocol for clients that only listen: pushes without an envelope.

A client says once who it is and what it wants to hear: the fields of `connect`, bare. It is never
asked for a pong, and what it missed comes with the answer.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw

from lastcall.broker.base import Publication
from lastcall.errors import (
    BadRequest,
    ConnectionExpired,
    Disconnect,
    Overloaded,
    PermissionDenied,
    Refused,
    ServerError,
)
from lastcall.protocol.base import Command, Message, Positioned, SessionProtocol
from lastcall.protocol.centrifuge import (
    PUSHES,
    Call,
    Connect,
    ConnectResult,
    Invalid,
    Push,
    Reply,
    Subscribed,
    SubscribeResult,
    Unsubscribed,
    is_joins,
    told_by,
)
from lastcall.protocol.centrifuge_json import CentrifugeJson

_REFUSALS: dict[int, type[Disconnect]] = {
    103: PermissionDenied,
    109: ConnectionExpired,
    110: ConnectionExpired,
    111: Overloaded,
}
"""How a refused `connect` ends; anything else is 3004."""


class _Place(msgspec.Struct, frozen=True):
    offset: int = 0


_CONNECT = msgspec.json.Decoder(Connect)
_PLACE = msgspec.json.Decoder(_Place)
_ENCODER = msgspec.json.Encoder()


class CentrifugeUni(CentrifugeJson):
    """What a bare `EventSource` reads, or anything else that reads lines of JSON."""

    name = "centrifuge-uni"
    only_listens = True

    def decode(self, message: Message) -> Sequence[Command]:
        """The one thing that such a client says."""
        try:
            return [Call(1, _CONNECT.decode(message.data or b"{}"))]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
            return [Invalid(BadRequest())]

    def publication(self, publication: Publication) -> Message:
        """Tell a client of *publication*."""
        channel = _ENCODER.encode(told_by(publication.channel))
        if is_joins(publication.channel):
            return Message(b'{"channel":%b,%b}' % (channel, publication.data))
        data = b'{"channel":%b,"pub":%b}' % (channel, self.body(publication))
        if not publication.offset:
            return Message(data)
        return Positioned(
            data, moves=((publication.channel, publication.offset, publication.epoch),)
        )

    def reply(self, reply: Reply) -> Message:
        """Answer `connect`: where the client stands when it has read all that it missed."""
        result = reply.outcome
        if isinstance(result, Refused):
            return self.goodbye(*self.farewell(_refusal(result)))
        assert isinstance(result, ConnectResult)  # noqa: S101  (there is no other command)
        return Positioned(
            b'{"connect":%b}' % _ENCODER.encode(result),
            moves=tuple(
                (channel, _reached(each), each.epoch)
                for channel, each in result.subs.items()
                if each.recoverable
            ),
            begins=True,
        )

    def push(self, push: Push) -> Message:
        """Tell a client what the server does, beside publications of the moment."""
        content, channel = push.content, push.channel
        named = b'"channel":%b,' % _ENCODER.encode(channel) if channel else b""
        kind = PUSHES[type(content)].encode()
        data = b'{%b"%b":%b}' % (named, kind, _ENCODER.encode(content))
        match content:
            case Subscribed(recoverable=True):
                return Positioned(
                    data, moves=((channel, content.offset, content.epoch),), begins=True
                )
            case Unsubscribed():
                return Positioned(data, moves=((channel, None, ""),))
            case Raw():
                return Positioned(data, moves=((channel, _PLACE.decode(content).offset, ""),))
            case _:
                return Message(data)

    def notice(self, text: str) -> Sequence[Message]:
        """A message of the server, and a publication of its notice channel if there is one."""
        told = _ENCODER.encode(text)
        notices = [Message(b'{"message":{"data":%b}}' % told)]
        if self._notice_channel:
            channel = _ENCODER.encode(self._notice_channel)
            notices.append(Message(b'{"channel":%b,"pub":{"data":%b}}' % (channel, told)))
        return notices

    def goodbye(self, code: int, reason: str) -> Message:
        """The last push."""
        end = _ENCODER.encode({"code": code, "reason": reason})
        return Message(b'{"disconnect":%b}' % end)

    def refusal(self, why: Refused) -> Disconnect | None:
        """An end, because nobody reads errors here."""
        return _refusal(why)


def _reached(result: SubscribeResult) -> int:
    # Of a cache only the latest publication comes, and then the offset is its own already.
    if not result.publications:
        return result.offset
    return _PLACE.decode(result.publications[-1]).offset


def _refusal(why: Refused) -> Disconnect:
    return _REFUSALS.get(why.code, ServerError)()


if TYPE_CHECKING:
    _: type[SessionProtocol] = CentrifugeUni
