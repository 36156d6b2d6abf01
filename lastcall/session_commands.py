"""What clients with a session ask for: who does it; done here are publish, history and calls."""

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw

from lastcall.broker.base import Broker, Kind, StreamPosition
from lastcall.channel_hooks import text_of
from lastcall.channels import Access
from lastcall.command_limits import CommandLimits
from lastcall.connection import Connection
from lastcall.crowd import Crowd
from lastcall.errors import BadCommand, BadRequest, NotAvailable, NotPermitted
from lastcall.history_page import page
from lastcall.protocol.centrifuge import (
    Connect,
    Empty,
    History,
    HistoryResult,
    Presence,
    PresenceResult,
    PresenceStats,
    PresenceStatsResult,
    Publish,
    PublishBytes,
    Refresh,
    Rpc,
    RpcResult,
    SendMessage,
    SubRefresh,
    Subscribe,
    Unsubscribe,
)
from lastcall.protocol.centrifuge_json import bytes_as_json, in_one_line
from lastcall.rulebook import Rulebook
from lastcall.session import Session
from lastcall.session_channels import SessionChannels, bodies
from lastcall.session_identity import SessionIdentity
from lastcall.session_presence import Presence as Everybody
from lastcall.session_presence import client_info
from lastcall.session_subscriptions import SessionSubscriptions, require
from lastcall.sessions import Answer, session_of
from lastcall.verdicts import Edited, encoded

if TYPE_CHECKING:
    import asyncio


_AS_IT_IS = Edited()


class _Said(NamedTuple):
    """What is published."""

    data: bytes
    kind: Kind


