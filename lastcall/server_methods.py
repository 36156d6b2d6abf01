"""What the server API does: each method by the channels' options, on behalf of the application.

The application may do everything; what is refused is what a channel does not have.
"""

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw

from lastcall.broker.base import Broker, Kind, StreamPosition
from lastcall.errors import (
    BadCommand,
    BrokerUnavailable,
    FeatureOff,
    InternalError,
    MethodNotFound,
    Refused,
)
from lastcall.everyone import Everyone
from lastcall.history_page import page
from lastcall.json_values import decode_base64, is_json, one_value
from lastcall.protocol.centrifuge import (
    Empty,
    HistoryResult,
    PresenceResult,
    PresenceStatsResult,
)
from lastcall.protocol.centrifuge_json import CentrifugeJson, in_one_line
from lastcall.revocations import TokenRevocation, UserRevocation
from lastcall.revoking import Revoking
from lastcall.rulebook import Rulebook
from lastcall.server_api import (
    ActiveChannels,
    Broadcast,
    ChannelsResult,
    Disconnect,
    Failure,
    History,
    HistoryRemove,
    InvalidateUserTokens,
    Node,
    Nodes,
    NodesResult,
    Presence,
    PresenceStats,
    Publish,
    Published,
    PublishReply,
    Refresh,
    Request,
    Responses,
    Result,
    RevokeToken,
    Rpc,
    Subscribe,
    Subscribers,
    Unsubscribe,
)
from lastcall.session_presence import Presence as Everybody
from lastcall.user_orders import Order, UserOrders

if TYPE_CHECKING:
    import asyncio

_decode_counts = msgspec.json.Decoder(dict[str, int]).decode
_decode_node = msgspec.json.Decoder(Node).decode


_FOR_EVER = 2.0**53


