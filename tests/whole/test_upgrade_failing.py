"""An upgrade that comes to nothing, or meets with something else: what dies, hangs, comes twice."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from lastcall.process_identity import ProcessIdentity
from tests.server_process import wait_until
from tests.whole.served import Served, has_ended, is_gone, watched
from tests.whole.test_control import lastcall
from tests.whole.test_upgrade import upgraded

pytestmark = pytest.mark.whole


@contextmanager
def served_while(how: str, flag: Path, *options: str) -> Iterator[tuple[Served, str, list[int]]]:
    """A server that will misbehave as soon as there is a file *flag*; its address and workers."""
    with Served.start(
        "--workers",
        "2",
        *options,
        MISBEHAVE=how,
        MISBEHAVE_WHILE=str(flag),
        LASTCALL_RUN_DIR=str(flag.parent),
    ) as served:
        url, pids = served.ready()
        yield served, url, pids


def new_master(served: Served) -> int:
    """Wait until it starts its workers; its pid."""
    served.hear("starting a new master")
    return int(served.hear(r"Master \[(\d+)\] starts 2 workers")[1])


@pytest.fixture
def flag(tmp_path: Path) -> Path:
    """A file that is not there yet."""
    return tmp_path / "flag"


@pytest.mark.parametrize("how", ["fail to start", "crash at import", "exit at import"])
def test_new_master_that_does_not_become_ready_changes_nothing(how: str, flag: Path) -> None:
    with served_while(how, flag) as (served, url, pids):
        flag.touch()
        ended = lastcall("upgrade", run_dir=flag.parent)

        assert ended.returncode == 1
        assert "upgrade 1 given up" in ended.stderr
        assert int(httpx.get(url).text) in pids

        flag.unlink()
        served.signal(signal.SIGUSR2)
        upgraded(served)
        served.signal(signal.SIGTERM)
        assert served.ended() == 0


def test_new_master_that_takes_too_long_is_given_up(flag: Path) -> None:
    with served_while("hang at import", flag, "--ready-timeout", "0.5") as (served, url, pids):
        flag.touch()
        served.signal(signal.SIGUSR2)
        with watched(new_master(served)) as hanging:
            served.hear("Upgrade 1 given up, this master stays: it is not ready after ")
            assert has_ended(hanging)
        assert int(httpx.get(url).text) in pids

        flag.unlink()
        assert "upgrade 2: " in lastcall("upgrade", run_dir=flag.parent).stdout
        served.signal(signal.SIGTERM)
        assert served.ended() == 0


def test_new_master_whose_workers_cannot_be_interrupted_leaves_none_behind(flag: Path) -> None:
    """It kills what hangs in its start before it is killed itself."""
    with served_while("be deaf at import", flag, "--ready-timeout", "0.5") as (served, _, _2):
        flag.touch()
        served.signal(signal.SIGUSR2)
        with watched(new_master(served)) as hanging:
            stuck = int(served.hear(r"deaf: (\d+)")[1])
            served.hear("Upgrade 1 given up")
            assert has_ended(hanging)
        assert is_gone(stuck)
        served.signal(signal.SIGTERM)
        assert served.ended() == 0


def test_new_master_that_is_killed_while_it_starts_changes_nothing(flag: Path) -> None:
    with served_while("start late", flag) as (served, url, pids):
        flag.touch()
        served.signal(signal.SIGUSR2)
        pid = new_master(served)
        served.hear("starting late")
        os.kill(pid, signal.SIGKILL)
        served.hear("Upgrade 1 given up, this master stays: the new master left with")
        assert int(httpx.get(url).text) in pids
        flag.unlink()
        served.signal(signal.SIGTERM)
        assert served.ended() == 0


def test_old_master_that_is_killed_meanwhile_is_the_end_of_both(flag: Path) -> None:
    """Whoever started it sees it end, and may start another: nobody may be in its way."""
    with served_while("start late", flag) as (served, _, pids):
        flag.touch()
        served.signal(signal.SIGUSR2)
        with watched(new_master(served)) as new:
            served.hear("starting late")
            served.signal(signal.SIGKILL)
            assert has_ended(new)
        served.hear("which stood in front of us")
        wait_until(lambda: not any(map(ProcessIdentity.of, pids)), 20)


def test_front_that_is_killed_is_the_end_of_the_server(flag: Path) -> None:
    with served_while("", flag) as (served, _, _old):
        served.signal(signal.SIGUSR2)
        pid, pids = upgraded(served)
        served.hear("Upgrade 1 complete")
        with watched(pid) as master:
            served.signal(signal.SIGKILL)
            assert has_ended(master)
        wait_until(lambda: not any(map(ProcessIdentity.of, pids)), 20)
    assert [*flag.parent.iterdir()] == []


def test_sigterm_while_a_new_master_starts_ends_all_at_once(flag: Path) -> None:
    """The second time, too, when who gets the signal is not who starts it."""
    with served_while("hang in startup", flag) as (served, _, _old):
        served.signal(signal.SIGUSR2)
        upgraded(served)
        served.hear("Upgrade 1 complete")
        flag.touch()
        served.signal(signal.SIGUSR2)
        served.hear("starting up")
        served.signal(signal.SIGTERM)

        assert served.ended() == 0, served.all_output()
        assert "Traceback" not in served.all_output()
    assert [*flag.parent.iterdir()] == [flag]


def test_upgrades_that_meet_are_one(flag: Path) -> None:
    with served_while("start late", flag) as (served, _, _old):
        flag.touch()
        served.signal(signal.SIGUSR2)
        served.hear("starting late")
        assert lastcall("upgrade", "--no-wait", run_dir=flag.parent).returncode == 0
        assert "ask when it is over" in lastcall("scale", "3", run_dir=flag.parent).stderr
        flag.unlink()
        upgraded(served)
        served.hear("Upgrade 1 complete")
        served.signal(signal.SIGTERM)
        assert served.ended() == 0
        assert served.all_output().count("starting a new master") == 1


def test_upgrade_waits_for_a_reload_and_a_reload_for_an_upgrade(flag: Path) -> None:
    with served_while("start late", flag) as (served, _, _old):
        flag.touch()
        served.signal(signal.SIGHUP)
        served.hear("starting late")
        served.signal(signal.SIGUSR2)
        flag.unlink()
        served.hear("Reload 1: all are ready")
        flag.touch()
        served.hear("Upgrade 2: starting a new master")
        served.hear("starting late")
        served.signal(signal.SIGHUP)
        flag.unlink()

        upgraded(served)
        # What it asks for is what the new workers may not have seen: it goes on to their master.
        served.hear("Reload 1 complete: 2 workers retired")
        served.signal(signal.SIGTERM)
        assert served.ended() == 0


def test_directory_with_too_long_a_name_is_the_answer(tmp_path: Path) -> None:
    run_dir = tmp_path / ("long" * 20)
    with Served.start("--workers", "2", LASTCALL_RUN_DIR=str(run_dir)) as served:
        served.hear("no `lastcall status`, .* is too long")
        served.ready()
        ended = lastcall("reload", run_dir=run_dir)

        assert ended.returncode == 1
        assert f"the master {served.process.pid} does not answer" in ended.stderr
        assert f"{run_dir} is too long" in ended.stderr


def test_one_worker_survives_the_signal_and_says_why() -> None:
    with Served.start() as served:
        url = served.hear(r"running on (\S+)")[1]
        served.signal(signal.SIGUSR2)
        served.hear("only a master can be upgraded")

        assert int(httpx.get(url).text) == served.process.pid
