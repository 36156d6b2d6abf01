"""Who belongs together, and who may be in the directory."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from lastcall.errors import SettingsError
from lastcall.process_identity import ProcessIdentity
from lastcall.record_lock import RecordLock, directory_lock, look
from lastcall.run_directory import RunDirectory, default_base, refuse_unsafe

MASTER = ProcessIdentity(pid=4321, started=1234567)


def a_directory(mode: int, owner: int) -> os.stat_result:
    return os.stat_result((mode, 1, 1, 1, owner, owner, 0, 0, 0, 0))


def test_is_made_below_the_base_for_its_owner_alone(tmp_path: Path) -> None:
    directory = RunDirectory.open(MASTER, tmp_path / "new" / "base")

    assert directory.path == tmp_path / "new" / "base" / "4321-1234567"
    assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700
    assert RunDirectory.open(MASTER, tmp_path / "new" / "base").path == directory.path


def test_a_relative_base_stays_where_it_is_when_the_process_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert RunDirectory.open(MASTER, Path("run")).path == tmp_path / "run" / str(MASTER)


def test_the_default_base_is_short_and_the_users_own() -> None:
    base = default_base()

    assert base in {Path("/run/lastcall"), Path(f"/tmp/lastcall-{os.getuid()}")}  # noqa: S108  (where it belongs)
    widest = ProcessIdentity(pid=4194304, started=2**63)
    assert RunDirectory(base / str(widest)).socket_path("hand-over-4194304.sock")


def test_a_socket_path_that_is_too_long_says_so(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / ("x" * 90) / str(MASTER))
    with pytest.raises(SettingsError, match=r"^LASTCALL_RUN_DIR: .* is too long: .* 103 are"):
        directory.socket_path("bus.sock")


@pytest.mark.parametrize(
    ("mode", "owner", "problem"),
    [
        (stat.S_IFDIR | 0o700, 1000, None),
        (stat.S_IFDIR | 0o755, 1000, None),
        (stat.S_IFDIR | 0o1777, 0, None),
        (stat.S_IFDIR | 0o700, 1001, r"belongs to another user \(uid 1001\)"),
        (stat.S_IFDIR | 0o1777, 1001, "belongs to another user"),
        (stat.S_IFDIR | 0o770, 1000, "may be written by other users"),
        (stat.S_IFDIR | 0o702, 1000, "may be written by other users"),
        (stat.S_IFLNK | 0o777, 1000, "is a symbolic link"),
        (stat.S_IFREG | 0o600, 1000, "is not a directory"),
    ],
)
def test_refuses_what_others_could_change(mode: int, owner: int, problem: str | None) -> None:
    status = a_directory(mode, owner)
    if problem is None:
        refuse_unsafe(Path("/run/x"), status, owners={1000, 0})
        return
    with pytest.raises(SettingsError, match=f"^LASTCALL_RUN_DIR: /run/x {problem}"):
        refuse_unsafe(Path("/run/x"), status, owners={1000, 0})


def test_refuses_a_base_that_others_may_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(SettingsError, match="may be written by other users"):
        RunDirectory.open(MASTER, tmp_path)


def test_refuses_a_link_to_somewhere_else(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / str(MASTER)).symlink_to(elsewhere)
    with pytest.raises(SettingsError, match="is a symbolic link"):
        RunDirectory.open(MASTER, tmp_path)


@pytest.mark.parametrize(
    ("base", "problem"),
    [
        ("a-file", "is not a directory: name a"),
        ("a-file/below", r"cannot be used \(Not a directory\): name a"),
        ("x" * 300, r"cannot be used \(File name too long\): name a"),
        ("dangling/below", r"cannot be used \(.*\): name a"),
    ],
)
def test_a_base_that_cannot_be_a_directory_is_one_sentence(
    tmp_path: Path, base: str, problem: str
) -> None:
    (tmp_path / "a-file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(SettingsError, match=rf"^LASTCALL_RUN_DIR: \S+ {problem}"):
        RunDirectory.open(MASTER, tmp_path / base)


def test_goes_with_everything_in_it_when_nobody_is_there(tmp_path: Path) -> None:
    directory = RunDirectory.open(MASTER, tmp_path)
    (directory.path / "12.ALIVE").touch()
    (directory.path / "12.NEW").touch()
    (directory.path / "bus.sock").touch()
    (directory.path / "folder").mkdir()

    assert directory.remove_if_deserted()
    assert not directory.path.exists()
    assert directory.remove_if_deserted()


@pytest.mark.parametrize("name", ["12.ALIVE", "12.DONE"])
def test_stays_while_a_worker_is_in_it(tmp_path: Path, name: str) -> None:
    directory = RunDirectory.open(MASTER, tmp_path)
    lock = RecordLock(directory.path / name)

    assert not directory.remove_if_deserted()

    lock.release()
    assert directory.remove_if_deserted()


def test_stays_while_a_worker_is_arriving(tmp_path: Path) -> None:
    directory = RunDirectory.open(MASTER, tmp_path)
    with directory.kept(), directory.kept():
        assert not directory.remove_if_deserted()
    assert directory.remove_if_deserted()


def test_an_arrival_goes_on_though_a_removal_was_stopped_halfway(tmp_path: Path) -> None:
    directory = RunDirectory.open(MASTER, tmp_path)
    with directory_lock(directory.path, shared=False) as locked, directory.kept():
        assert locked
        assert directory.path.exists()


def test_sweeps_dead_servers_and_nothing_else(tmp_path: Path) -> None:
    own = ProcessIdentity.of(os.getpid())
    assert own is not None
    directory = RunDirectory.open(own, tmp_path)
    # The pid runs, but it is another process now.
    dead = RunDirectory.open(ProcessIdentity(own.pid, own.started - 1), tmp_path)
    orphaned = RunDirectory.open(ProcessIdentity(own.pid, own.started - 2), tmp_path)
    orphan = RecordLock(orphaned.path / "7.ALIVE")
    for other in ("something", "1-2-3"):
        (tmp_path / other).mkdir()
    (tmp_path / "1-1").symlink_to(tmp_path / "something")
    (tmp_path / "1-3").touch()
    (tmp_path / "1-4").mkdir()
    (tmp_path / "1-4").chmod(0o777)

    directory.sweep()

    left = {path.name for path in tmp_path.iterdir()}
    assert not dead.path.exists()
    assert left == {
        *(str(own), orphaned.path.name, "something", "1-2-3", "1-1", "1-3", "1-4"),
    }
    orphan.release()
    RunDirectory(tmp_path / "nowhere" / "1-1").sweep()


def test_sees_workers_and_no_other_files(tmp_path: Path) -> None:
    directory = RunDirectory.open(MASTER, tmp_path)
    living = RecordLock(directory.path / "12.ALIVE")
    living.write(b"{}")
    (directory.path / "13-2.ALIVE").write_bytes(b"was here")
    for noise in ("x.ALIVE", "0.ALIVE", ".ALIVE", "12.ALIVE.bak", "14.NEW", "-1.ALIVE", "1.xALIVE"):
        (directory.path / noise).touch()
    (directory.path / "15.ALIVE").mkdir()
    (directory.path / "16.ALIVE").symlink_to(directory.path / "12.ALIVE")
    os.mkfifo(directory.path / "17.ALIVE")

    seen = sorted((file.pid, file.lives, file.content) for file in directory.worker_files("ALIVE"))

    assert seen == [(12, True, b"{}"), (13, False, b"was here")]
    assert directory.worker_files("DONE") == []
    living.release()
    assert RunDirectory(tmp_path / "nowhere").worker_files("ALIVE") == []


def test_somebody_who_looks_at_a_dead_worker_is_not_taken_for_its_life(tmp_path: Path) -> None:
    """Two look at the same moment; the other is held in the middle of it."""
    path = tmp_path / "12.ALIVE"
    path.touch()
    looks = (
        "import fcntl, sys; file = open(sys.argv[1]); fcntl.lockf(file, fcntl.LOCK_SH);"
        "print('looking', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", looks, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"looking\n"

        seen = look(path)

        other.kill()
    assert seen is not None
    assert not seen.held


def test_a_lock_needs_a_directory_and_knows_its_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        RecordLock(tmp_path / "nowhere" / "12.ALIVE")
    path = tmp_path / "12.ALIVE"
    lock = RecordLock(path)
    assert lock.is_at(path)

    path.unlink()

    assert not lock.is_at(path)
    path.touch()
    assert not lock.is_at(path)
    seen = look(path)
    assert seen is not None
    assert not seen.held
    lock.release()
    assert look(tmp_path / "nowhere" / "12.ALIVE") is None
    assert look(path / "below a file") is None
