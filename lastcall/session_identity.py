"""Who a client is: `connect` and `refresh`, and what the server subscribes it to from the start."""

import logging
import math
import random
import time
import uuid
from collections.abc import Awaitable, Callable

import lastcall
from lastcall.broker.base import StreamPosition
from lastcall.channels import ANONYMOUS, Access, Asked
from lastcall.connection import Connection
from lastcall.crowd import Crowd
from lastcall.errors import (
    BadCommand,
    BadRequest,
    ChannelLimit,
    ConnectionExpired,
    Disconnect,
    InsufficientState,
    InternalError,
    InvalidToken,
    PermissionDenied,
    TokenExpired,
    TooManyRequests,
    UnknownChannel,
)
from lastcall.protocol.centrifuge import Connect, ConnectResult, Refresh, RefreshResult
from lastcall.rulebook import Rulebook
from lastcall.session import Session, Stage
from lastcall.session_channels import Grant, SessionChannels, Wish, seconds_until
from lastcall.sessions import json_value, session_of
from lastcall.subscribing import Gone
from lastcall.tokens import ConnectionClaims, ServerSubscription
from lastcall.verdicts import Identity, encoded

logger = logging.getLogger(__name__)

ASK_AGAIN = 60.0
"""Seconds until an application that could not be asked about a client is asked again."""

_SERVER_SIDE = Grant(server_side=True)


