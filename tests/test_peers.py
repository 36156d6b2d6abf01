"""Who else works for a server that has several hosts: by files here, by signs of life elsewhere."""

from dataclasses import dataclass

from lastcall.peers import Peers, machine_name, node_of
from lastcall.roster import FALLEN_SECONDS, SILENCE_SECONDS, Roster, Sign
from lastcall.worker_record import WorkerRecord
from tests.fakes import FakeCoordinator


@dataclass
class ManualClock:
    """A clock that tests move."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def sign(name: str, state: str = "ready", announced: dict[str, int] | None = None) -> Sign:
    return Sign(name, f"node of {name}", state, announced or {})


def peers(machine: str = "here") -> tuple[Peers, FakeCoordinator, ManualClock]:
    coordinator, clock = FakeCoordinator(), ManualClock()
    return Peers(coordinator, machine, clock=clock), coordinator, clock


def test_who_is_silent_is_not_waited_for_and_in_the_end_taken_for_dead() -> None:
    roster, fallen = Roster(), sign("a/1", announced={"news": 3})
    roster.heard(fallen, 0)
    roster.heard(sign("b/1"), 5)

    assert len(roster.present(SILENCE_SECONDS - 0.1)) == 2
    assert [each.name for each in roster.present(SILENCE_SECONDS + 0.1)] == ["b/1"]
    assert roster.fallen(FALLEN_SECONDS - 0.1) == []
    assert roster.fallen(FALLEN_SECONDS) == [fallen]
    assert roster.fallen(FALLEN_SECONDS) == []


def test_who_could_not_be_heard_is_not_silent() -> None:
    roster = Roster()
    roster.heard(sign("a/1"), 0)
    roster.excuse(FALLEN_SECONDS + 10)

    assert roster.fallen(FALLEN_SECONDS + 11) == []
    assert len(roster.present(FALLEN_SECONDS + 11)) == 1


def test_who_says_goodbye_is_gone_at_once() -> None:
    roster = Roster()
    roster.heard(sign("a/1"), 0)
    roster.heard(sign("a/1", "done"), 1)
    roster.heard(sign("b/1", "done"), 1)
    roster.heard(sign("c/1"), 1)
    roster.forget("c/1")

    assert roster.present(1) == []
    assert roster.fallen(FALLEN_SECONDS + 1) == []


def test_workers_of_both_kinds_are_asked_and_stay() -> None:
    everybody, coordinator, _ = peers()
    coordinator.others = [WorkerRecord(7, state="ready"), WorkerRecord(8, state="draining")]
    coordinator.others.append(WorkerRecord(9, state="starting"))
    for name, state in (("b/7", "ready"), ("b/8", "draining"), ("b/9", "starting")):
        everybody.heard(sign(name, state))
    everybody.heard(everybody.sign())

    assert everybody.answering() == {"here/7", "here/8", "b/7", "b/8"}
    assert everybody.staying() == {"here/7", "here/9", "b/7", "b/9"}
    assert everybody.leaving() == 2


def test_of_a_worker_of_this_host_the_files_say_more_than_its_sign() -> None:
    everybody, coordinator, clock = peers()
    everybody.heard(sign("here/7"))
    assert everybody.answering() == {"here/7"}  # another server's, as far as the files know
    coordinator.others = [WorkerRecord(7, state="starting")]
    assert everybody.answering() == set()

    clock.now += FALLEN_SECONDS
    assert everybody.fallen() == []


def test_a_worker_that_has_died_here_is_buried_everywhere() -> None:
    everybody, _, _ = peers()
    there, _, clock = peers("there")
    there.heard(sign("here/7"))
    there.heard(everybody.buried(7))
    clock.now += FALLEN_SECONDS

    assert there.answering() == set()
    assert there.fallen() == []


def test_a_host_that_is_silent_has_fallen_once() -> None:
    everybody, _, clock = peers()
    lost = sign("b/1", announced={"news": 2})
    everybody.heard(lost)
    clock.now += FALLEN_SECONDS

    assert everybody.fallen() == [lost]
    assert everybody.fallen() == []


def test_nodes_are_known_on_every_host_and_alike_on_none() -> None:
    everybody, coordinator, _ = peers()
    sibling = WorkerRecord(7, started=3)
    coordinator.others = [sibling]
    everybody.heard(sign("b/1"))

    assert everybody.knows(node_of(sibling, "here"))
    assert everybody.knows("node of b/1")
    assert not everybody.knows(node_of(sibling, "b"))
    assert everybody.sign({"news": 1}) == Sign(
        everybody.name, everybody.node, "unknown", {"news": 1}
    )


def test_one_host_needs_no_names_and_its_nodes_are_called_as_ever() -> None:
    everybody, coordinator, _ = peers("")
    coordinator.others = [WorkerRecord(7, started=3, state="ready")]

    assert not everybody.spans_hosts
    assert everybody.answering() == {"/7"}
    # A neighbour of the last release works this out by itself.
    assert everybody.knows("e0ee71677b3fa5ac")


def test_a_machine_has_one_name() -> None:
    assert machine_name() == machine_name() != ""
