"""Workers of different hosts on one broker: they find, ask and bury each other."""

import asyncio
import platform
from collections.abc import AsyncIterator, Callable

import anyio
import anyio.lowlevel
import msgspec
import pytest

from lastcall import everyone, roster
from lastcall.assembly import Loop, assemble
from lastcall.commands import Commands
from lastcall.hub import Hub
from lastcall.interest import Interest
from lastcall.peers import Peers
from lastcall.rulebook import Rulebook
from lastcall.server_api import Nodes
from lastcall.settings import Settings
from lastcall.worker import Worker
from lastcall.worker_record import WorkerRecord
from lastcall.worker_status import StatusAnswer
from tests.fakes import FakeCoordinator, RecordingTransport, connect
from tests.test_emulation import Bus
from tests.test_peers import ManualClock

pytestmark = pytest.mark.anyio


class Host:
    """A host with one worker."""

    def __init__(self, bus: Bus, machine: str) -> None:
        self.coordinator = FakeCoordinator()
        self.coordinator.update(state="ready")
        rules = Rulebook.by(Settings(announcements=True, max_address_connections=1))
        commands = Commands(rules.endpoints, lambda coroutine: coroutine.close(), print)
        loop = Loop(later=self._later, changed=lambda: None, machine=machine)
        self.worker: Worker = assemble(rules, commands, loop, bus, self.coordinator)
        bus.hubs.append(self.worker.hub)
        self.worker.hub.available(yes=True)

    def _later(self, flush: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_soon(flush)

    async def join(self, channel: str) -> RecordingTransport:
        connection, transport = connect(self.worker, channel)
        await self.worker.interest.listen(connection.channels)
        self.worker.connected(connection)
        return transport

    @property
    def others(self) -> set[str]:
        return self.worker.everyone.peers.answering()


@pytest.fixture
async def hosts(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Host]]:
    """Three that have started one after the other."""
    monkeypatch.setattr(everyone, "GREETING", 0.05)
    bus = Bus()
    async with bus.running():
        three = [Host(bus, machine) for machine in ("a", "b", "c")]
        for each in three:
            await each.worker.everyone.start()
        yield three


async def turn_over() -> None:
    for _ in range(5):
        await anyio.lowlevel.checkpoint()


async def test_who_starts_knows_who_is_there_and_is_known(hosts: list[Host]) -> None:
    names = {each.worker.everyone.peers.name for each in hosts}
    assert len(names) == 3
    for each in hosts:
        assert each.others == names - {each.worker.everyone.peers.name}


async def test_all_are_asked_and_nobody_is_waited_for_in_vain(hosts: list[Host]) -> None:
    with anyio.fail_after(everyone.PATIENCE / 2):
        for each in hosts:
            answers = await each.worker.everyone.ask("node", b"")
            assert len({msgspec.json.decode(answer)["uid"] for answer in answers}) == 3
        assert len((await hosts[0].worker.server_methods.do(Nodes())).nodes) == 3  # type: ignore[union-attr]


async def test_each_says_how_it_is_and_whom_it_knows(hosts: list[Host]) -> None:
    """From the first answer on, who asks knows how many have to follow."""
    await hosts[1].join("news")
    hosts[1].worker.record()
    answers = await hosts[0].worker.everyone.ask(StatusAnswer.QUESTION, b"")
    read = [msgspec.json.decode(answer, type=StatusAnswer) for answer in answers]

    assert {each.host for each in read} == {platform.node()}
    assert {name for each in read for name in each.knows} == {
        each.worker.everyone.peers.name for each in hosts
    }
    assert sum(each.worker.connections or 0 for each in read) == 1


async def test_who_leaves_says_so_and_stays_gone(hosts: list[Host]) -> None:
    parting = hosts[2].worker.everyone.part()
    assert parting is not None
    await parting
    hosts[2].worker.next_second()
    await turn_over()

    assert [len(each.others) for each in hosts[:2]] == [1, 1]


