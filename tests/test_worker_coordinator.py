"""Who is here, who has gone, and that the last one out always tells the master.

Two coordinators of one process see each other here as those of two processes do: a process knows
which locks are its own without asking the kernel (`RecordLock.held_here`). Liveness across real
processes is proved in whole/test_coordination.py.
"""

import json
import logging
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

import lastcall
from lastcall.drain_report import DrainReport
from lastcall.errors import SettingsError
from lastcall.process_identity import ProcessIdentity
from lastcall.record_lock import RecordLock
from lastcall.run_directory import RunDirectory
from lastcall.sole_worker import SoleWorker
from lastcall.worker_coordinator import KEPT, SILENCE, WorkerCoordinator
from lastcall.worker_record import WorkerRecord
from tests.coordinated_process import a_master

MASTER = ProcessIdentity(pid=os.getpid(), started=1)
"""It has this test run's pid, but not its start: signalling it would end the run."""


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDirectory:
    return RunDirectory.open(MASTER, tmp_path)


@pytest.fixture
def coordinator(run_dir: RunDirectory) -> WorkerCoordinator:
    return WorkerCoordinator(run_dir, MASTER)


def another(run_dir: RunDirectory) -> WorkerCoordinator:
    coordinator = WorkerCoordinator(run_dir, MASTER)
    coordinator.arrive()
    return coordinator


def test_an_operator_can_read_what_a_worker_says(
    run_dir: RunDirectory, coordinator: WorkerCoordinator
) -> None:
    coordinator.arrive()
    coordinator.update(state="ready", connections=3)
    reader = another(run_dir)

    [record] = reader.siblings()

    own = ProcessIdentity.of(os.getpid())
    assert own is not None
    assert (record.pid, record.started) == (own.pid, own.started)
    assert (record.state, record.connections) == ("ready", 3)
    assert record.since >= record.arrived >= "2024-01-01T00:00:00+00:00"
    assert (record.master, record.version) == (str(MASTER), lastcall.__version__)
    coordinator.leave()
    reader.leave()


def test_the_file_is_one_json_object_whatever_was_there_before(
    run_dir: RunDirectory, coordinator: WorkerCoordinator
) -> None:
    coordinator.arrive()
    file = run_dir.path / f"{os.getpid()}.ALIVE"
    coordinator.update(connections=2_000_000)
    coordinator.update(connections=0, state="ready")
    coordinator.update()
    file = file.rename(run_dir.path / "read by a test")

    assert json.loads(file.read_text())["connections"] == 0
    assert file.read_text().endswith("}" + " " * (4095 - len(file.read_text().rstrip())) + "\n")
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_worker_that_hangs_lives_but_is_not_ready_until_it_gives_a_sign(
    run_dir: RunDirectory, coordinator: WorkerCoordinator
) -> None:
    """Nobody would answer the clients that are left to it."""
    coordinator.arrive()
    coordinator.update(state="ready")
    reader = another(run_dir)
    (file,) = run_dir.path.glob(f"{os.getpid()}.ALIVE")
    long_ago = time.time() - SILENCE - 1
    os.utime(file, (long_ago, long_ago))

    assert len(reader.siblings()) == 1
    assert reader.ready_siblings() == []

    coordinator.beat()
    assert len(reader.ready_siblings()) == 1


def test_ready_is_who_says_so(run_dir: RunDirectory, coordinator: WorkerCoordinator) -> None:
    coordinator.arrive()
    reader = another(run_dir)
    assert reader.ready_siblings() == []

    coordinator.update(state="ready")
    assert len(reader.ready_siblings()) == 1

    coordinator.update(state="draining")
    assert reader.ready_siblings() == []
    assert len(reader.siblings()) == 1


def test_who_leaves_while_another_is_ready_leaves_to_others(
    run_dir: RunDirectory, coordinator: WorkerCoordinator
) -> None:
    coordinator.arrive()
    other = another(run_dir)
    assert not other.leaves_to_others()

    other.arrive()
    other.update(state="ready")
    coordinator.update(state="ready")
    assert not coordinator.leaves_to_others()
    coordinator.update(state="draining")
    assert coordinator.leaves_to_others()

    other.update(state="draining")
    assert not coordinator.leaves_to_others()
    other.leave()


def test_calls_before_arrival_and_after_leaving_do_nothing(
    run_dir: RunDirectory, coordinator: WorkerCoordinator
) -> None:
    coordinator.update(state="ready")
    assert not coordinator.finish(stopping=True)
    coordinator.leave()
    assert list(run_dir.path.iterdir()) == []

    coordinator.arrive()
    coordinator.arrive()
    coordinator.leave()
    coordinator.leave()
    coordinator.update(state="ready")
    assert not coordinator.finish(stopping=True)
    assert not run_dir.path.exists()


def test_finishing_again_is_harmless(coordinator: WorkerCoordinator, tmp_path: Path) -> None:
    coordinator.arrive()

    assert coordinator.finish(stopping=True)
    assert coordinator.finish(stopping=True)
    coordinator.leave()
    assert list(tmp_path.iterdir()) == []