class SessionIdentity:
    """Lets clients in by their token, or because the application has said who they are."""

    def __init__(
        self,
        rules: Rulebook,
        session_channels: SessionChannels,
        crowd: Crowd,
        *,
        clock: Callable[[], float] = time.time,
        beat: Callable[[], float] = time.monotonic,
    ) -> None:
        """Go by *rules*; let in as many as *crowd* says."""
        self._crowd = crowd
        self._settings = rules.settings
        self._channels = rules.channels
        self._hooks = rules.endpoints.channels
        self._session_channels = session_channels
        self._verifier = rules.tokens
        self._clock = clock
        self._beat = beat

    async def connect(self, connection: Connection, request: Connect) -> ConnectResult:
        """Let the client in, and into its server-side subscriptions.

        Raises:
            TooManyRequests: the worker leaves; another one, or a later one, may do.
            TokenExpired: a fresh token may do.
            InvalidToken, PermissionDenied, BadRequest, ConnectionLimit, ChannelLimit: it may not
                come in.
            BrokerUnavailable, Gone: see `SessionChannels.hold`.
        """
        if self._crowd.turns_away():
            raise TooManyRequests
        session = session_of(connection)
        # Before anybody is asked about it, and never before the tick that lets it in.
        session.client = session.client or str(uuid.uuid4())
        claims = await self._claims(connection, request)
        if connection.is_gone:
            raise Gone
        self._crowd.said_who(claims.user)
        try:
            return await self._enter(connection, request, claims)
        except BaseException:
            self._crowd.did_not_say(claims.user)
            raise

    async def _enter(
        self, connection: Connection, request: Connect, claims: ConnectionClaims
    ) -> ConnectResult:
        session = session_of(connection)
        session.has_token = bool(request.token)
        session.is_asked_about = self._hooks.refresh is not None
        self._become(session, claims)
        connection.user = session.user or None
        grants = self._server_side(session, claims, request)
        held = [
            await self._session_channels.hold(connection, _wish(channel, request), grant)
            for channel, grant in grants.items()
        ]
        # From here on in one tick with the reply.
        session.stage = Stage.CONNECTED
        session.ping_at = 0 if session.has_frame_pings else self._first_ping()
        go_live = self._session_channels.go_live
        return ConnectResult(
            client=session.client,
            version=lastcall.__version__,
            ping=0 if session.has_frame_pings else math.ceil(self._settings.ping_interval),
            pong=not (session.only_listens or session.has_frame_pings),
            expires=session.expire_at != 0,
            ttl=seconds_until(session.expire_at, self._clock()),
            data=json_value(claims.data),
            subs={each.wish.channel: go_live(connection, each) for each in held},
            session=session.key,
            node=session.node,
        )

    def _first_ping(self) -> float:
        # Spread, so that clients that come back in one moment are not pinged in one.
        ping = self._settings.ping_interval
        return self._beat() + random.uniform(ping / 2, ping)  # noqa: S311  (no secret)

    async def refresh(self, connection: Connection, request: Refresh) -> RefreshResult:
        """Let the connection live as long as its fresh token.

        Raises:
            ConnectionExpired: the token is not fresh.
            InvalidToken: it is of another user, or no token.
            InsufficientState: it wants other server-side subscriptions.
            BadRequest: the application is asked about it, and no client.
        """
        session = session_of(connection)
        if session.is_asked_about:
            raise BadRequest
        try:
            claims = await self._verifier.connection(request.token, self._clock())
        except TokenExpired:
            raise ConnectionExpired from None
        if claims.user != session.user:
            raise InvalidToken
        if set(claims.subscriptions) != set(session.token_channels):
            raise InsufficientState
        session.has_token = True
        self._become(session, claims)
        return RefreshResult(
            expires=session.expire_at != 0, ttl=seconds_until(session.expire_at, self._clock())
        )

    async def ask_again(self, connection: Connection) -> None:
        """Let the client stay as long as the application says.

        Raises:
            ConnectionExpired: not at all.
        """
        session, hook = session_of(connection), self._hooks.refresh
        if hook is None:  # another release knew one
            raise ConnectionExpired
        try:
            asked = hook(connection)
            identity = await asked if isinstance(asked, Awaitable) else asked
        except Disconnect:
            raise
        except Exception as error:
            # An application that is away for a minute must not cut its clients off.
            if not isinstance(error, InternalError):
                logger.exception("on_refresh failed")
            session.lasts_until(self._clock() + ASK_AGAIN)
            return
        if not identity or identity.user != session.user or self._is_over(identity):
            raise ConnectionExpired
        session.lasts_until(identity.expire_at)
        if identity.info is not None:
            session.conn_info = encoded(identity.info)
        if identity.meta is not None:
            session.meta = encoded(identity.meta)

    def _is_over(self, identity: Identity) -> bool:
        return 0 < identity.expire_at <= self._clock()

    async def _claims(self, connection: Connection, request: Connect) -> ConnectionClaims:
        settings, user = self._settings, connection.user
        if request.token:
            claims = await self._verifier.connection(request.token, self._clock())
            if user is not None and claims.user != user:
                raise InvalidToken
            if claims.user == ANONYMOUS and not (settings.allow_anonymous or settings.insecure):
                raise PermissionDenied
            return claims
        if user is None and self._hooks.who is not None:
            asked = self._hooks.who(connection, request)
            identity = await asked if isinstance(asked, Awaitable) else asked
            if identity:
                return _claims_of(identity)
        if user is None and not (settings.allow_anonymous or settings.insecure):
            raise BadRequest
        return ConnectionClaims(user or ANONYMOUS)

    def _become(self, session: Session, claims: ConnectionClaims) -> None:
        session.user = claims.user
        session.conn_info = claims.info
        session.lasts_until(claims.expire_at or 0)
        session.meta = claims.meta
        session.token_id = claims.token_id
        session.issued_at = claims.issued_at
        session.token_channels = tuple(claims.subscriptions)

    def _server_side(
        self, session: Session, claims: ConnectionClaims, request: Connect
    ) -> dict[str, Grant]:
        grants = dict.fromkeys(session.channels, _SERVER_SIDE)
        if self._settings.shutdown_notice_channel:
            grants[self._settings.shutdown_notice_channel] = _SERVER_SIDE
        personal = self._channels.personal_channel(session.user)
        if personal is not None:
            grants[personal] = _SERVER_SIDE
        for channel, each in claims.subscriptions.items():
            grants[channel] = Grant(
                server_side=True, info=each.info, data=each.data, override=each.override
            )
        for channel in request.subs:
            # More than what the server gives is a wish, and silence its refusal.
            if channel not in grants and self._may_have(channel, session.user):
                grants[channel] = _SERVER_SIDE
        if len(grants) > self._settings.max_channels:
            raise ChannelLimit
        return grants

    def _may_have(self, channel: str, user: str) -> bool:
        has_hook = self._hooks.for_subscribe(channel) is not None
        try:
            access = self._channels.may_subscribe(channel, user, has_token=False, has_hook=has_hook)
        except UnknownChannel:
            raise BadRequest from None
        except BadCommand:
            return False
        return access is Access.GRANTED


def _claims_of(identity: Identity) -> ConnectionClaims:
    return ConnectionClaims(
        identity.user,
        expire_at=identity.expire_at or None,
        info=encoded(identity.info),
        data=encoded(identity.data),
        meta=encoded(identity.meta),
        subscriptions={
            channel: ServerSubscription(
                info=encoded(permit.info), data=encoded(permit.data), override=permit.override
            )
            for channel, permit in identity.permits().items()
        },
    )


def _wish(channel: str, request: Connect) -> Wish:
    has = request.subs.get(channel)
    recovers = has is not None and has.recover
    since = StreamPosition(has.offset, has.epoch) if has is not None and recovers else None
    return Wish(channel, Asked(recoverable=True), since)
