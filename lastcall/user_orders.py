"""What the application wants done to the connections of a user, wherever they are.

An order goes to every worker, and each does it to the connections that it has at that moment; those
that are on their way between two workers are told when they have arrived (`order_memory`).
Nothing is remembered for those that come later.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import msgspec
from msgspec import UNSET

from lastcall.broker.base import StreamPosition
from lastcall.channel_options import Override
from lastcall.channels import Asked
from lastcall.close_words import is_plain, may_close_with
from lastcall.commands import Commands
from lastcall.connection import Connection
from lastcall.connection_manager import ConnectionManager
from lastcall.errors import (
    BadCommand,
    BrokerUnavailable,
    ChannelLimit,
    ClosedByApplication,
    ConnectionExpired,
    ForceDisconnect,
    Refused,
)
from lastcall.everyone import Everyone
from lastcall.json_values import value_or_none
from lastcall.protocol.centrifuge import (
    SERVER_UNSUBSCRIBE,
    Json,
    Push,
    Refreshed,
    Subscribed,
    SubscribeResult,
)
from lastcall.rulebook import Rulebook
from lastcall.server_api import CloseReason, Disconnect, Refresh, Subscribe, Unsubscribe
from lastcall.session import Stage
from lastcall.session_channels import Grant, SessionChannels, Wish, seconds_until
from lastcall.sessions import protocol_of, session_of
from lastcall.subscribing import Gone

logger = logging.getLogger(__name__)

type Order = Subscribe | Unsubscribe | Disconnect | Refresh
type Among = Iterable[Connection]


class UserOrders:
    """Gives orders to all workers, and carries out those that come."""

    def __init__(
        self,
        rules: Rulebook,
        everyone: Everyone,
        connections: ConnectionManager,
        commands: Commands,
        session_channels: SessionChannels,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Hear the orders that *everyone* is told."""
        self._channels = rules.channels
        self._max_channels = rules.settings.max_channels
        self._everyone = everyone
        self._connections = connections
        self._commands = commands
        self._session_channels = session_channels
        self._clock = clock
        self._carry_out(Subscribe, self._subscribe)
        self._carry_out(Unsubscribe, self._unsubscribe)
        self._carry_out(Disconnect, self._disconnect)
        self._carry_out(Refresh, self._refresh)

    async def give(self, order: Order) -> None:
        """Let every worker carry *order* out.

        Raises:
            UnknownChannel, BadCommand: it cannot be carried out.
            BrokerUnavailable: nobody was told.
        """
        match order:
            case Subscribe():
                self._channels.options(order.channel)
                order = _with_values(order)
            case Unsubscribe(channel=channel) if channel:
                self._channels.options(channel)
            case Disconnect(disconnect=CloseReason() as how):
                _require_closable(how)
            case Refresh():
                order = msgspec.structs.replace(order, info=value_or_none(order.info, ""))
            case _:
                pass
        await self._everyone.tell(_name(type(order)), msgspec.json.encode(order))

    def _carry_out(self, kind: type[Any], do: Callable[[Any, Among], None]) -> None:
        decoder = msgspec.json.Decoder(kind)

        def carry_out(body: bytes, only: Connection | None) -> None:
            do(decoder.decode(body), self._connections.settled if only is None else [only])

        self._everyone.on_order(_name(kind), carry_out)

    # --- on this worker

    def _subscribe(self, order: Subscribe, among: Among) -> None:
        # In line with what the client asked for: its own subscribe may be under way.
        for connection in self._with_sessions(order, among):
            self._commands.call(connection, partial(self._enter, connection, order))

    async def _enter(self, connection: Connection, order: Subscribe) -> None:
        session, channel = session_of(connection), order.channel
        if _is_over(connection) or channel in session.subscriptions:
            return
        if len(session.subscriptions) >= self._max_channels:
            connection.disconnect(ChannelLimit())
            return
        try:
            held = await self._session_channels.hold(connection, _wish(order), _grant(order))
        except Gone:
            return
        except (BrokerUnavailable, Refused) as why:
            logger.warning("a client could not be subscribed to %r as ordered: %s", channel, why)
            return
        # From here on in one tick, so that nothing comes before it.
        self._tell(connection, channel, self._session_channels.go_live(connection, held))

    def _tell(self, connection: Connection, channel: str, result: SubscribeResult) -> None:
        subscribed = Subscribed(
            recoverable=result.recoverable,
            epoch=result.epoch,
            offset=result.offset,
            positioned=result.positioned,
            data=result.data,
        )
        pushes = [Push(channel, subscribed), *(Push(channel, each) for each in result.publications)]
        for push in pushes:
            connection.say(protocol_of(connection).push(push))

    def _unsubscribe(self, order: Unsubscribe, among: Among) -> None:
        for connection in self._with_sessions(order, among):
            self._commands.call(connection, partial(self._leave, connection, order.channel))

    def _leave(self, connection: Connection, channel: str) -> None:
        if _is_over(connection):
            return
        for each in [channel] if channel else list(session_of(connection).subscriptions):
            if self._session_channels.end(connection, each):
                connection.say(protocol_of(connection).push(Push(each, SERVER_UNSUBSCRIBE)))

    def _disconnect(self, order: Disconnect, among: Among) -> None:
        how, spared = order.disconnect, order.whitelist or ()
        why = ForceDisconnect() if how is None else ClosedByApplication(how.code, how.reason)
        for connection in self._of(order, among):
            if connection.session is None or connection.session.client not in spared:
                connection.disconnect(why)

    def _refresh(self, order: Refresh, among: Among) -> None:
        now = self._clock()
        if order.expired or 0 < order.expire_at <= now:
            for connection in self._of(order, among):
                connection.disconnect(ConnectionExpired())
            return
        refreshed = Refreshed(order.expire_at != 0, seconds_until(order.expire_at, now))
        for connection in self._with_sessions(order, among):
            session = session_of(connection)
            session.lasts_until(order.expire_at)
            if order.info is not UNSET:
                session.conn_info = bytes(order.info)
            connection.say(protocol_of(connection).push(Push("", refreshed)))

    def _with_sessions(self, order: Order, among: Among) -> Iterator[Connection]:
        for connection in self._of(order, among):
            session = connection.session
            if session is not None and session.stage is Stage.CONNECTED:
                yield connection

    def _of(self, order: Order, among: Among) -> Iterator[Connection]:
        for connection in among:
            session = connection.session
            client, key = (session.client, session.key) if session is not None else ("", "")
            if (
                (connection.user or "") == order.user
                and order.client in {"", client}
                and order.session in {"", key}
                and not _is_over(connection)
            ):
                yield connection


def _name(kind: type[Any]) -> str:
    return f"order: {kind.__name__}"


def _is_over(connection: Connection) -> bool:
    return connection.is_gone or connection.ended_by is not None


def _with_values(order: Subscribe) -> Subscribe:
    return msgspec.structs.replace(
        order,
        info=value_or_none(order.info, order.b64info),
        b64info="",
        data=value_or_none(order.data, order.b64data),
        b64data="",
    )


def _wish(order: Subscribe) -> Wish:
    since = order.recover_since
    return Wish(
        order.channel,
        Asked(recoverable=True),
        StreamPosition(since.offset, since.epoch) if since is not None else None,
    )


def _grant(order: Subscribe) -> Grant:
    return Grant(
        server_side=True,
        info=_bytes(order.info),
        data=_bytes(order.data),
        expire_at=order.expire_at,
        override=order.override or Override(),
    )


def _bytes(value: Json) -> bytes:
    return b"" if value is UNSET else bytes(value)


def _require_closable(how: CloseReason) -> None:
    """Make sure that a client can be told so.

    Raises:
        BadCommand: it cannot.
    """
    if not (may_close_with(how.code) and is_plain(how.reason)):
        raise BadCommand