async def test_who_begins_to_leave_is_known_to_leave_at_once(hosts: list[Host]) -> None:
    """Those who leave together share one pace: it must not be found out after seconds."""
    hosts[1].coordinator.update(state="draining")
    hosts[1].worker.give_sign()
    await turn_over()

    assert [each.worker.everyone.peers.leaving() for each in hosts] == [1, 0, 1]


async def test_a_worker_that_its_own_host_buries_is_gone_everywhere(hosts: list[Host]) -> None:
    here, _, there = hosts
    here.worker.everyone.peers.heard(roster.Sign("a/7", "n", "ready"))
    there.worker.everyone.peers.heard(roster.Sign("a/7", "n", "ready"))
    here.coordinator.dead = [WorkerRecord(7)]
    here.worker.next_second()
    await turn_over()

    assert "a/7" not in here.others | there.others


async def test_clients_of_a_host_that_fell_silent_are_announced_once(
    hosts: list[Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = roster.Sign("d/1", "n", "ready", {"news": 3})
    transports = [await each.join("news") for each in hosts]
    for each in hosts:
        each.worker.everyone.peers.heard(lost)
    await turn_over()
    for each in hosts:
        each.worker.everyone.peers.fallen()  # nobody yet
    monkeypatch.setattr(roster, "FALLEN_SECONDS", 0)
    for each in hosts:
        each.worker.next_second()
    await turn_over()

    for transport in transports:
        assert transport.messages.count(b"3 clients disconnected.") == 1


async def test_a_worker_that_hears_nothing_takes_nobody_for_dead() -> None:
    """The broker was away for longer than anybody may be silent: all are as they were."""
    bus, hub, clock = Bus(), Hub(lambda _: None), ManualClock()
    async with bus.running():
        peers = Peers(FakeCoordinator(), "a", clock=clock)
        lonely = everyone.Everyone(bus, hub, Interest(bus, hub), peers)
        sign = roster.Sign("d/1", "n", "ready", {"news": 3})
        peers.heard(sign)
        clock.now += roster.FALLEN_SECONDS
        hub.available(yes=False)
        assert lonely.next_second({}) == []
        hub.available(yes=True)
        assert lonely.next_second({}) == []
        assert peers.answering() == {"d/1"}

        clock.now += roster.FALLEN_SECONDS
        assert lonely.next_second({}) == [sign]


async def test_who_was_away_counts_again_at_those_who_forgot_it(hosts: list[Host]) -> None:
    here, there = (each.worker for each in hosts[:2])
    await hosts[0].join("news")
    address = next(iter(here.connections)).remote.host
    here.next_second()
    await turn_over()
    assert not there.crowd.has_room_at(address)
    there.everyone.peers.heard(roster.Sign(here.everyone.peers.name, "", "done"))
    there.next_second()
    assert there.crowd.has_room_at(address)

    here.hub.available(yes=False)
    here.next_second()
    here.hub.available(yes=True)
    here.next_second()
    await turn_over()
    there.next_second()
    assert not there.crowd.has_room_at(address)


async def test_who_was_away_gives_a_sign_as_soon_as_it_is_back(hosts: list[Host]) -> None:
    given: list[dict[str, int]] = []
    hosts[0].worker.next_second()
    await turn_over()
    hosts[1].worker.everyone.on("here", lambda body: given.append(_announced(body)))
    hosts[0].worker.hub.available(yes=False)
    hosts[0].worker.next_second()
    hosts[0].worker.hub.available(yes=True)
    hosts[0].worker.next_second()
    await turn_over()

    assert len(given) == 1


async def test_signs_are_given_now_and_then(hosts: list[Host]) -> None:
    await hosts[0].join("news")
    given: list[dict[str, int]] = []
    hosts[1].worker.everyone.on("here", lambda body: given.append(_announced(body)))
    for _ in range(2 * roster.SIGN_SECONDS):
        hosts[0].worker.next_second()
    await turn_over()

    assert given == [{"news": 1}] * 2


def _announced(body: bytes) -> dict[str, int]:
    return dict(msgspec.msgpack.decode(body, type=roster.Sign).announced)
