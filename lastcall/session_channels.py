"""The channels of a session: in by the rules of the channel, out again, and who is told of it."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec
from msgspec import Raw

from lastcall.broker.base import Publication, StreamPosition
from lastcall.channel_options import Override
from lastcall.channels import NO_OVERRIDE, NOTHING_ASKED, Asked, Features
from lastcall.connection import Connection
from lastcall.errors import Unrecoverable
from lastcall.protocol.centrifuge import SubscribeResult, joins_of
from lastcall.rulebook import Rulebook
from lastcall.session import Subscription
from lastcall.session_presence import Presence
from lastcall.sessions import json_value, protocol_of, session_of
from lastcall.subscribing import Entry, Heard, Subscribing
from lastcall.wire_format import by_deltas


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client would like of a subscription."""

    channel: str
    asked: Asked = NOTHING_ASKED
    since: StreamPosition | None = None
    """Where it stood when it was here last."""
    or_nothing: bool = False
    """Rather an error than a gap."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What was decided about it."""

    server_side: bool = False
    info: bytes = b""
    data: bytes = b""
    expire_at: float = 0
    override: Override = NO_OVERRIDE


NO_MORE = Grant()


@dataclass(frozen=True, slots=True)
class Held:
    """A channel that waits for `SessionChannels.go_live`."""

    wish: Wish
    grant: Grant
    features: Features
    entry: Entry
    joins: Entry | None


class SessionChannels:
    """Lets sessions into channels and out of them."""

    def __init__(
        self,
        rules: Rulebook,
        subscribing: Subscribing,
        presence: Presence,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Go by *rules*."""
        self._channels = rules.channels
        self._subscribing = subscribing
        self._presence = presence
        self._max_recovered = rules.settings.max_recovered
        self._clock = clock

    async def hold(self, connection: Connection, wish: Wish, grant: Grant = NO_MORE) -> Held:
        """Make a channel ready to go live for *connection*.

        Raises:
            BrokerUnavailable: it cannot be heard now.
            Gone: the client left meanwhile.
        """
        features = self._channels.features(
            wish.channel, session_of(connection).user, asked=wish.asked, override=grant.override
        )
        since = wish.since if features.recoverable else None
        options = self._channels.options(wish.channel)
        latest_only = options.force_recovery_mode == "cache"
        # What is published while the latest one is read is not too much to read.
        size = self._max_recovered if latest_only else options.history_size
        limit = min(size, self._max_recovered)
        entry = await self._subscribing.enter(
            connection, wish.channel, since, limit, latest_only=latest_only
        )
        joins = None
        if features.push_join_leave:
            try:
                joins = await self._subscribing.enter(connection, joins_of(wish.channel), None, 0)
            except BaseException:
                self._subscribing.leave(connection, wish.channel)
                raise
        return Held(wish, grant, features, entry, joins)

    def go_live(self, connection: Connection, held: Held) -> SubscribeResult:
        """Let the client hear the channel; its reply has to be written in this tick.

        Raises:
            Unrecoverable: it wanted all or nothing, and there is a gap.
        """
        wish, grant, features = held.wish, held.grant, held.features
        subscriptions = session_of(connection).subscriptions
        # Before it is live: whether it hears deltas is what the hub has to know.
        subscriptions[wish.channel] = _subscription(features, grant)
        heard = self._subscribing.go_live(held.entry)
        if wish.or_nothing and held.entry.since is not None and not heard.recovered:
            del subscriptions[wish.channel]
            self._leave(connection, wish.channel)
            raise Unrecoverable
        if held.joins is not None:
            self._subscribing.go_live(held.joins)
        if features.join_leave:
            self._presence.joined(connection, wish.channel)
        result = SubscribeResult(
            recoverable=features.recoverable,
            was_recovering=held.entry.since is not None,
            delta=features.delta,
            expires=grant.expire_at != 0,
            ttl=seconds_until(grant.expire_at, self._clock()),
            data=json_value(grant.data),
        )
        if not features.positioned:
            return result
        told = bodies(connection, heard.publications, deltas=features.delta)
        return _with_position(result, heard, told)

    def end(self, connection: Connection, channel: str) -> bool:
        """Let the client hear the channel no more; False: it did not."""
        subscriptions = session_of(connection).subscriptions
        if channel not in subscriptions:
            return False
        if subscriptions[channel].join_leave:
            self._presence.left(connection, channel)
        del subscriptions[channel]
        self._leave(connection, channel)
        return True

    def ended(self, connection: Connection) -> None:
        """The client is gone, and out of every channel."""
        for channel, subscription in session_of(connection).subscriptions.items():
            if subscription.join_leave:
                self._presence.left(connection, channel)

    def _leave(self, connection: Connection, channel: str) -> None:
        self._subscribing.leave(connection, channel)
        self._subscribing.leave(connection, joins_of(channel))


def seconds_until(at: float, now: float) -> int:
    """Whole seconds until *at*, one at least; 0 if that is never."""
    return max(1, math.ceil(at - now)) if at else 0


def bodies(
    connection: Connection, publications: Iterable[Publication], *, deltas: bool = False
) -> list[Raw]:
    """Publications as they stand in a reply; the first is whole, and others may be *deltas*."""
    protocol = protocol_of(connection)
    if deltas:
        publications = by_deltas(protocol, publications, None)
    return [Raw(protocol.body(each)) for each in publications]


def _with_position(result: SubscribeResult, heard: Heard, told: list[Raw]) -> SubscribeResult:
    return msgspec.structs.replace(
        result,
        positioned=True,
        epoch=heard.position.epoch,
        offset=heard.position.offset,
        recovered=heard.recovered,
        publications=told,
    )


def _subscription(features: Features, grant: Grant) -> Subscription:
    return Subscription(
        server_side=grant.server_side,
        presence=features.presence,
        join_leave=features.join_leave,
        positioned=features.positioned,
        recoverable=features.recoverable,
        push_join_leave=features.push_join_leave,
        chan_info=grant.info,
        expire_at=grant.expire_at,
        delta=features.delta,
    )
