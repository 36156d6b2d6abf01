"""Who is in a channel, on all workers; and that they come and go.

Each worker knows its own clients and no others: who asks, asks all workers. So nothing has to be
kept alive or taken back, and who was killed is not there.
"""

import msgspec

from lastcall.broker.base import Broker, Kind, not_owed
from lastcall.connection import Connection
from lastcall.everyone import Everyone
from lastcall.hub import Hub, Later
from lastcall.protocol.centrifuge import ClientIdentity, joins_of
from lastcall.session import Session
from lastcall.sessions import json_value, session_of

_decode = msgspec.json.Decoder(list[ClientIdentity]).decode


class Presence:
    """The presence of this worker's sessions, and the way to that of all."""

    def __init__(self, broker: Broker, hub: Hub, everyone: Everyone, later: Later) -> None:
        """Tell joins and leaves over *broker*, at the end of a turn; answer *everyone*."""
        self._broker = broker
        self._hub = hub
        self._everyone = everyone
        self._later = later
        everyone.on("presence", lambda channel: self._here(channel.decode()))

    async def clients(self, channel: str) -> dict[str, ClientIdentity]:
        """Who is in *channel*, by connection.

        Raises:
            BrokerUnavailable: only this worker's clients could be known.
        """
        answers = await self._everyone.ask("presence", channel.encode())
        return {info.client: info for answer in answers for info in _decode(answer)}

    def joined(self, connection: Connection, channel: str) -> None:
        """Tell those who want to know; they hear it after what is being answered just now."""
        self._tell(channel, b"join", client_info(session_of(connection), channel))

    def left(self, connection: Connection, channel: str) -> None:
        """Tell those who want to know; the session still has the subscription."""
        self._tell(channel, b"leave", client_info(session_of(connection), channel))

    def _here(self, channel: str) -> bytes:
        infos = []
        for connection in self._hub.subscribers(channel):
            session = connection.session
            if session is None or connection.is_gone or connection.ended_by is not None:
                continue  # a client that does not answer our close either is here for a while
            subscription = session.subscriptions.get(channel)
            if subscription is not None and subscription.presence:
                infos.append(client_info(session, channel))
        return msgspec.json.encode(infos)

    def _tell(self, channel: str, what: bytes, info: ClientIdentity) -> None:
        body = b'"%b":{"info":%b}' % (what, msgspec.json.encode(info))

        def tell() -> None:
            told = self._broker.publish(joins_of(channel), body, kind=Kind.JSON)
            # A join that cannot be told is not owed to anybody.
            told.add_done_callback(not_owed)

        self._later(tell)


def client_info(session: Session, channel: str) -> ClientIdentity:
    """What others may know of a client in *channel*."""
    subscription = session.subscriptions.get(channel)
    chan_info = subscription.chan_info if subscription is not None else b""
    return ClientIdentity(
        session.client, session.user, json_value(session.conn_info), json_value(chan_info)
    )