def test_leaving_unfinished_is_no_death(
    run_dir: RunDirectory, coordinator: WorkerCoordinator
) -> None:
    coordinator.arrive()
    survivor = another(run_dir)

    coordinator.leave()

    assert survivor.claim_dead() == []
    assert survivor.siblings() == []
    survivor.leave()


def test_nobody_is_told_where_there_is_no_master(run_dir: RunDirectory) -> None:
    coordinator = WorkerCoordinator(run_dir, None)
    coordinator.arrive()
    assert coordinator.finish(stopping=True)


def test_a_master_is_told_and_may_have_gone_since(tmp_path: Path) -> None:
    with a_master() as (process, master):
        coordinator = WorkerCoordinator(RunDirectory.open(master, tmp_path), master)
        coordinator.arrive()
        assert coordinator.finish(stopping=False)
        assert process.poll() is None

        assert coordinator.finish(stopping=True)

        assert process.wait(timeout=10) == -signal.SIGTERM
        assert coordinator.finish(stopping=True)
        coordinator.leave()


def test_a_process_of_the_master_that_has_not_arrived_is_a_successor(tmp_path: Path) -> None:
    """Before the application is imported there is no file that could say so."""
    with subprocess.Popen(["/bin/sh", "-c", "sleep 60 & read end; kill $!"], stdin=-1) as process:
        master = ProcessIdentity.of(process.pid)
        assert master is not None
        while not (children := master.children()):
            pass
        run_dir = RunDirectory.open(master, tmp_path)
        coordinator = WorkerCoordinator(run_dir, master)
        coordinator.arrive()
        assert coordinator.expects_successor()

        assert not coordinator.finish(stopping=True)
        assert master.is_running()  # it is about to have a worker, not to stop
        file = run_dir.path / f"{children[0].pid}.ALIVE"
        lock = RecordLock(file)
        lock.write(WorkerRecord(children[0].pid, state="starting").write())
        assert coordinator.expects_successor()
        lock.write(WorkerRecord(children[0].pid, state="ready").write())
        assert not coordinator.expects_successor()
        lock.release()
        file.rename(file.with_suffix(".DONE"))
        assert not coordinator.expects_successor()
        file.with_suffix(".DONE").unlink()
        assert not coordinator.expects_successor()  # it was here, and is on its way out

        newcomer = WorkerCoordinator(run_dir, master)
        newcomer.arrive()
        assert newcomer.expects_successor()
        process.communicate()
        assert not newcomer.expects_successor()
        newcomer.leave()
        coordinator.leave()


def test_where_a_worker_has_no_master_its_own_children_are_no_successors(tmp_path: Path) -> None:
    itself = ProcessIdentity.of(os.getpid())
    assert itself is not None
    coordinator = WorkerCoordinator(RunDirectory.open(itself, tmp_path), None)
    coordinator.arrive()
    with subprocess.Popen(["/bin/cat"], stdin=-1) as child:
        assert not coordinator.expects_successor()
        child.communicate()
    coordinator.leave()


GARBAGE = [
    b"",
    b"{",
    b"\x00" * 512,
    b"\xff\xfe",
    b"[]",
    b"null",
    b'{"pid": "7"}',
    b'{"pid": 8, "state": "ready"}',
    b'{"pid": 7, "state": "of a later release"}',
    b'{"pid": 7, "state": "\xff"}',
    b"[" * 4000,
    b'{"mood": ' + b"[" * 4000,
    b"x" * 1_000_000,
]


@pytest.mark.parametrize("content", GARBAGE)
def test_an_unreadable_record_is_a_worker_of_which_no_more_is_known(
    run_dir: RunDirectory, coordinator: WorkerCoordinator, content: bytes
) -> None:
    coordinator.arrive()
    lock = RecordLock(run_dir.path / "7.ALIVE")
    lock.write(content)

    assert coordinator.siblings() == [WorkerRecord(7)]
    assert coordinator.ready_siblings() == []
    assert coordinator.claim_dead() == []
    assert not coordinator.finish(stopping=True)

    lock.release()
    assert coordinator.claim_dead() == [WorkerRecord(7)]
    assert coordinator.claim_dead() == []
    assert coordinator.finish(stopping=True)


def test_fields_of_a_later_release_are_passed_over(
    run_dir: RunDirectory, coordinator: WorkerCoordinator
) -> None:
    lock = RecordLock(run_dir.path / "7.ALIVE")
    lock.write(b'{"pid": 7, "state": "ready", "mood": "fine"}')

    assert coordinator.ready_siblings() == [WorkerRecord(7, state="ready")]
    lock.release()


def test_the_last_word_of_a_dead_worker_tells_how_many_clients_it_had(
    run_dir: RunDirectory, coordinator: WorkerCoordinator
) -> None:
    coordinator.arrive()
    (run_dir.path / "7.ALIVE").write_bytes(WorkerRecord(7, connections=137).write())

    [dead] = coordinator.claim_dead()

    assert dead.connections == 137
    assert not (run_dir.path / "7.ALIVE").exists()


