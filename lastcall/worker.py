"""The parts of this process, and what the events of one part mean to the others."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lastcall.announcements import Announcements, Change, summary
from lastcall.broker.base import Broker, StreamPosition, not_owed
from lastcall.commands import Commands
from lastcall.connection import Connection, ConnectionOwner
from lastcall.connection_manager import ConnectionManager
from lastcall.crowd import Crowd
from lastcall.emulation import Emulation
from lastcall.everyone import Everyone
from lastcall.heartbeat import Heart
from lastcall.hooks import Endpoints
from lastcall.hub import Hub
from lastcall.interest import Interest
from lastcall.metrics import code_label, render
from lastcall.protocol.base import ClientProtocol, Command, Send
from lastcall.revoking import Revoking
from lastcall.roster import Sign
from lastcall.rulebook import Rulebook
from lastcall.server_methods import ServerMethods
from lastcall.sessions import Sessions
from lastcall.settings import Settings
from lastcall.worker_coordinator import Coordinator

if TYPE_CHECKING:
    import asyncio

MAX_RECORDED_CHANNELS = 8
"""Channels whose clients are accounted for if this worker is killed: its record is of one size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """Everything that serves this process's clients, put together by `Lastcall.run`."""

    rules: Rulebook
    broker: Broker
    hub: Hub
    connections: ConnectionManager
    heart: Heart
    commands: Commands
    interest: Interest
    everyone: Everyone
    crowd: Crowd
    revoking: Revoking
    emulation: Emulation
    sessions: Sessions
    server_methods: ServerMethods
    """What the application can ask for from outside."""
    protocols: Mapping[str, ClientProtocol]
    """What clients can speak here, by name."""
    announcements: Announcements
    coordinator: Coordinator
    max_connections: int
    announced: Counter[str] = field(default_factory=Counter)
    """How many clients each channel has been told of, for those who would have to say they left."""
    counted: Counter[str] = field(default_factory=Counter)
    """What has happened so far, by the names of the metrics."""
    announcing: "set[asyncio.Future[StreamPosition]]" = field(default_factory=set)
    """Announcements that are on their way."""

    @property
    def settings(self) -> Settings:
        """By which it serves."""
        return self.rules.settings

    @property
    def endpoints(self) -> Endpoints:
        """The application's functions."""
        return self.rules.endpoints

    @property
    def is_full(self) -> bool:
        """Whether this worker has as many connections as it may have."""
        return self.connections.count_with_expected >= self.max_connections

    async def join_the_others(self) -> None:
        """Hear the other workers, and learn what has to be known."""
        await self.everyone.start()
        await self.emulation.start()
        await self.revoking.learn()
        await self.crowd.learn()

    def connected(self, connection: Connection) -> None:
        """The client is there: count it, tell the others, tell the application."""
        self.connections.connect(connection)
        self.crowd.came(connection)
        self._watch(connection)
        self._announce(connection, Change.CONNECTED)
        hook = self.endpoints[connection.endpoint].on_connect
        if hook is not None:
            self.commands.call(connection, lambda: hook(connection))

    def adopted(self, connection: Connection) -> None:
        """The client has been here before, on another worker: nobody has to hear of it."""
        self.connections.adopt(connection)
        self.connections.sets_out(connection)
        self.crowd.came(connection)
        self._watch(connection)
        self.counted["handover_received_total"] += 1
        self._account_for(connection, 1)

    def offered(self, connection: Connection) -> None:
        """The client may be another worker's soon: were we killed, it would not be gone with us."""
        self.connections.sets_out(connection)
        self._account_for(connection, -1)

    def kept(self, connection: Connection) -> None:
        """The client that was offered is ours."""
        self._account_for(connection, 1)

    def arrived(
        self, connection: Connection, heard: StreamPosition | None, beat: float | None
    ) -> None:
        """The client can be spoken to, here or here again: tell it what it missed on its way."""
        self.connections.arrived(connection)
        self.heart.arrived(connection, beat)
        if heard is not None:
            self.everyone.catch_up(connection, heard)
        self.revoking.check(connection)

    def moved(self, connection: Connection) -> None:
        """The client that was offered is another worker's: forget it, as if it had never been."""
        connection.is_gone = True
        self.connections.disconnect(connection)
        self.crowd.left(connection)
        self.commands.forget(connection)
        self.interest.stop_listening(connection.channels)

    def commanded(self, connection: Connection, command: Command) -> None:
        """The client asks for something."""
        self.commands.limit_rate(connection)
        if isinstance(command, Send):
            self.commands.received(connection, command)
        else:
            self.sessions.received(connection, command)

    def ended(self, connection: Connection, code: int) -> None:
        """The client is gone: forget it, tell the others, tell the application."""
        self.counted[f"connections_closed_total:{code_label(code)}"] += 1
        self.connections.disconnect(connection)
        self.crowd.left(connection)
        self.commands.forget(connection)
        self._announce(connection, Change.DISCONNECTED)
        if connection.session is not None:
            self.sessions.ended(connection)
        self.interest.stop_listening(connection.channels)
        hook = self.endpoints[connection.endpoint].on_disconnect
        if hook is not None:
            self.commands.call(connection, lambda: hook(connection, code))

    def lost(self, connection: Connection, channel: str) -> None:
        """There is a gap: who holds a position has to know; who holds none cannot miss it."""
        if connection.session is not None:
            self.sessions.lost(connection, channel)

    def flush(self) -> None:
        """Write what was published already."""
        self.hub.flush()

    def record(self) -> None:
        """Let the other workers know who is here; called once in a turn in which that changed."""
        self.coordinator.update(
            connections=self.connections.count,
            announced=self._most_announced(),
        )

    def _most_announced(self) -> dict[str, int]:
        return dict(self.announced.most_common(MAX_RECORDED_CHANNELS))

    def record_counts(self) -> None:
        """Let whoever is asked for metrics know what has happened here."""
        hub = self.hub
        counts: dict[str, float] = {**self.counted, **self.crowd.refused}
        counts["connections_opened_total"] = self.connections.opened
        counts["publications_total"] = hub.counts.publications
        counts["deliveries_total"] = hub.counts.deliveries
        counts["replayed_total"] = hub.counts.replayed
        counts["broker_available"] = int(hub.is_available)
        self.coordinator.update(connections=self.connections.count, counts=counts)

    def metrics(self) -> str:
        """What all workers of this server count, in the text format of Prometheus."""
        self.record_counts()
        return render(self.coordinator.known())

    def give_sign(self) -> None:
        """Let the workers of other hosts know how this one is."""
        self.everyone.give_sign(self._most_announced())

    def next_second(self) -> None:
        """What is due once a second."""
        self.commands.next_second()
        self.sessions.next_second()
        self.crowd.next_second()
        self.record_counts()
        self.coordinator.beat()
        for record in self.coordinator.claim_dead():
            # A killed worker could not say that its clients left; one of the others says it.
            for channel, number in record.announced.items():
                self.announcements.count(channel, number, Change.DISCONNECTED)
            self.everyone.bury(record.pid)
        for sign in self.everyone.next_second(self._most_announced()):
            self._announce_fallen(sign)
        for channel, line in self.announcements.next_second():
            self._tell(channel, line)

    def last_words(self) -> "set[asyncio.Future[StreamPosition]]":
        """Tell what has to be told before this worker is gone; what is on its way to the others."""
        for channel, line in self.announcements.next_second():
            self._tell(channel, line)
        parting = self.everyone.part()
        if parting is not None:
            return {*self.announcing, parting}
        return set(self.announcing) if self.coordinator.siblings() else set()

    def _watch(self, connection: Connection) -> None:
        if connection.session is not None:
            self.sessions.watch(connection)

    def _announce(self, connection: Connection, change: Change) -> None:
        if not self._account_for(connection, 1 if change is Change.CONNECTED else -1):
            return
        channel, ended_by = connection.channels[0], connection.ended_by
        if ended_by is not None and ended_by.is_servers_own:
            return
        line = self.announcements.announce(channel, connection.remote, change)
        if line is not None:
            self._tell(channel, line)

    def _account_for(self, connection: Connection, change: int) -> bool:
        """Count a client that is announced in its first channel; False: none is."""
        if not self.settings.announcements or not connection.channels:
            return False
        if connection.session is not None:
            return False  # its channels have joins and leaves for that
        channel = connection.channels[0]
        self.announced[channel] += change
        if not self.announced[channel]:
            del self.announced[channel]
        return True

    def _announce_fallen(self, sign: Sign) -> None:
        """All workers of a host may have died at once; those of the others say it, only once."""
        for channel, number in sign.announced.items():
            line = summary(number, Change.DISCONNECTED).encode()
            key = f"fallen {sign.name}"
            self.broker.publish(channel, line, idempotency_key=key).add_done_callback(not_owed)

    def _tell(self, channel: str, line: str) -> None:
        # An announcement that cannot be carried is not owed to anybody.
        told = self.broker.publish(channel, line.encode())
        told.add_done_callback(not_owed)
        self.announcing.add(told)
        told.add_done_callback(self.announcing.discard)


if TYPE_CHECKING:
    _: type[ConnectionOwner] = Worker
