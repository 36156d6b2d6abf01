"""What clients say by requests that come to any worker: it is heard where their stream is."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.abc import TaskStatus

from lastcall import emulation
from lastcall.broker.base import Publication, StreamPosition
from lastcall.broker.memory import MemoryBroker
from lastcall.channels import EMULATED, ChannelRetention
from lastcall.connection import Connection
from lastcall.emulation import Emulation, UnknownNode
from lastcall.errors import BrokerUnavailable
from lastcall.hub import Hub
from lastcall.interest import Interest
from lastcall.peers import Peers, node_of
from lastcall.protocol.base import Message
from lastcall.protocol.said import Said
from lastcall.settings import Settings
from lastcall.worker_record import WorkerRecord
from tests.fakes import FakeCoordinator, RecordingOwner, connect

pytestmark = pytest.mark.anyio


def said(session: str, node: str, text: str) -> Said:
    return Said(session, node, Message(text.encode()))


class Mouth:
    """A transport with room for *room* messages."""

    def __init__(self, room: int = 100) -> None:
        self.taken: list[bytes] = []
        self.is_binary = False
        self._room = room

    def take(self, message: Message, /) -> bool:
        if len(self.taken) == self._room:
            return False
        self.taken.append(message.data)
        self.is_binary = message.binary
        return True


class Bus(MemoryBroker):
    """Carries what is published to every worker; it may be away at first."""

    def __init__(self) -> None:
        super().__init__(ChannelRetention(Settings()))
        self.hubs: list[Hub] = []
        self.refuses = 0

    async def subscribe(self, channel: str) -> StreamPosition:
        if self.refuses:
            self.refuses -= 1
            raise BrokerUnavailable("away")
        return await super().subscribe(channel)

    def deliver(self, publication: Publication) -> None:
        for hub in self.hubs:
            hub.deliver(publication)

    def reset(self, channel: str, position: StreamPosition) -> None:
        raise AssertionError((channel, position))

    def available(self, yes: bool) -> None:  # noqa: FBT001  (the broker's word)
        for hub in self.hubs:
            hub.available(yes)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            await tasks.start(self._run)
            yield
            tasks.cancel_scope.cancel()

    async def _run(self, *, task_status: TaskStatus[None]) -> None:
        await self.run(self, task_status=task_status)


class Worker:
    """One that has clients, and knows its siblings."""

    def __init__(self, bus: Bus, pid: int) -> None:
        self.turn: list[Callable[[], None]] = []
        self.hub = Hub(self.turn.append)
        bus.hubs.append(self.hub)
        self.record = WorkerRecord(pid, started=1)
        self.coordinator = FakeCoordinator()
        self.coordinator.known = lambda: [self.record]  # type: ignore[method-assign]
        interest = Interest(bus, self.hub)
        peers = Peers(self.coordinator)
        self.emulation = Emulation(bus, self.hub, interest, peers, self.turn.append)

    def client(self, room: int = 100) -> tuple[Connection, Mouth, str]:
        connection, _ = connect(RecordingOwner())
        mouth = Mouth(room)
        return connection, mouth, self.emulation.begin(connection, mouth)

    def end_turn(self) -> None:
        while self.turn:
            self.turn.pop(0)()


@pytest.fixture
async def workers() -> AsyncIterator[list[Worker]]:
    """Two that know each other."""
    bus = Bus()
    both = [Worker(bus, 1), Worker(bus, 2)]
    both[0].coordinator.others = [both[1].record]
    both[1].coordinator.others = [both[0].record]
    async with bus.running():
        for each in both:
            await each.emulation.start()
        yield both


async def test_it_is_heard_at_once_where_the_stream_is(workers: list[Worker]) -> None:
    emulation = workers[0].emulation
    _, mouth, session = workers[0].client()

    assert emulation.say(said(session, emulation.node, "hello")) is None
    assert mouth.taken == [b"hello"]


async def test_it_is_passed_on_in_order(workers: list[Worker]) -> None:
    here, there = workers
    _, mouth, session = there.client()
    for number in range(3):
        passed_on = here.emulation.say(said(session, there.emulation.node, str(number)))
        assert passed_on is not None
        await passed_on
    here.end_turn()
    assert mouth.taken == []
    there.end_turn()

    assert mouth.taken == [b"0", b"1", b"2"]


async def test_bytes_arrive_as_bytes(workers: list[Worker]) -> None:
    here, there = workers
    _, mouth, session = there.client()
    here.emulation.say(Said(session, there.emulation.node, Message(b"\xff", binary=True)))
    there.end_turn()

    assert (mouth.taken, mouth.is_binary) == ([b"\xff"], True)


async def test_it_is_heard_after_what_was_published_before(workers: list[Worker]) -> None:
    """The hub is in the middle of writing that when it comes."""
    here, there = workers
    _, mouth, session = there.client()
    here.emulation.say(said(session, there.emulation.node, "hello"))
    there.hub.flush()
    assert mouth.taken == []
    there.end_turn()

    assert mouth.taken == [b"hello"]


async def test_who_is_gone_is_not_heard_and_nobody_is_told(workers: list[Worker]) -> None:
    here, there = workers
    _, mouth, session = there.client()
    there.emulation.end(session)
    there.emulation.end(session)

    assert there.emulation.say(said(session, there.emulation.node, "late")) is None
    assert here.emulation.say(said(session, there.emulation.node, "late")) is not None
    assert here.emulation.say(said("guessed", here.emulation.node, "hello")) is None
    there.end_turn()
    assert mouth.taken == []


async def test_a_worker_that_is_not_there_is_unknown(workers: list[Worker]) -> None:
    """Also one with the same pid that came after it."""
    here, there = workers
    here.coordinator.others = [WorkerRecord(there.record.pid, started=2)]

    for node in (there.emulation.node, "", "another"):
        with pytest.raises(UnknownNode):
            here.emulation.say(said("s", node, "hello"))


async def test_who_says_more_than_is_done_is_let_go(workers: list[Worker]) -> None:
    here, there = workers
    connection, mouth, session = there.client(room=1)
    for _ in range(2):
        here.emulation.say(said(session, there.emulation.node, "hello"))
    there.end_turn()

    assert mouth.taken == [b"hello"]
    assert connection.ended_by is not None
    assert (connection.ended_by.code, connection.ended_by.reason) == (3013, "too many requests")


async def test_secrets_are_secret_and_names_tell_nothing(workers: list[Worker]) -> None:
    sessions = {workers[0].client()[2] for _ in range(100)}

    assert len(sessions) == 100
    assert min(map(len, sessions)) == 32
    assert node_of(WorkerRecord(1, started=1)) != node_of(WorkerRecord(1, started=2))
    assert len({each.emulation.node for each in workers}) == 2


async def test_a_broker_that_is_away_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulation, "RETRY_PAUSE", 0.01)
    bus = Bus()
    worker = Worker(bus, 1)
    bus.refuses = 2
    with anyio.fail_after(5):
        async with bus.running():
            await worker.emulation.start()

    assert bus.refuses == 0


def test_what_is_passed_on_is_not_kept_long() -> None:
    limits = ChannelRetention(Settings()).of(EMULATED + "node")

    assert (limits.size, limits.ttl) == (64, 10)