def test_the_socket_of_a_dead_worker_goes_with_its_file(
    run_dir: RunDirectory, coordinator: WorkerCoordinator
) -> None:
    coordinator.arrive()
    for pid in (7, 8):
        (run_dir.path / f"{pid}.ALIVE").write_bytes(WorkerRecord(pid).write())
        run_dir.handover_path(pid).touch()
    lock = RecordLock(run_dir.path / "8-2.ALIVE")  # the pid is another's by now
    lock.write(WorkerRecord(8).write())

    assert len(coordinator.claim_dead()) == 2

    assert not run_dir.handover_path(7).exists()
    assert run_dir.handover_path(8).exists()
    lock.release()


def test_a_dead_namesake_is_still_claimed(run_dir: RunDirectory) -> None:
    """Its pid is ours now; its clients are to be announced all the same."""
    dead = WorkerRecord(os.getpid(), started=1, connections=5)
    (run_dir.path / f"{os.getpid()}.ALIVE").write_bytes(dead.write())
    coordinator = another(run_dir)

    assert coordinator.claim_dead() == [dead]
    assert coordinator.finish(stopping=True)
    coordinator.leave()
    assert not run_dir.path.exists()


def test_a_lost_file_comes_back_and_is_said_once(
    run_dir: RunDirectory, coordinator: WorkerCoordinator, caplog: pytest.LogCaptureFixture
) -> None:
    coordinator.arrive()
    coordinator.update(connections=4)
    reader = another(run_dir)
    for _ in range(3):
        (run_dir.path / f"{os.getpid()}.ALIVE").unlink()
        assert reader.siblings() == []
        coordinator.update(state="draining")
        coordinator.claim_dead()
        [record] = reader.siblings()
        assert (record.state, record.connections) == ("draining", 4)

    warnings = [it.message for it in caplog.records if it.levelno == logging.WARNING]
    assert warnings == [f"run directory {run_dir.path} had lost a worker's file; it is back"]


def test_a_start_that_cannot_write_is_one_sentence(run_dir: RunDirectory) -> None:
    (run_dir.path / f"{os.getpid()}.NEW").mkdir()
    with pytest.raises(SettingsError, match=r"^LASTCALL_RUN_DIR: cannot write in .* \(Is a dir"):
        another(run_dir)


def test_a_disk_that_refuses_the_new_name_stops_nobody(
    run_dir: RunDirectory, coordinator: WorkerCoordinator
) -> None:
    """The lock goes instead, which says the same to the others."""
    coordinator.arrive()
    other = another(run_dir)
    (run_dir.path / f"{os.getpid()}.DONE").mkdir()
    (run_dir.path / f"{os.getpid()}.NEW").mkdir()

    assert not coordinator.finish(stopping=True)

    assert other.siblings() == []
    assert other.finish(stopping=True)
    coordinator.leave()
    other.leave()
    assert not run_dir.path.exists()


def test_the_last_word_of_a_worker_stays_as_long_as_others_do(
    run_dir: RunDirectory, coordinator: WorkerCoordinator
) -> None:
    report = DrainReport(why="stop", at_start=2, left=2)
    coordinator.arrive()
    other = another(run_dir)
    coordinator.update(drain=report, counts={"published_total": 3})
    assert coordinator.finish(stopping=True) is False
    coordinator.leave()

    itself, gone = other.known()
    assert (itself.pid, itself.has_left) == (os.getpid(), False)
    assert (gone.drain, gone.counts, gone.has_left) == (report, {"published_total": 3}, True)
    assert other.siblings() == []
    assert other.claim_dead() == []
    assert other.finish(stopping=True)
    other.leave()
    assert not run_dir.path.exists()


def test_a_last_word_is_forgotten_after_an_hour(
    run_dir: RunDirectory, coordinator: WorkerCoordinator
) -> None:
    coordinator.arrive()
    old, new = (run_dir.path / f"{pid}.LEFT" for pid in (7, 8))
    for path in (old, new):
        path.write_bytes(WorkerRecord(int(path.stem)).write())
    long_ago = time.time() - KEPT - 1
    os.utime(old, (long_ago, long_ago))
    assert [record.pid for record in coordinator.known()] == [os.getpid(), 8]

    another(run_dir).leave()

    assert (old.exists(), new.exists()) == (False, True)


def test_everybody_is_known_but_a_forked_child_knows_nobody(
    run_dir: RunDirectory, coordinator: WorkerCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    coordinator.arrive()
    coordinator.update(connections=5)
    other = another(run_dir)
    assert [record.connections for record in other.known()] == [0, 5]

    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    assert other.known() == []
    monkeypatch.undo()


def test_a_sole_worker_needs_nothing() -> None:
    worker = SoleWorker()
    worker.arrive()
    worker.update(state="ready", connections=1)
    [record] = worker.known()
    assert (record.state, record.connections) == ("ready", 1)
    assert worker.siblings() == worker.ready_siblings() == worker.claim_dead() == []
    assert worker.finish(stopping=True)
    worker.leave()
