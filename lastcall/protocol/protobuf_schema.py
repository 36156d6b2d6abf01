"""The published schema of the Centrifuge protocol (`client.proto`), as tables of its fields."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import UNSET, Raw

from lastcall.json_values import is_json
from lastcall.protocol.centrifuge import (
    ClientIdentity,
    Connect,
    ConnectResult,
    Empty,
    History,
    HistoryResult,
    Join,
    Json,
    Leave,
    Presence,
    PresenceResult,
    PresenceStats,
    PresenceStatsResult,
    PublishBytes,
    Recovery,
    Refresh,
    Refreshed,
    RefreshResult,
    Rpc,
    RpcResult,
    SendMessage,
    Since,
    SubRefresh,
    Subscribe,
    Subscribed,
    SubscribeResult,
    Unsubscribe,
    Unsubscribed,
)
from lastcall.protocol.centrifuge_json import bytes_as_json
from lastcall.protocol.protobuf_wire import (
    Value,
    WireError,
    bytes_field,
    fields_in,
    message_field,
    number_field,
)

_SIGN, _WORD = 2**63, 2**64


@dataclass(frozen=True, slots=True)
class Kind:
    """How the values of a field are read and written; *write* gets what is not left out."""

    read: Callable[[Value], Any]
    write: Callable[[int, Any], bytes]
    is_map: bool = False


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message: its number, and its name here and in the schema."""

    number: int
    name: str
    kind: Kind


def _text(value: Value) -> str:
    return _bytes(value).decode()


def _bytes(value: Value) -> bytes:
    if isinstance(value, bytes):
        return value
    raise WireError("a number where there is none")


def _number(value: Value) -> int:
    if isinstance(value, int):
        return value
    raise WireError("no number where there is one")


def _signed(value: Value) -> int:
    number = _number(value)
    return number - _WORD if number >= _SIGN else number


def _json(value: Value) -> Json:
    data = _bytes(value)
    return Raw(data if is_json(data) else bytes_as_json(data)) if data else UNSET


TEXT = Kind(_text, lambda field, value: bytes_field(field, value.encode()))
NUMBER = Kind(_number, number_field)
SIGNED = Kind(_signed, lambda field, value: number_field(field, value % _WORD))
SWITCH = Kind(lambda value: _number(value) != 0, number_field)
BYTES = Kind(_bytes, bytes_field)
JSON = Kind(_json, lambda field, value: bytes_field(field, bytes(value)))
UNREAD = Kind(lambda _: Raw(b"0"), lambda *_: b"")
"""What we do not have: that it was there is all that matters."""


def _of(read: type[Any] | None = None) -> Kind:
    """A message within a message, of the type *read*."""

    def read_it(value: Value) -> Any:
        return None if read is None else decoded(_bytes(value), read)

    return Kind(read_it, lambda field, value: message_field(field, encoded(value)))


def _map_of(kind: Kind) -> Kind:
    """Entries, each a message with a key and a value."""
    entry = (Field(1, "key", TEXT), Field(2, "value", kind))

    def read(value: Value) -> tuple[str, Any]:
        found = _read_fields(_bytes(value), entry)
        return found.get("key", ""), found["value"] if "value" in found else kind.read(b"")

    def write(field: int, value: dict[str, Any]) -> bytes:
        return b"".join(
            message_field(field, TEXT.write(1, key) + kind.write(2, each))
            for key, each in value.items()
        )

    return Kind(read, write, is_map=True)


ENCODED = Kind(
    _bytes, lambda field, value: b"".join(message_field(field, bytes(each)) for each in value)
)
"""Messages that somebody has encoded before."""

_CHANNEL = (Field(1, "channel", TEXT),)
_IDENTITY = (
    Field(1, "user", TEXT),
    Field(2, "client", TEXT),
    Field(3, "conn_info", JSON),
    Field(4, "chan_info", JSON),
)
_SINCE = (Field(1, "offset", NUMBER), Field(2, "epoch", TEXT))

SUB_REFRESHED = (Field(1, "expires", SWITCH), Field(2, "ttl", NUMBER))
"""What `RefreshResult` is for a subscription: the schema has two."""

