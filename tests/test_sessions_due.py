"""A worker looks for what is due as soon as it may be, whatever it had planned before."""

from typing import Any

import pytest

from lastcall.commands import Commands
from lastcall.connection import Connection
from lastcall.errors import ConnectionExpired, Stale
from lastcall.hooks import Endpoints
from lastcall.protocol.centrifuge import Call, Connect, Empty, Publish, Refresh
from lastcall.protocol.centrifuge_json import CentrifugeJson
from lastcall.session import Session, Stage, Timing
from lastcall.sessions import Answer, Sessions, session_of
from tests.fakes import RecordingOwner, RecordingTransport, connect

TIMING = Timing(stale=10, ping=4, pong=3, expired=1)
EXPIRY = 3


class Requests:
    """Lets everybody in, for as long as each request says by its token."""

    def __init__(self, sessions: "Clock") -> None:
        self._clock = sessions

    def do(self, connection: Connection, request: Any, /) -> Answer:
        session = session_of(connection)
        session.stage = Stage.CONNECTED
        if isinstance(request, Connect):
            session.ping_at = self._clock() + 4
        if isinstance(request, Refresh):
            session.expire_at = self._clock() + EXPIRY
        return Empty()

    async def ask_again(self, connection: Connection, /) -> None:
        raise AssertionError(f"{connection} was asked about")

    def expired(self, connection: Connection, channel: str, /) -> None:
        raise AssertionError(f"{connection} has no {channel}")

    lost = expired

    def ended(self, connection: Connection, /) -> None:
        raise AssertionError(f"{connection} has not ended")


class Clock:
    """Both clocks; they say the same."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Scene:
    """One client, and the seconds that pass."""

    def __init__(self) -> None:
        self.clock = Clock()
        commands = Commands(Endpoints(), lambda _: None, lambda _, error: pytest.fail(str(error)))
        requests = Requests(self.clock)
        self.sessions = Sessions(commands, requests, TIMING, clock=self.clock, beat=self.clock)
        self.connection, self.transport = connect(RecordingOwner(), protocol=CentrifugeJson())
        self.connection.session = self.sessions.begin(())
        self.sessions.watch(self.connection)

    def ask(self, request: Any) -> None:
        self.sessions.received(self.connection, Call(1, request))

    def pass_by(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.now += 1
            self.sessions.next_second()


@pytest.fixture
def scene() -> Scene:
    return Scene()


def pings(transport: RecordingTransport) -> int:
    return transport.messages.count(b"{}")


def test_first_ping_is_not_late_because_the_client_could_have_been_stale(scene: Scene) -> None:
    scene.ask(Connect())
    scene.pass_by(5)

    assert pings(scene.transport) == 1


def test_end_that_a_fresh_token_brings_nearer_is_not_missed(scene: Scene) -> None:
    scene.ask(Connect())
    scene.ask(Refresh())
    scene.pass_by(EXPIRY + 2)

    assert isinstance(scene.connection.ended_by, ConnectionExpired)


def test_nothing_is_done_twice_because_it_was_planned_twice(scene: Scene) -> None:
    scene.ask(Connect())
    for _ in range(4):
        scene.ask(Refresh())
        scene.pass_by(2)
        session_of(scene.connection).pong()

    assert pings(scene.transport) == 1


def test_who_never_says_anything_is_let_go(scene: Scene) -> None:
    scene.pass_by(10)
    assert scene.connection.ended_by is None
    scene.pass_by(2)
    assert isinstance(scene.connection.ended_by, Stale)


def test_other_commands_plan_nothing(scene: Scene) -> None:
    scene.ask(Connect())
    planned = session_of(scene.connection).look_at
    scene.ask(Publish())

    assert session_of(scene.connection).look_at == planned


def test_plan_does_not_move() -> None:
    assert Session.load(Session(since=1, look_at=7).dump()).look_at == 0
