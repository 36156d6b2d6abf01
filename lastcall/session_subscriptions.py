"""Subscriptions that clients make: `subscribe`, `unsubscribe`, `sub_refresh`, and how they end."""

import time
from collections.abc import Awaitable, Callable

from msgspec import UNSET

from lastcall.broker.base import StreamPosition
from lastcall.channels import Access, Asked
from lastcall.connection import Connection
from lastcall.deltas import FOSSIL
from lastcall.errors import (
    AlreadySubscribed,
    BadCommand,
    BadRequest,
    FeatureOff,
    InsufficientState,
    InvalidToken,
    LimitExceeded,
    NotPermitted,
)
from lastcall.protocol.centrifuge import (
    EXPIRED,
    INSUFFICIENT,
    REJECT_UNRECOVERED,
    Empty,
    Push,
    RefreshResult,
    SubRefresh,
    Subscribe,
    SubscribeResult,
    Unsubscribe,
    Unsubscribed,
)
from lastcall.rulebook import Rulebook
from lastcall.session_channels import Grant, SessionChannels, Wish, seconds_until
from lastcall.sessions import protocol_of, session_of
from lastcall.tokens import SubscriptionClaims
from lastcall.verdicts import Permit, encoded

_NOTHING_MORE = Grant()


class SessionSubscriptions:
    """Lets clients into the channels that they ask for."""

    def __init__(
        self,
        rules: Rulebook,
        session_channels: SessionChannels,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Go by *rules*."""
        self._max_channels = rules.settings.max_channels
        self._channels = rules.channels
        self._hooks = rules.endpoints.channels
        self._session_channels = session_channels
        self._verifier = rules.tokens
        self._clock = clock

    async def subscribe(self, connection: Connection, request: Subscribe) -> SubscribeResult:
        """Let the client hear a channel.

        Raises:
            Refused: why it may not, or not now.
            InvalidToken, BadRequest: it may not go on at all.
            BrokerUnavailable, Gone: see `SessionChannels.hold`.
        """
        subscriptions = session_of(connection).subscriptions
        if request.channel in subscriptions:
            raise AlreadySubscribed
        if len(subscriptions) >= self._max_channels:
            raise LimitExceeded
        _refuse_what_we_do_not_have(request)
        grant = await self._grant(connection, request)
        wish = Wish(
            request.channel,
            Asked(
                request.positioned,
                request.recoverable or request.recover,
                request.join_leave,
                request.delta,
            ),
            StreamPosition(request.offset, request.epoch) if request.recover else None,
            or_nothing=bool(request.flag & REJECT_UNRECOVERED),
        )
        held = await self._session_channels.hold(connection, wish, grant)
        return self._session_channels.go_live(connection, held)

    def unsubscribe(self, connection: Connection, request: Unsubscribe) -> Empty:
        """Let the client hear a channel no more, if it did."""
        self._session_channels.end(connection, request.channel)
        return Empty()

    async def sub_refresh(self, connection: Connection, request: SubRefresh) -> RefreshResult:
        """Let a subscription live as long as its fresh token.

        Raises:
            NotPermitted: there is no such subscription.
            TokenExpired: the token is not fresh.
            InvalidToken: it is for something else, or no token.
        """
        if request.channel not in session_of(connection).subscriptions:
            raise NotPermitted
        try:
            claims = await self._claims(connection, request.channel, request.token)
        except NotPermitted:
            raise InvalidToken from None
        subscription = session_of(connection).subscriptions.get(request.channel)
        if subscription is None:
            raise NotPermitted
        subscription.expire_at = claims.expire_at or 0
        subscription.chan_info = claims.info
        return RefreshResult(
            expires=subscription.expire_at != 0,
            ttl=seconds_until(subscription.expire_at, self._clock()),
        )

    def expired(self, connection: Connection, channel: str) -> None:
        """End a subscription whose time is over; the client makes it anew with a fresh token."""
        self._end(connection, channel, EXPIRED)

    def lost(self, connection: Connection, channel: str) -> None:
        """There is a gap: who holds a position has to come back with it."""
        subscription = session_of(connection).subscriptions.get(channel)
        if subscription is None or not subscription.positioned:
            return
        if subscription.server_side:
            connection.disconnect(InsufficientState())
        else:
            self._end(connection, channel, INSUFFICIENT)

    def _end(self, connection: Connection, channel: str, why: Unsubscribed) -> None:
        self._session_channels.end(connection, channel)
        connection.say(protocol_of(connection).push(Push(channel, why)))

    async def _grant(self, connection: Connection, request: Subscribe) -> Grant:
        user, channel = session_of(connection).user, request.channel
        hook = self._hooks.for_subscribe(channel)
        access = self._channels.may_subscribe(
            channel, user, has_token=bool(request.token), has_hook=hook is not None
        )
        if access is Access.DENIED:
            raise NotPermitted
        if request.token:
            claims = await self._claims(connection, channel, request.token)
            return Grant(
                info=claims.info,
                data=claims.data,
                expire_at=claims.expire_at or 0,
                override=claims.override,
            )
        if access is Access.ASK and hook is not None:
            return _granted(await require(hook(connection, request)))
        return _NOTHING_MORE

    async def _claims(self, connection: Connection, channel: str, token: str) -> SubscriptionClaims:
        session = session_of(connection)
        return await self._verifier.subscription(
            token, self._clock(), channel=channel, user=session.user, client=session.client
        )


def _granted(answer: object) -> Grant:
    if not isinstance(answer, Permit):
        return _NOTHING_MORE
    return Grant(
        info=encoded(answer.info),
        data=encoded(answer.data),
        expire_at=answer.expire_at,
        override=answer.override,
    )


async def require(permission: Awaitable[object] | object) -> object:
    """Take the application's word: False is a no, as is a `Refused` that it raises.

    Raises:
        NotPermitted: it said no.
    """
    answer = await permission if isinstance(permission, Awaitable) else permission
    if answer is False:
        raise NotPermitted
    return answer


def _refuse_what_we_do_not_have(request: Subscribe) -> None:
    if request.type:
        raise FeatureOff
    if request.tf is not UNSET:
        raise BadCommand
    if request.delta not in {"", FOSSIL}:
        raise BadRequest
