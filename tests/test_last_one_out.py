"""Workers that finish together, in every order of their steps: some one tells the master, always.

The real operations on a real directory, interleaved line by line. Several coordinators share this
process; see test_worker_coordinator.py for why that is fair.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lastcall import record_lock, run_directory, worker_coordinator
from lastcall.process_identity import ProcessIdentity
from lastcall.record_lock import RecordLock
from lastcall.run_directory import RunDirectory
from lastcall.worker_coordinator import WorkerCoordinator
from lastcall.worker_record import WorkerRecord
from tests.interleaving import interleaved

pytestmark = pytest.mark.slow

MASTER = ProcessIdentity(pid=os.getpid(), started=1)
"""This test run's pid and not its start: signalling it would end the run."""

CODE = (worker_coordinator, run_directory, record_lock)

CALLS = ["arrive", "siblings", "finish", "leave"]
LAST_LINE = 120
"""More than the longest of the calls has: killed beyond its end, it has done its work."""

# Runs of one number are switches at moments far apart, single ones are close races.
orders = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 12)), max_size=40).map(
    lambda runs: [number for number, times in runs for _ in range(times)]
)
examples = settings(max_examples=40, deadline=None)


class Workers:
    """Some workers of one master, all in this process."""

    def __init__(self, base: str, number: int) -> None:
        """Let *number* workers arrive."""
        self.run_dir = RunDirectory.open(MASTER, Path(base))
        self._names = 100
        self.all = [self.another() for _ in range(number)]
        for worker in self.all:
            worker.arrive()

    def another(self) -> WorkerCoordinator:
        """Return one that has not arrived, with a file name as if it had a process of its own."""
        worker = WorkerCoordinator(self.run_dir, MASTER)
        self._names += 1
        worker._name = str(self._names)  # noqa: SLF001  (one process does one thing at a time)
        return worker

    def finish(self) -> list[Callable[[], bool]]:
        """Return everybody's call of `finish`."""
        return [partial(worker.finish, stopping=True) for worker in self.all]

    def leave(self) -> None:
        """Let all leave; nothing may be left of them."""
        for worker in self.all:
            worker.leave()
        assert not self.run_dir.path.exists()


@contextmanager
def death() -> Iterator[None]:
    """Close what was opened inside, as the kernel does at the end of a process."""
    before = open_descriptors()
    yield
    for descriptor in open_descriptors() - before:
        os.close(descriptor)
    held = RecordLock._held  # noqa: SLF001  (its process forgets it in dying)
    for key in [key for key, descriptor in held.items() if descriptor not in before]:
        del held[key]


def open_descriptors() -> set[int]:
    listed = [int(entry.name) for entry in Path("/dev/fd").iterdir()]
    return {descriptor for descriptor in listed if is_open(descriptor)}


def is_open(descriptor: int) -> bool:
    """Whether it still is: the listing had one itself, whose number the next to open gets."""
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


@examples
@given(number=st.integers(1, 3), order=orders)
def test_one_at_least_is_last(number: int, order: list[int]) -> None:
    with TemporaryDirectory() as base:
        workers = Workers(base, number)

        assert any(interleaved(*workers.finish(), order=order, within=CODE))
        workers.leave()


@examples
@given(order=orders)
def test_nobody_is_last_while_another_works(order: list[int]) -> None:
    with TemporaryDirectory() as base:
        workers = Workers(base, 3)
        *leaving, _ = workers.finish()

        assert not any(interleaved(*leaving, order=order, within=CODE))
        assert workers.all[-1].finish(stopping=True)
        workers.leave()


@examples
@given(order=orders)
def test_one_is_last_though_another_arrives_and_finishes_meanwhile(order: list[int]) -> None:
    with TemporaryDirectory() as base:
        workers = Workers(base, 2)
        newcomer = workers.another()

        def come_and_go() -> bool:
            newcomer.arrive()
            return newcomer.finish(stopping=True)

        assert any(interleaved(*workers.finish(), come_and_go, order=order, within=CODE))
        workers.all.append(newcomer)
        workers.leave()


@examples
@given(order=orders)
def test_an_arrival_survives_that_all_others_leave_meanwhile(order: list[int]) -> None:
    with TemporaryDirectory() as base:
        workers = Workers(base, 1)
        newcomer = workers.another()

        interleaved(workers.all[0].leave, newcomer.arrive, order=order, within=CODE)

        assert [file.lives for file in workers.run_dir.worker_files("ALIVE")] == [True]
        newcomer.leave()
        assert not workers.run_dir.path.exists()


@examples
@given(call=st.sampled_from(CALLS), line=st.integers(1, LAST_LINE), order=orders)
def test_one_is_last_after_another_was_killed(call: str, line: int, order: list[int]) -> None:
    one_is_last_after_a_kill(call, line, order)


@pytest.mark.parametrize("call", CALLS)
def test_one_is_last_after_another_was_killed_on_every_line(call: str) -> None:
    for line in range(1, LAST_LINE + 1):
        one_is_last_after_a_kill(call, line, order=[])


def one_is_last_after_a_kill(call: str, line: int, order: list[int]) -> None:
    with TemporaryDirectory() as base:
        workers = Workers(base, 2)
        victim = workers.another()
        with death():
            if call != "arrive":
                victim.arrive()
            last_call = partial(victim.finish, stopping=True) if call == "finish" else None
            interleaved(last_call or getattr(victim, call), within=CODE, dies_at=line)

        assert any(interleaved(*workers.finish(), order=order, within=CODE))
        workers.leave()


@examples
@given(number=st.integers(1, 3), order=orders)
def test_one_is_last_though_the_directory_is_removed_meanwhile(
    number: int, order: list[int]
) -> None:
    with TemporaryDirectory() as base:
        workers = Workers(base, number)
        cleaner = partial(shutil.rmtree, workers.run_dir.path)

        *finished, _ = interleaved(*workers.finish(), cleaner, order=order, within=CODE)

        assert any(finished)
        workers.leave()


@examples
@given(order=orders)
def test_a_dead_worker_is_claimed_by_exactly_one(order: list[int]) -> None:
    with TemporaryDirectory() as base:
        workers = Workers(base, 3)
        (workers.run_dir.path / "7.ALIVE").touch()
        claims = [worker.claim_dead for worker in workers.all]

        claimed = interleaved(*claims, order=order, within=CODE)

        assert sorted(claimed, key=bool) == [[], [], [WorkerRecord(7)]]
        workers.leave()
