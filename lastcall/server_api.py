"""The server API: what an application's backend can ask for, and what it is told.

Words and shapes are those of Centrifugo, so that the clients of its API work here; `http_api`
reads and writes the bytes. Whatever may be left out has a default: an empty channel is a command
that is refused, not a request of another shape.
"""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from lastcall.channel_options import Override
from lastcall.protocol.centrifuge import (
    Empty,
    HistoryResult,
    Json,
    PresenceResult,
    PresenceStatsResult,
    RpcResult,
)

MAX_COMMANDS = 1000
"""Commands in one batch."""
MAX_PATTERN = 1024
"""Characters in a pattern of channel names."""

type Offset = Annotated[int, Meta(ge=0, le=2**63 - 1)]
type UnixTime = Annotated[int, Meta(ge=0, le=2**53 - 1, description="Unix time in seconds.")]
type Version = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Since(msgspec.Struct, frozen=True, omit_defaults=True):
    """A position in the stream of a channel."""

    offset: Offset = 0
    epoch: str = ""


class _Payload(msgspec.Struct, frozen=True, kw_only=True):
    """What is published."""

    data: Json = UNSET
    """Any JSON value."""
    b64data: str = ""
    """The same in base64, where it is not text; instead of `data`."""
    tags: dict[str, str] | None = None
    skip_history: bool = False
    idempotency_key: str = ""
    delta: bool = False
    version: Version = 0
    version_epoch: str = ""


class Publish(_Payload, frozen=True, kw_only=True):
    """Publish into a channel."""

    channel: str = ""


class Broadcast(_Payload, frozen=True, kw_only=True):
    """Publish the same into many channels."""

    channels: list[str] = []


