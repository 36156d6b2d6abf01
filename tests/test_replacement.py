"""How many new workers start at a time while the old ones serve, and how long that may take."""

from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import SimpleNamespace
from typing import cast

import pytest

from lastcall.deploy import Phase
from lastcall.replacement import Replacements
from lastcall.restart_policy import WorkerLimits
from lastcall.worker_process import Place, WorkerProcess
from lastcall.workforce import Workforce


class Workers:
    """Starts workers that are processes by name only, and that are ready when the test says so."""

    def __init__(self) -> None:
        self.started: list[WorkerProcess] = []

    def __call__(self, *, generation: int, now: float) -> WorkerProcess:
        process = SimpleNamespace(pid=1000 + len(self.started), exitcode=None)
        worker = WorkerProcess(
            cast("SpawnProcess", process), cast("Connection", None), now, generation
        )
        self.started.append(worker)
        return worker


@pytest.fixture
def workers() -> Workers:
    return Workers()


def places(number: int) -> list[Place]:
    return [Place(each, due=None) for each in range(1, number + 1)]


def test_new_workers_start_in_turn_while_others_serve(workers: Workers) -> None:
    replacements = Replacements(workers, WorkerLimits(ready=30, starting=2), 1)
    three = places(3)
    replacements.want_reload()
    replacements.step(three, now=0)
    replacements.step(three, now=25)
    assert len(workers.started) == 2

    workers.started[1].ready = True
    replacements.step(three, now=29)
    assert len(workers.started) == 3
    assert replacements.deadline == 59  # each has its own time

    for worker in workers.started:
        worker.ready = True
    replacements.step(three, now=40)
    assert [place.worker for place in three] == [workers.started[n] for n in (0, 1, 2)]


def test_of_those_that_are_due_the_one_goes_first_that_has_waited_longest(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WorkerProcess, "retire", lambda _: None)
    replacements = Replacements(workers, WorkerLimits(), 1)
    two = places(2)
    for place, worn_at in zip(two, (5.0, 4.0), strict=True):
        place.worker = workers(generation=1, now=0)
        place.worker.worn_at = worn_at
    replacements.step(two, now=6)
    assert len(workers.started) == 2  # nobody is replaced before it has served

    for worker in workers.started:
        worker.ready = True
    replacements.step(two, now=3)
    assert len(workers.started) == 2

    replacements.step(two, now=6)
    workers.started[2].ready = True
    workers.started[2].worn_at = 7
    replacements.step(two, now=8)
    assert two[1].worker is workers.started[2]
    replacements.step(two, now=8)
    workers.started[3].ready = True
    replacements.step(two, now=8)
    assert two[0].worker is workers.started[3]


def test_who_is_not_ready_in_time_keeps_the_others_from_being_started(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WorkerProcess, "retire", lambda _: None)
    monkeypatch.setattr(WorkerProcess, "end_soon", lambda *_: None)
    replacements = Replacements(workers, WorkerLimits(ready=30), 1)
    replacements.want_reload()
    replacements.step(places(3), now=0)
    replacements.step(places(3), now=30)
    assert len(workers.started) == 1
    assert replacements.deploys[-1].phase is Phase.GIVEN_UP


def test_a_place_that_is_removed_meanwhile_is_not_waited_for(workers: Workers) -> None:
    replacements = Replacements(workers, WorkerLimits(), 1)
    two = places(2)
    replacements.want_reload()
    replacements.step(two, now=0)
    replacements.remove_place(2)
    workers.started[0].ready = True
    replacements.step(two[:1], now=1)
    assert len(workers.started) == 1
    assert replacements.deploys[-1].phase is Phase.DONE


def test_a_first_start_is_of_all_at_once_and_one_beside_another_master_is_not(
    workers: Workers,
) -> None:
    Workforce(workers, 3, WorkerLimits()).step(now=0)
    assert len(workers.started) == 3

    workers.started.clear()
    successors = Workforce(workers, 3, WorkerLimits())
    successors.has_one_try = True
    for number in (1, 2, 3):
        successors.step(now=0)
        assert len(workers.started) == number
        workers.started[-1].ready = True
        successors.became_ready(workers.started[-1])
    assert successors.is_complete


def test_a_new_master_has_time_for_each_of_its_turns() -> None:
    limits = WorkerLimits(ready=30, starting=2)
    assert [limits.ready_in_turn(workers) for workers in (1, 2, 3, 8)] == [30, 30, 60, 120]