_FIELDS: dict[type[Any], tuple[Field, ...]] = {
    Connect: (
        Field(1, "token", TEXT),
        Field(2, "data", JSON),
        Field(3, "subs", _map_of(_of(Recovery))),
        Field(4, "name", TEXT),
        Field(5, "version", TEXT),
        Field(6, "headers", _map_of(TEXT)),
    ),
    Recovery: (
        Field(3, "recover", SWITCH),
        Field(6, "epoch", TEXT),
        Field(7, "offset", NUMBER),
    ),
    Subscribe: (
        *_CHANNEL,
        Field(2, "token", TEXT),
        Field(3, "recover", SWITCH),
        Field(6, "epoch", TEXT),
        Field(7, "offset", NUMBER),
        Field(8, "data", JSON),
        Field(9, "positioned", SWITCH),
        Field(10, "recoverable", SWITCH),
        Field(11, "join_leave", SWITCH),
        Field(12, "delta", TEXT),
        Field(13, "tf", UNREAD),
        Field(14, "flag", SIGNED),
    ),
    Unsubscribe: _CHANNEL,
    PublishBytes: (*_CHANNEL, Field(2, "data", BYTES)),
    Presence: _CHANNEL,
    PresenceStats: _CHANNEL,
    History: (
        *_CHANNEL,
        Field(7, "limit", SIGNED),
        Field(8, "since", _of(Since)),
        Field(9, "reverse", SWITCH),
    ),
    Since: _SINCE,
    Rpc: (Field(1, "data", JSON), Field(2, "method", TEXT)),
    SendMessage: (Field(1, "data", JSON),),
    Refresh: (Field(1, "token", TEXT),),
    SubRefresh: (*_CHANNEL, Field(2, "token", TEXT)),
    ClientIdentity: _IDENTITY,
    Join: (Field(1, "info", _of(ClientIdentity)),),
    Leave: (Field(1, "info", _of(ClientIdentity)),),
    Unsubscribed: (Field(2, "code", NUMBER), Field(3, "reason", TEXT)),
    Refreshed: (Field(1, "expires", SWITCH), Field(2, "ttl", NUMBER)),
    Subscribed: (
        Field(1, "recoverable", SWITCH),
        Field(4, "epoch", TEXT),
        Field(5, "offset", NUMBER),
        Field(6, "positioned", SWITCH),
        Field(7, "data", JSON),
    ),
    ConnectResult: (
        Field(1, "client", TEXT),
        Field(2, "version", TEXT),
        Field(3, "expires", SWITCH),
        Field(4, "ttl", NUMBER),
        Field(5, "data", JSON),
        Field(6, "subs", _map_of(_of())),
        Field(7, "ping", NUMBER),
        Field(8, "pong", SWITCH),
        Field(9, "session", TEXT),
        Field(10, "node", TEXT),
    ),
    SubscribeResult: (
        Field(1, "expires", SWITCH),
        Field(2, "ttl", NUMBER),
        Field(3, "recoverable", SWITCH),
        Field(6, "epoch", TEXT),
        Field(7, "publications", ENCODED),
        Field(8, "recovered", SWITCH),
        Field(9, "offset", NUMBER),
        Field(10, "positioned", SWITCH),
        Field(11, "data", JSON),
        Field(12, "was_recovering", SWITCH),
        Field(13, "delta", SWITCH),
    ),
    RefreshResult: (Field(3, "expires", SWITCH), Field(4, "ttl", NUMBER)),
    PresenceResult: (Field(1, "presence", _map_of(_of())),),
    PresenceStatsResult: (Field(1, "num_clients", NUMBER), Field(2, "num_users", NUMBER)),
    HistoryResult: (
        Field(1, "publications", ENCODED),
        Field(2, "epoch", TEXT),
        Field(3, "offset", NUMBER),
    ),
    RpcResult: (Field(1, "data", JSON),),
    Empty: (),
}


def decoded[M](message: bytes, kind: type[M], fields: tuple[Field, ...] | None = None) -> M:
    """The message of this type; *fields* are those of the type by default.

    Raises:
        ValueError: it is none.
    """
    return kind(**_read_fields(message, _FIELDS[kind] if fields is None else fields))


def encoded(message: msgspec.Struct, fields: tuple[Field, ...] | None = None) -> bytes:
    """The fields of *message*, those of its type by default."""
    parts = []
    for field in _FIELDS[type(message)] if fields is None else fields:
        value = getattr(message, field.name)
        if value is not UNSET:
            parts.append(field.kind.write(field.number, value))
    return b"".join(parts)


def _read_fields(message: bytes, fields: tuple[Field, ...]) -> dict[str, Any]:
    known = {field.number: field for field in fields}
    found: dict[str, Any] = {}
    for number, value in fields_in(message):
        field = known.get(number)
        if field is None:
            continue
        read = field.kind.read(value)
        if field.kind.is_map:
            found.setdefault(field.name, {}).update([read])
        else:
            found[field.name] = read
    return found
