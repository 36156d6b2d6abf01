"""The Centrifuge client protocol, version 2: what a client asks for and what it is told.

The words of the protocol without its bytes: `centrifuge_json` reads and writes them. Field names
are the protocol's own, so that its documentation is theirs. JSON values inside them (`data`,
`info`) stay the bytes that they were: nobody here looks into them.
"""

from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from lastcall.errors import Disconnect, Refused

type Json = Raw | UnsetType
"""A JSON value as it stands; `UNSET`: there is none."""

_JOINS = "\1"

REJECT_UNRECOVERED = 2
"""Bit of `Subscribe.flag`: rather an error than a subscription with a gap."""


class Since(msgspec.Struct, frozen=True):
    """A position that a client names; an empty epoch with offset 0 is before everything."""

    offset: int = 0
    epoch: str = ""


class Recovery(msgspec.Struct, frozen=True):
    """What a client has of a server-side subscription."""

    recover: bool = False
    offset: int = 0
    epoch: str = ""


class Connect(msgspec.Struct, frozen=True):
    """The first command of every connection."""

    token: str = ""
    data: Json = UNSET
    name: str = ""
    version: str = ""
    headers: dict[str, str] = {}
    """Said by the client, so not to be trusted."""
    subs: dict[str, Recovery] = {}


class Subscribe(msgspec.Struct, frozen=True):
    """Hear a channel."""

    channel: str = ""
    token: str = ""
    recover: bool = False
    offset: int = 0
    epoch: str = ""
    positioned: bool = False
    recoverable: bool = False
    join_leave: bool = False
    data: Json = UNSET
    delta: str = ""
    flag: int = 0
    tf: Json = UNSET
    type: int = 0


class Unsubscribe(msgspec.Struct, frozen=True):
    """Hear it no more."""

    channel: str = ""


class Publish(msgspec.Struct, frozen=True):
    """Say something in a channel."""

    channel: str = ""
    data: Json = UNSET


class PublishBytes(msgspec.Struct, frozen=True):
    """Say in a channel what is no JSON; there is no way to do so in JSON."""

    channel: str = ""
    data: bytes = b""


class Presence(msgspec.Struct, frozen=True):
    """Who is in a channel?"""

    channel: str = ""


class PresenceStats(msgspec.Struct, frozen=True):
    """How many are in a channel?"""

    channel: str = ""


class History(msgspec.Struct, frozen=True):
    """What was published in a channel?"""

    channel: str = ""
    limit: int = 0
    since: Since | None = None
    reverse: bool = False


class Rpc(msgspec.Struct, frozen=True):
    """Call a function of the application."""

    method: str = ""
    data: Json = UNSET


class SendMessage(msgspec.Struct, frozen=True):
    """A message for the application, without an answer."""

    data: Json = UNSET


class Refresh(msgspec.Struct, frozen=True):
    """A fresh token for the connection."""

    token: str = ""


class SubRefresh(msgspec.Struct, frozen=True):
    """A fresh token for a subscription."""

    channel: str = ""
    token: str = ""


type Request = (
    Connect
    | Subscribe
    | Unsubscribe
    | Publish
    | PublishBytes
    | Presence
    | PresenceStats
    | History
    | Rpc
    | SendMessage
    | Refresh
    | SubRefresh
)

METHODS: dict[type[Any], str] = {
    Connect: "connect",
    Subscribe: "subscribe",
    Unsubscribe: "unsubscribe",
    Publish: "publish",
    PublishBytes: "publish",
    Presence: "presence",
    PresenceStats: "presence_stats",
    History: "history",
    Rpc: "rpc",
    SendMessage: "send",
    Refresh: "refresh",
    SubRefresh: "sub_refresh",
}
"""What each is called on the wire, in the order in which a line with several is read."""


@dataclass(frozen=True, slots=True)
class Call:
    """The client asks for something; the answer carries the same *id* (0: there is none)."""

    id: int
    request: Request


@dataclass(frozen=True, slots=True)
class Pong:
    """The client answers our ping."""


@dataclass(frozen=True, slots=True)
class Invalid:
    """What came here is not of the protocol; what came before it in the same message counts."""

    why: Disconnect


