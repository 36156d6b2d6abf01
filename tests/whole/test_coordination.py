"""Workers that come, are killed, are stopped and go: real processes, real locks, real signals."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lastcall.process_identity import ProcessIdentity
from lastcall.run_directory import RunDirectory
from tests.coordinated_process import CoordinatedProcess, a_master

pytestmark = pytest.mark.whole

NOBODY = 65534


class Server:
    """A master and as many workers as a test likes."""

    def __init__(
        self,
        base: Path,
        process: subprocess.Popen[bytes],
        master: ProcessIdentity,
        exits: contextlib.ExitStack,
    ) -> None:
        """Take the master; workers are started by the test."""
        self.process, self.master = process, master
        self.base, self.directory = base, base / str(master)
        self._exits = exits

    def worker(self) -> CoordinatedProcess:
        """Start a worker and let it arrive."""
        worker = self._exits.enter_context(CoordinatedProcess(self.base, self.master))
        worker.call("arrive")
        return worker

    def files(self) -> set[str]:
        """Return what is in the run directory."""
        return {path.name for path in self.directory.iterdir()}

    def was_told(self) -> bool:
        """Whether the master was sent SIGTERM; it has ended then, so a signal on its way counts."""
        try:
            return self.process.wait(timeout=0.2) == -signal.SIGTERM
        except subprocess.TimeoutExpired:
            return False


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with a_master() as (process, master), contextlib.ExitStack() as exits:
        yield Server(tmp_path / "base", process, master, exits)


def test_the_last_one_tells_the_master_and_nothing_is_left(server: Server) -> None:
    first, second = server.worker(), server.worker()
    assert server.files() == {f"{first.pid}.ALIVE", f"{second.pid}.ALIVE"}

    assert not first.call("finish", stopping=True)
    assert server.files() == {f"{first.pid}.DONE", f"{second.pid}.ALIVE"}
    first.call("leave")
    assert server.files() == {f"{first.pid}.LEFT", f"{second.pid}.ALIVE"}
    assert server.process.poll() is None

    assert second.call("finish", stopping=True)
    assert server.was_told()
    second.call("leave")
    assert not server.directory.exists()
    assert (first.end(), second.end()) == (0, 0)


def test_a_worker_that_is_recycled_never_tells_the_master(server: Server) -> None:
    assert server.worker().call("finish", stopping=False)
    assert not server.was_told()


def test_a_killed_worker_holds_nobody_up_and_is_claimed_by_one(server: Server) -> None:
    survivors = [server.worker(), server.worker()]
    victim = server.worker()
    assert victim.pid in survivors[0].call("siblings")

    victim.kill()

    assert survivors[0].call("siblings") == [survivors[1].pid]
    for survivor in survivors:
        survivor.ask("claim_dead")
    claims = [survivor.answer() for survivor in survivors]
    assert sorted(claims) == [[], [victim.pid]]
    assert survivors[0].call("claim_dead") == []
    assert f"{victim.pid}.ALIVE" not in server.files()


def test_an_unclaimed_dead_worker_does_not_keep_the_last_one_from_telling(server: Server) -> None:
    last, victim = server.worker(), server.worker()
    victim.kill()

    assert last.call("finish", stopping=True)
    assert server.was_told()
    last.call("leave")
    assert not server.directory.exists()


def test_a_killed_worker_is_dead_though_its_forked_child_lives(server: Server) -> None:
    survivor, victim = server.worker(), server.worker()
    child = victim.call("fork")
    try:
        # The child has tried to finish and to leave for its parent, in vain.
        assert survivor.call("siblings") == [victim.pid]
        assert server.files() == {f"{survivor.pid}.ALIVE", f"{victim.pid}.ALIVE"}

        victim.kill()

        assert survivor.call("siblings") == []
        assert survivor.call("finish", stopping=True)
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_reused_pid_does_not_bring_a_dead_worker_back(server: Server) -> None:
    survivor, victim = server.worker(), server.worker()
    victim.kill()
    # This very process has the pid now, as far as the file's name tells.
    reused = server.directory / f"{os.getpid()}.ALIVE"
    (server.directory / f"{victim.pid}.ALIVE").rename(reused)

    assert survivor.call("siblings") == []
    assert survivor.call("claim_dead") == [os.getpid()]
    assert survivor.call("finish", stopping=True)


def test_a_stopped_worker_is_alive(server: Server) -> None:
    last, stopped = server.worker(), server.worker()
    stopped.call("update", state="ready")
    stopped.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, stopped.pid, os.WSTOPPED | os.WNOWAIT)

    assert last.call("ready_siblings") == [stopped.pid]
    assert last.call("claim_dead") == []
    assert not last.call("finish", stopping=True)

    stopped.send_signal(signal.SIGCONT)
    assert stopped.call("finish", stopping=True)
    assert server.was_told()


def test_a_worker_that_is_starting_keeps_the_other_from_being_last(server: Server) -> None:
    leaving = server.worker()
    newcomer = server.worker()

    assert not leaving.call("finish", stopping=True)
    leaving.call("leave")
    assert server.files() == {f"{leaving.pid}.LEFT", f"{newcomer.pid}.ALIVE"}
    assert newcomer.call("siblings") == []


def test_of_workers_that_finish_at_one_instant_at_least_one_tells(tmp_path: Path) -> None:
    """The race, for real: as often as a second or two allow."""
    with a_master() as (_, master), contextlib.ExitStack() as exits:
        # Nobody is told in the rounds: a master that is gone is told in vain.
        gone = ProcessIdentity(master.pid, master.started - 1)
        workers = [exits.enter_context(CoordinatedProcess(tmp_path, gone)) for _ in range(3)]
        for _ in range(100):
            for worker in workers:
                worker.call("arrive")
            for worker in workers:
                worker.ask("finish", stopping=True)
            finished = [worker.answer() for worker in workers]
            assert any(finished)
            for worker in workers:
                worker.ask("leave")
            for worker in workers:
                worker.answer()
            assert not (tmp_path / str(gone)).exists()


def test_a_removed_directory_comes_back_and_the_last_one_still_tells(server: Server) -> None:
    first, second = server.worker(), server.worker()
    shutil.rmtree(server.base)

    assert first.call("siblings") == []
    assert second.call("siblings") == [first.pid]
    assert first.call("siblings") == [second.pid]

    shutil.rmtree(server.directory)
    assert second.call("siblings") == []
    assert not first.call("finish", stopping=True)
    shutil.rmtree(server.directory)
    assert second.call("finish", stopping=True)
    assert server.was_told()
    first.call("leave")
    second.call("leave")
    assert not server.directory.exists()


def test_a_directory_that_cannot_come_back_stops_nobody(server: Server) -> None:
    last = server.worker()
    shutil.rmtree(server.base)
    server.base.write_text("somebody needed the name")

    last.call("update", state="ready", connections=3)
    assert last.call("siblings") == []
    assert last.call("claim_dead") == []
    assert last.call("finish", stopping=True)
    assert server.was_told()
    last.call("leave")


def test_two_servers_never_meet_even_below_one_base(server: Server) -> None:
    with a_master() as (_, other), CoordinatedProcess(server.base, other) as stranger:
        stranger.call("arrive")
        worker = server.worker()

        assert worker.call("siblings") == []
        assert stranger.call("siblings") == []
        assert worker.call("finish", stopping=True)
        worker.call("leave")
        assert stranger.call("claim_dead") == []
        assert (server.base / str(other) / f"{stranger.pid}.ALIVE").exists()


def test_what_a_killed_server_left_is_swept_by_the_next(server: Server) -> None:
    with a_master() as (process, dead), CoordinatedProcess(server.base, dead) as orphan:
        orphan.call("arrive")
        left = server.base / str(dead)
        (left / "bus.sock").touch()
        process.kill()
        process.wait(timeout=10)
        server.worker()

        # Its worker lives: an orphan that still drains.
        RunDirectory(server.directory).sweep()
        assert left.exists()

        orphan.kill()
        RunDirectory(server.directory).sweep()
        assert not left.exists()
        assert server.files()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can start a process of another user")
def test_a_file_of_another_user_counts_as_a_worker_while_its_process_runs(server: Server) -> None:
    """It cannot be opened, so its lock cannot be asked; root alone could have put it there."""
    with tempfile.TemporaryDirectory() as base:
        os.chown(base, NOBODY, NOBODY)
        with CoordinatedProcess(Path(base), server.master, user=NOBODY) as worker:
            worker.call("arrive")
            directory = Path(base, str(server.master))
            (directory / f"{os.getpid()}.ALIVE").touch(mode=0o600)

            assert worker.call("siblings") == [os.getpid()]
            assert not worker.call("finish", stopping=True)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can start a process of another user")
def test_a_worker_of_another_user_is_refused(server: Server) -> None:
    with tempfile.TemporaryDirectory() as base:
        Path(base).chmod(0o1777)
        RunDirectory.open(server.master, Path(base))
        with CoordinatedProcess(Path(base), server.master, user=NOBODY) as worker:
            assert worker.refusal() == (
                f"LASTCALL_RUN_DIR: {base}/{server.master} belongs to another user (uid 0): "
                "name a directory that only this user may write"
            )
