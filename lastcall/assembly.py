"""Puts the parts of a worker together; nothing runs yet."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lastcall.announcements import Announcements
from lastcall.broker.base import Broker
from lastcall.commands import Commands
from lastcall.connection_manager import ConnectionManager, connection_limit
from lastcall.crowd import Crowd
from lastcall.deltas import Deltas
from lastcall.emulation import Emulation
from lastcall.everyone import Everyone
from lastcall.heartbeat import Heart
from lastcall.hub import Hub, Later
from lastcall.interest import Interest
from lastcall.node import ThisNode
from lastcall.peers import Peers
from lastcall.protocol.base import ClientProtocol
from lastcall.protocol.centrifuge_json import CentrifugeJson
from lastcall.protocol.centrifuge_protobuf import CentrifugeProtobuf
from lastcall.protocol.centrifuge_uni import CentrifugeUni
from lastcall.protocol.plain_text import PlainText
from lastcall.revocation_file import RevocationFile
from lastcall.revoking import Revoking
from lastcall.rulebook import Rulebook
from lastcall.server_methods import ServerMethods
from lastcall.session import Timing
from lastcall.session_channels import SessionChannels
from lastcall.session_commands import SessionCommands
from lastcall.session_presence import Presence
from lastcall.sessions import Sessions
from lastcall.subscribing import Subscribing
from lastcall.user_orders import UserOrders
from lastcall.worker import Worker
from lastcall.worker_coordinator import Coordinator


@dataclass(frozen=True, slots=True)
class Loop:
    """What parts without a task of their own need of what runs them."""

    later: Later
    """Calls at the end of the turn."""
    changed: Callable[[], object]
    """Hears that a connection came or went."""
    turns_away: Callable[[], bool] = lambda: False
    """Whether clients that come back by themselves shall do so later."""
    revocation_file: RevocationFile | None = None
    """Where revocations outlive all workers; None: they do not."""
    machine: str = ""
    """How this host is called among those of the server; empty: it is the only one."""


def assemble(
    rules: Rulebook, commands: Commands, loop: Loop, broker: Broker, coordinator: Coordinator
) -> Worker:
    """Make a worker that serves by *rules*."""
    settings, hub = rules.settings, Hub(loop.later)
    interest, connections = Interest(broker, hub), ConnectionManager(hub, loop.changed)
    everyone = _everyone(broker, hub, interest, Peers(coordinator, loop.machine), connections)
    crowd, revoking = _guards(rules, everyone, connections, loop)
    presence = Presence(broker, hub, everyone, loop.later)
    session_channels = SessionChannels(rules, Subscribing(broker, hub, interest), presence)
    orders = UserOrders(rules, everyone, connections, commands, session_channels)
    methods = ServerMethods(rules, broker, everyone, presence, orders=orders, revoking=revoking)
    return Worker(
        rules=rules,
        broker=broker,
        hub=hub,
        connections=connections,
        heart=Heart(connections, settings.heartbeat_interval, settings.heartbeat),
        commands=commands,
        interest=interest,
        everyone=everyone,
        crowd=crowd,
        revoking=revoking,
        emulation=Emulation(broker, hub, interest, everyone.peers, loop.later),
        sessions=_sessions(rules, commands, broker, presence, session_channels, crowd=crowd),
        server_methods=methods,
        protocols=_by_name(PlainText(), *_centrifuge(rules)),
        announcements=Announcements(settings.announcement_rate),
        coordinator=coordinator,
        max_connections=settings.max_connections or connection_limit(),
    )


def _everyone(
    broker: Broker,
    hub: Hub,
    interest: Interest,
    peers: Peers,
    connections: ConnectionManager,
) -> Everyone:
    everyone = Everyone(broker, hub, interest, peers)
    ThisNode(hub, connections, everyone)
    return everyone


def _guards(
    rules: Rulebook, everyone: Everyone, connections: ConnectionManager, loop: Loop
) -> tuple[Crowd, Revoking]:
    """Who knows how many there may be, and who knows whose token is good no more."""
    return (
        Crowd(rules.settings, everyone, loop.turns_away),
        Revoking(everyone, rules.tokens.revocations, connections, loop.revocation_file),
    )


def _by_name(*protocols: ClientProtocol) -> dict[str, ClientProtocol]:
    return {protocol.name: protocol for protocol in protocols}


def _centrifuge(rules: Rulebook) -> Iterator[ClientProtocol]:
    settings, deltas = rules.settings, Deltas()
    for kind in (CentrifugeJson, CentrifugeProtobuf, CentrifugeUni):
        yield kind(
            rules.channels.has_history,
            settings.shutdown_notice_channel,
            settings.max_commands,
            deltas,
        )


def _sessions(
    rules: Rulebook,
    commands: Commands,
    broker: Broker,
    presence: Presence,
    channels: SessionChannels,
    *,
    crowd: Crowd,
) -> Sessions:
    requests = SessionCommands(rules, broker, presence, channels, crowd)
    timing = Timing(
        stale=rules.settings.stale_delay,
        ping=rules.settings.ping_interval,
        pong=rules.settings.pong_timeout,
        expired=rules.settings.expired_delay,
    )
    return Sessions(commands, requests, timing)