class SessionCommands:
    """Does each request by the rules of its channel; `Requests` towards the sessions."""

    def __init__(
        self,
        rules: Rulebook,
        broker: Broker,
        presence: Everybody,
        session_channels: SessionChannels,
        crowd: Crowd,
        *,
        beat: Callable[[], float] = time.monotonic,
    ) -> None:
        """Go by *rules*; let in as many as *crowd* says."""
        self._limits = CommandLimits(rules.settings, crowd.refused)
        self._beat = beat
        self._channels = rules.channels
        self._endpoints = rules.endpoints
        self._broker = broker
        self._identity = SessionIdentity(rules, session_channels, crowd)
        self._subscriptions = SessionSubscriptions(rules, session_channels)
        self._session_channels = session_channels
        self._everybody = presence
        self._max_page = rules.settings.max_history_page
        self._handlers = self._by_kind()

    def _by_kind(self) -> dict[type[Any], Callable[[Connection, Any], Answer]]:
        return {
            Connect: self._identity.connect,
            Refresh: self._identity.refresh,
            Subscribe: self._subscriptions.subscribe,
            Unsubscribe: self._subscriptions.unsubscribe,
            SubRefresh: self._subscriptions.sub_refresh,
            Publish: self._publish,
            PublishBytes: self._publish,
            History: self._history,
            Presence: self._presence,
            PresenceStats: self._presence_stats,
            Rpc: self._rpc,
            SendMessage: self._send,
        }

    def do(self, connection: Connection, request: Any) -> Answer:
        """See `Requests.do`."""
        token = request.token if isinstance(request, Refresh | SubRefresh) else None
        if "" in {token, getattr(request, "channel", None)}:
            raise BadRequest
        session = session_of(connection)
        self._limits.take(request, client=session.client, user=session.user, now=self._beat())
        return self._handlers[type(request)](connection, request)

    def ask_again(self, connection: Connection) -> Awaitable[None]:
        """See `Requests.ask_again`."""
        return self._identity.ask_again(connection)

    def expired(self, connection: Connection, channel: str) -> None:
        """See `Requests.expired`."""
        self._subscriptions.expired(connection, channel)

    def lost(self, connection: Connection, channel: str) -> None:
        """See `Requests.lost`."""
        self._subscriptions.lost(connection, channel)

    def ended(self, connection: Connection) -> None:
        """See `Requests.ended`."""
        self._session_channels.ended(connection)

    # --- publish and history

    def _publish(self, connection: Connection, request: Publish | PublishBytes) -> Answer:
        session, channel = session_of(connection), request.channel
        said = _said(request)
        hook = self._endpoints.channels.for_publish(channel)
        access = self._channels.may_publish(
            channel,
            session.user,
            is_subscribed=channel in session.subscriptions,
            has_hook=hook is not None,
        )
        if access is Access.DENIED:
            raise NotPermitted
        if access is Access.ASK and hook is not None:
            text = said.data if said.kind is Kind.JSON else bytes_as_json(said.data)
            permission = hook(connection, channel, text.decode())
            return self._publish_if(session, channel, said, permission)
        return self._to_broker(session, channel, said)

    async def _publish_if(
        self, session: Session, channel: str, said: _Said, permission: Awaitable[object] | object
    ) -> Empty:
        answer = await require(permission)
        edited = answer if isinstance(answer, Edited) else _AS_IT_IS
        if edited.data is not UNSET:
            said = _Said(encoded(edited.data) or b"null", Kind.JSON)
        await self._to_broker(session, channel, said, edited)
        return Empty()

    def _to_broker(
        self, session: Session, channel: str, said: _Said, edited: Edited = _AS_IT_IS
    ) -> "asyncio.Future[StreamPosition]":
        about = b'"info":' + msgspec.json.encode(client_info(session, channel))
        if edited.tags:
            about += b',"tags":' + msgspec.json.encode(edited.tags)
        return self._broker.publish(
            channel, said.data, kind=said.kind, about=about, idempotency_key=edited.idempotency_key
        )

    async def _history(self, connection: Connection, request: History) -> HistoryResult:
        session, channel, since = session_of(connection), request.channel, request.since
        is_subscribed = channel in session.subscriptions
        if not self._channels.may_read_history(channel, session.user, is_subscribed=is_subscribed):
            raise NotPermitted
        limit = self._max_page if request.limit < 0 else min(request.limit, self._max_page)
        history = await self._broker.history(channel)
        found = page(
            history,
            self._channels.options(channel).history_size,
            (since.offset, since.epoch) if since is not None else None,
            limit,
            reverse=request.reverse,
        )
        top = history.top
        return HistoryResult(bodies(connection, found), top.offset, top.epoch)

    # --- presence

    async def _presence(self, connection: Connection, request: Presence) -> PresenceResult:
        self._require_presence(connection, request.channel)
        return PresenceResult(await self._everybody.clients(request.channel))

    async def _presence_stats(
        self, connection: Connection, request: PresenceStats
    ) -> PresenceStatsResult:
        self._require_presence(connection, request.channel)
        clients = await self._everybody.clients(request.channel)
        return PresenceStatsResult(len(clients), len({each.user for each in clients.values()}))

    def _require_presence(self, connection: Connection, channel: str) -> None:
        session = session_of(connection)
        is_subscribed = channel in session.subscriptions
        if not self._channels.may_see_presence(channel, session.user, is_subscribed=is_subscribed):
            raise NotPermitted

    # --- what only the application can answer

    async def _rpc(self, connection: Connection, request: Rpc) -> RpcResult:
        answer = self._endpoints.channels.for_rpc(request.method)
        called = answer(connection, request.method, text_of(request.data))
        result = await called if isinstance(called, Awaitable) else called
        return RpcResult(Raw(encoded(result) or b"null"))

    def _send(self, connection: Connection, request: SendMessage) -> Answer:
        hook = self._endpoints[connection.endpoint].on_message
        if hook is None:
            raise NotAvailable
        called = hook(connection, text_of(request.data))
        return _done(called) if isinstance(called, Awaitable) else None


async def _done(called: Awaitable[object]) -> Empty:
    await called
    return Empty()


def _said(request: Publish | PublishBytes) -> _Said:
    if isinstance(request, PublishBytes):
        return _Said(request.data, Kind.BINARY)
    if request.data is UNSET:
        raise BadCommand
    return _Said(in_one_line(request.data), Kind.JSON)