class ServerMethods:
    """Does what the application asks for from outside."""

    def __init__(
        self,
        rules: Rulebook,
        broker: Broker,
        everyone: Everyone,
        presence: Everybody,
        *,
        orders: UserOrders,
        revoking: Revoking,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Go by *rules*."""
        self._channels = rules.channels
        self._broker = broker
        self._everyone = everyone
        self._presence = presence
        self._orders = orders
        self._revoking = revoking
        self._clock = clock
        self._body = CentrifugeJson(rules.channels.has_history).body
        self._methods = self._by_kind()

    def _by_kind(self) -> dict[type[Any], Callable[[Any], Awaitable[Result]]]:
        return {
            Publish: self._publish,
            Broadcast: self._broadcast,
            Subscribe: self._order,
            Unsubscribe: self._order,
            Disconnect: self._order,
            Refresh: self._order,
            RevokeToken: self._revoke_token,
            InvalidateUserTokens: self._invalidate_user_tokens,
            Presence: self._clients,
            PresenceStats: self._counts,
            History: self._history,
            HistoryRemove: self._history_remove,
            ActiveChannels: self._active,
            Nodes: self._nodes,
            Rpc: self._rpc,
        }

    async def do(self, request: Request) -> Result:
        """Do what is asked for.

        Raises:
            Refused: why it is not done.
        """
        try:
            return await self._methods[type(request)](request)
        except BrokerUnavailable as error:
            raise InternalError from error

    # --- publish

    async def _publish(self, request: Publish) -> Published:
        data, kind = _payload(request)
        future = self._to_broker(request.channel, request, data, kind)
        return self._published(request.channel, await future)

    async def _broadcast(self, request: Broadcast) -> Responses:
        if not request.channels:
            raise BadCommand
        data, kind = _payload(request)
        # All of them now, so that nothing of this worker's comes between two.
        started: list[asyncio.Future[StreamPosition] | Refused] = []
        for channel in request.channels:
            try:
                started.append(self._to_broker(channel, request, data, kind))
            except Refused as why:
                started.append(why)
        ways = zip(request.channels, started, strict=True)
        return Responses([await self._response(channel, each) for channel, each in ways])

    def _to_broker(
        self, channel: str, request: Publish | Broadcast, data: bytes, kind: Kind
    ) -> "asyncio.Future[StreamPosition]":
        options = self._channels.options(channel)
        if request.version and options.history_size:
            raise FeatureOff  # better refused than an old state published over a new one
        about = b'"tags":' + msgspec.json.encode(request.tags) if request.tags else b""
        return self._broker.publish(
            channel, data, kind=kind, about=about, idempotency_key=request.idempotency_key
        )

    async def _response(
        self, channel: str, started: "asyncio.Future[StreamPosition] | Refused"
    ) -> PublishReply:
        if isinstance(started, Refused):
            return PublishReply(error=Failure(started.code, started.message))
        try:
            return PublishReply(result=self._published(channel, await started))
        except BrokerUnavailable:
            return PublishReply(error=Failure(InternalError.code, InternalError.message))

    def _published(self, channel: str, position: StreamPosition) -> Published:
        if not self._channels.has_history(channel):
            return Published()
        return Published(position.offset, position.epoch)

    # --- what happens to connections

    async def _order(self, order: Order) -> Empty:
        await self._orders.give(order)
        return Empty()

    async def _revoke_token(self, request: RevokeToken) -> Empty:
        if not request.uid:
            raise BadCommand
        await self._revoking.revoke(TokenRevocation(request.uid, request.expire_at or _FOR_EVER))
        return Empty()

    async def _invalidate_user_tokens(self, request: InvalidateUserTokens) -> Empty:
        if request.channel:
            raise FeatureOff
        before, until = request.issued_before or self._clock(), request.expire_at or _FOR_EVER
        await self._revoking.revoke(UserRevocation(request.user, before, until))
        return Empty()

    # --- what is known of a channel

    async def _clients(self, request: Presence) -> PresenceResult:
        self._require_presence(request.channel)
        return PresenceResult(await self._presence.clients(request.channel))

    async def _counts(self, request: PresenceStats) -> PresenceStatsResult:
        self._require_presence(request.channel)
        clients = await self._presence.clients(request.channel)
        return PresenceStatsResult(len(clients), len({each.user for each in clients.values()}))

    def _require_presence(self, channel: str) -> None:
        if not self._channels.options(channel).presence:
            raise FeatureOff

    async def _history(self, request: History) -> HistoryResult:
        size = self._channels.options(request.channel).history_size
        if not size:
            raise FeatureOff
        since, limit = request.since, request.limit
        history = await self._broker.history(request.channel, limit=None if limit else 0)
        found = page(
            history,
            size,
            (since.offset, since.epoch) if since is not None else None,
            limit if limit >= 0 else None,
            reverse=request.reverse,
        )
        top = history.top
        return HistoryResult([Raw(self._body(each)) for each in found], top.offset, top.epoch)

    async def _history_remove(self, request: HistoryRemove) -> Empty:
        if not self._channels.options(request.channel).history_size:
            raise FeatureOff
        await self._broker.clear(request.channel)
        return Empty()

    # --- what is known of the server

    async def _active(self, request: ActiveChannels) -> ChannelsResult:
        counts: dict[str, int] = {}
        for answer in await self._everyone.ask("channels", request.pattern.encode()):
            for channel, count in _decode_counts(answer).items():
                counts[channel] = counts.get(channel, 0) + count
        return ChannelsResult({channel: Subscribers(counts[channel]) for channel in sorted(counts)})

    async def _nodes(self, _request: Nodes) -> NodesResult:
        answers = await self._everyone.ask("node", b"")
        return NodesResult(sorted(map(_decode_node, answers), key=lambda node: node.name))

    async def _rpc(self, _request: Rpc) -> Result:
        raise MethodNotFound  # there are none; those of `on_rpc` are for clients, and want one


def _payload(request: Publish | Broadcast) -> tuple[bytes, Kind]:
    """What is to be published.

    Raises:
        BadCommand: there is nothing, or it is no base64.
    """
    if not request.b64data:
        return one_value(request.data), Kind.JSON
    data = decode_base64(request.b64data)
    return (in_one_line(Raw(data)), Kind.JSON) if is_json(data) else (data, Kind.BINARY)
