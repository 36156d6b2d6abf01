"""The lock of an election: one holder among processes and within one, gone with its owner."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lastcall.broker.election_lock import ElectionLock

pytestmark = pytest.mark.slow

HOLDER = """
import sys
from pathlib import Path
from lastcall.broker.election_lock import ElectionLock
lock = ElectionLock(Path(sys.argv[1]))
print(lock.acquire("from afar"), flush=True)
sys.stdin.read()
lock.release()
"""


@contextmanager
def another_process(path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that has tried for the lock."""
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def holds(process: "subprocess.Popen[str]") -> bool:
    assert process.stdout
    return process.stdout.readline().strip() == "True"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bus.lock"


@pytest.fixture
def lock(path: Path) -> Iterator[ElectionLock]:
    lock = ElectionLock(path)
    yield lock
    lock.release()


def test_comes_back_with_its_directory(tmp_path: Path) -> None:
    """A cleaner of /tmp takes both; until they are back there is nothing to hold."""
    directory = tmp_path / "run"
    directory.mkdir()
    lock = ElectionLock(directory / "bus.lock")
    with another_process(lock.path) as other:
        assert holds(other)
        assert not lock.acquire()
    shutil.rmtree(directory)

    with pytest.raises(FileNotFoundError):
        lock.acquire()
    assert lock.owner() is None
    lock.release()
    assert lock.owner() is None

    directory.mkdir()
    assert lock.acquire()
    lock.release()


def test_is_held_by_one_process_and_names_it(lock: ElectionLock, path: Path) -> None:
    with another_process(path) as other:
        assert holds(other)
        assert not lock.acquire()
        assert lock.owner() == other.pid
        assert lock.note() == "from afar"


def test_is_free_at_once_when_its_owner_is_killed(lock: ElectionLock, path: Path) -> None:
    with another_process(path) as other:
        assert holds(other)
        other.kill()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)

        assert lock.owner() is None
        assert lock.acquire()


def test_is_held_by_one_within_a_process(lock: ElectionLock, path: Path) -> None:
    second = ElectionLock(path)
    assert lock.acquire("first")
    assert lock.acquire("first")
    assert not second.acquire()
    assert second.owner() == os.getpid()
    assert second.note() == "first"

    # Letting go of the second one's descriptor must not drop the lock of the first.
    second.release()
    with another_process(path) as other:
        assert not holds(other)


def test_whoever_releases_it_leaves_no_file(lock: ElectionLock, path: Path) -> None:
    assert lock.acquire()
    lock.release()
    lock.release()

    assert not path.exists()


def test_a_lock_on_a_removed_file_keeps_nobody_out(lock: ElectionLock, path: Path) -> None:
    waiting = ElectionLock(path)
    assert lock.acquire()
    assert not waiting.acquire()
    lock.release()
    with another_process(path) as other:
        # It made the file anew; the one that is still open here is another.
        assert holds(other)
        assert not waiting.acquire()
    waiting.release()


def test_notices_that_its_file_was_removed(lock: ElectionLock, path: Path) -> None:
    assert lock.acquire()
    assert lock.is_in_place()
    path.unlink()
    assert not lock.is_in_place()
    path.write_text("somebody else's")
    assert not lock.is_in_place()
    lock.release()
    assert path.exists()