class _Whose(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Connections of one user; an empty one addresses the anonymous connections."""

    user: str = ""
    client: str = ""
    """Only the connection with this id."""
    session: str = ""


class Subscribe(_Whose, frozen=True, kw_only=True, omit_defaults=True):
    """Let the connections that a user has now hear a channel."""

    channel: str = ""
    info: Json = UNSET
    b64info: str = ""
    data: Json = UNSET
    b64data: str = ""
    expire_at: UnixTime = 0
    recover_since: Since | None = None
    override: Override | None = None


class Unsubscribe(_Whose, frozen=True, kw_only=True, omit_defaults=True):
    """Let a user's connections hear a channel no more; an empty channel: any."""

    channel: str = ""


class CloseReason(msgspec.Struct, frozen=True):
    """A close code of the application's own, and its reason."""

    code: Annotated[int, Meta(ge=0, le=65535)] = 0
    reason: str = ""


class Disconnect(_Whose, frozen=True, kw_only=True, omit_defaults=True):
    """Close a user's connections."""

    whitelist: list[str] | None = None
    """Connections to leave alone, by id."""
    disconnect: CloseReason | None = None


class Refresh(_Whose, frozen=True, kw_only=True, omit_defaults=True):
    """Set when a user's connections expire."""

    expired: bool = False
    """They have expired already."""
    expire_at: UnixTime = 0
    """0: never."""
    info: Json = UNSET


class RevokeToken(msgspec.Struct, frozen=True):
    """Let one token be good no more, and close the connections that it made."""

    uid: str = ""
    """Its `jti`."""
    expire_at: UnixTime = 0
    """When the token is over anyway; 0: remember it as long as the server runs."""


class InvalidateUserTokens(msgspec.Struct, frozen=True):
    """Let the tokens that a user has be good no more, and close the connections that they made."""

    user: str = ""
    issued_before: UnixTime = 0
    """0: now."""
    channel: str = ""
    """Not to be had: a revocation holds for all tokens of the user."""
    expire_at: UnixTime = 0
    """When the tokens are over anyway; 0: remember it as long as the server runs."""


class Presence(msgspec.Struct, frozen=True):
    """Who is in a channel?"""

    channel: str = ""


class PresenceStats(msgspec.Struct, frozen=True):
    """How many are in a channel?"""

    channel: str = ""


class History(msgspec.Struct, frozen=True):
    """What was published in a channel?"""

    channel: str = ""
    limit: Annotated[int, Meta(ge=-1, le=2**53 - 1)] = 0
    """0: only the position; -1: all."""
    since: Since | None = None
    reverse: bool = False


class HistoryRemove(msgspec.Struct, frozen=True):
    """Forget what was published in a channel; its position stays."""

    channel: str = ""


class ActiveChannels(msgspec.Struct, frozen=True):
    """Which channels have subscribers?"""

    pattern: Annotated[str, Meta(max_length=MAX_PATTERN)] = ""
    """As in a shell; empty: all."""


class Nodes(msgspec.Struct, frozen=True):
    """Which workers does the server have?"""


class Rpc(msgspec.Struct, frozen=True):
    """Call a function of the server."""

    method: str = ""
    params: Json = UNSET


type Request = (
    Publish
    | Broadcast
    | Subscribe
    | Unsubscribe
    | Disconnect
    | Refresh
    | RevokeToken
    | InvalidateUserTokens
    | Presence
    | PresenceStats
    | History
    | HistoryRemove
    | ActiveChannels
    | Nodes
    | Rpc
)

METHODS: dict[str, type[Any]] = {
    "publish": Publish,
    "broadcast": Broadcast,
    "subscribe": Subscribe,
    "unsubscribe": Unsubscribe,
    "disconnect": Disconnect,
    "refresh": Refresh,
    "revoke_token": RevokeToken,
    "invalidate_user_tokens": InvalidateUserTokens,
    "presence": Presence,
    "presence_stats": PresenceStats,
    "history": History,
    "history_remove": HistoryRemove,
    "channels": ActiveChannels,
    "info": Nodes,
    "rpc": Rpc,
}
"""What each is called on the wire."""


class Command(msgspec.Struct, frozen=True):
    """One command of a batch: an object with one of the methods."""

    publish: Publish | UnsetType | None = UNSET
    broadcast: Broadcast | UnsetType | None = UNSET
    subscribe: Subscribe | UnsetType | None = UNSET
    unsubscribe: Unsubscribe | UnsetType | None = UNSET
    disconnect: Disconnect | UnsetType | None = UNSET
    refresh: Refresh | UnsetType | None = UNSET
    revoke_token: RevokeToken | UnsetType | None = UNSET
    invalidate_user_tokens: InvalidateUserTokens | UnsetType | None = UNSET
    presence: Presence | UnsetType | None = UNSET
    presence_stats: PresenceStats | UnsetType | None = UNSET
    history: History | UnsetType | None = UNSET
    history_remove: HistoryRemove | UnsetType | None = UNSET
    channels: ActiveChannels | UnsetType | None = UNSET
    info: Nodes | UnsetType | None = UNSET
    rpc: Rpc | UnsetType | None = UNSET


class Batch(msgspec.Struct, frozen=True):
    """Several commands in one request, one after the other or side by side."""

    commands: Annotated[list[Command | None], Meta(max_length=MAX_COMMANDS)] = []
    parallel: bool = False


# --- what it answers


class Published(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where the publication is; empty where the channel has no history."""

    offset: Offset = 0
    epoch: str = ""


class Failure(msgspec.Struct, frozen=True):
    """Why a command was refused."""

    code: int
    message: str


class PublishReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of a publication; one of the two."""

    error: Failure | UnsetType = UNSET
    result: Published | UnsetType = UNSET


class Responses(msgspec.Struct, frozen=True):
    """What became of each publication, in the order of the channels."""

    responses: list[PublishReply]


class Subscribers(msgspec.Struct, frozen=True):
    """How many hear a channel."""

    num_clients: int


class ChannelsResult(msgspec.Struct, frozen=True):
    """The channels that somebody hears."""

    channels: dict[str, Subscribers]


class Node(msgspec.Struct, frozen=True):
    """One worker."""

    uid: str
    name: str
    version: str
    num_clients: int
    num_users: int
    num_channels: int
    num_subs: int
    uptime: int
    """Seconds."""


class NodesResult(msgspec.Struct, frozen=True):
    """The workers that answered."""

    nodes: list[Node]


type Result = (
    Empty
    | Published
    | Responses
    | PresenceResult
    | PresenceStatsResult
    | HistoryResult
    | ChannelsResult
    | NodesResult
    | RpcResult
)

RESULTS: dict[str, type[Any]] = {
    "publish": Published,
    "broadcast": Responses,
    "subscribe": Empty,
    "unsubscribe": Empty,
    "disconnect": Empty,
    "refresh": Empty,
    "revoke_token": Empty,
    "invalidate_user_tokens": Empty,
    "presence": PresenceResult,
    "presence_stats": PresenceStatsResult,
    "history": HistoryResult,
    "history_remove": Empty,
    "channels": ChannelsResult,
    "info": NodesResult,
    "rpc": RpcResult,
}
"""What each method answers if it is not refused."""