class ClientIdentity(msgspec.Struct, frozen=True):
    """Who a client is, as other clients may know it."""

    client: str
    user: str = ""
    conn_info: Json = UNSET
    chan_info: Json = UNSET


class SubscribeResult(msgspec.Struct, omit_defaults=True, frozen=True):
    """The subscription that was made, and what the client missed."""

    recoverable: bool = False
    epoch: str = ""
    publications: list[Raw] = []
    recovered: bool = False
    offset: int = 0
    positioned: bool = False
    was_recovering: bool = False
    delta: bool = False
    expires: bool = False
    ttl: int = 0
    data: Json = UNSET


class ConnectResult(msgspec.Struct, omit_defaults=True, frozen=True):
    """The connection that was made."""

    client: str
    version: str
    ping: int = 0
    pong: bool = False
    expires: bool = False
    ttl: int = 0
    data: Json = UNSET
    subs: dict[str, SubscribeResult] = {}
    session: str = ""
    node: str = ""


class RefreshResult(msgspec.Struct, omit_defaults=True, frozen=True):
    """How long the connection or subscription lives on, in seconds."""

    expires: bool = False
    ttl: int = 0


class PresenceResult(msgspec.Struct, frozen=True):
    """Who is there, by connection."""

    presence: dict[str, ClientIdentity]


class PresenceStatsResult(msgspec.Struct, frozen=True):
    """How many connections and users are there."""

    num_clients: int
    num_users: int


class HistoryResult(msgspec.Struct, frozen=True):
    """What was published, and the top of the stream."""

    publications: list[Raw]
    offset: int
    epoch: str


class RpcResult(msgspec.Struct, frozen=True):
    """What the function returned."""

    data: Json = UNSET


class Empty(msgspec.Struct, frozen=True):
    """It is done."""


type Result = (
    ConnectResult
    | SubscribeResult
    | RefreshResult
    | PresenceResult
    | PresenceStatsResult
    | HistoryResult
    | RpcResult
    | Empty
)


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a `Call`."""

    id: int
    method: str
    outcome: Result | Refused


class Join(msgspec.Struct, frozen=True):
    """Somebody came into a channel."""

    info: ClientIdentity


class Leave(msgspec.Struct, frozen=True):
    """Somebody left a channel."""

    info: ClientIdentity


class Subscribed(msgspec.Struct, omit_defaults=True, frozen=True):
    """The server made a subscription."""

    recoverable: bool = False
    epoch: str = ""
    offset: int = 0
    positioned: bool = False
    data: Json = UNSET


class Unsubscribed(msgspec.Struct, frozen=True):
    """The server ended a subscription: from 2500 on the client makes it anew."""

    code: int
    reason: str


class Refreshed(msgspec.Struct, frozen=True):
    """The server set another end for the connection."""

    expires: bool
    ttl: int


SERVER_UNSUBSCRIBE = Unsubscribed(2000, "server unsubscribe")
INSUFFICIENT = Unsubscribed(2500, "insufficient state")
EXPIRED = Unsubscribed(2501, "subscription expired")

PUSHES: dict[type[Any], str] = {
    Join: "join",
    Leave: "leave",
    Subscribed: "subscribe",
    Unsubscribed: "unsubscribe",
    Refreshed: "refresh",
    Raw: "pub",
}


@dataclass(frozen=True, slots=True)
class Push:
    """What a client is told unasked; *channel* is empty where it is about the connection."""

    channel: str
    content: Join | Leave | Subscribed | Unsubscribed | Refreshed | Raw
    """Raw: the body of a publication."""


def joins_of(channel: str) -> str:
    """The channel of ours in which joins and leaves of *channel* are told.

    Its publications are JSON members, `"join":…` or `"leave":…`. No client can name it, and no
    offset of the channel itself is used up.
    """
    return _JOINS + channel


def is_joins(channel: str) -> bool:
    """Whether this is `joins_of` a channel."""
    return channel.startswith(_JOINS)


def told_by(channel: str) -> str:
    """The channel that a `joins_of` belongs to."""
    return channel.removeprefix(_JOINS)
