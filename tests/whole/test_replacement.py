"""Workers that are replaced while they serve: reload, scale, recycling, a loop that hangs."""

import contextlib
import os
import re
import signal
import threading
from pathlib import Path

import httpx
import pytest

from tests.whole.served import APPLICATION, Served, finish, request_in_flight

pytestmark = pytest.mark.whole

AT_ONCE = 3.0
"""Seconds on a busy machine; what is slow here takes a minute."""


def reloaded(served: Served, workers: int = 2) -> list[int]:
    """Wait until new workers have taken over; their pids."""
    pids = [int(served.hear(r"Worker \[(\d+)\] is ready")[1]) for _ in range(workers)]
    served.hear(rf"all are ready, {workers} workers retire")
    return pids


def test_reload_brings_new_code_and_new_workers(tmp_path: Path) -> None:
    code = tmp_path / "released.py"
    code.write_text(APPLICATION.replace("RELEASE", "old"))
    with Served.start("--workers", "2", "--app-dir", str(tmp_path), app="released:app") as served:
        url, pids = served.ready()
        assert httpx.get(url).text == "old"

        code.write_text(APPLICATION.replace("RELEASE", "newer"))
        served.signal(signal.SIGHUP)

        assert not set(reloaded(served)) & set(pids)
        served.hear(r"Reload 1 complete: 2 workers retired in \d+\.\d s")
        assert httpx.get(url).text == "newer"
        served.signal(signal.SIGTERM)
        assert served.ended() == 0


def test_old_workers_drain_while_the_new_ones_serve_and_crash_and_reload() -> None:
    with Served.start("--workers", "2") as served:
        url, pids = served.ready()
        with request_in_flight(url, served) as held:
            served.signal(signal.SIGHUP)
            first = reloaded(served)
            os.kill(first[0], signal.SIGKILL)
            served.hear(rf"Worker \[{first[0]}\] was ended by SIGKILL; a new one takes its place")
            replaced = int(served.hear(r"Worker \[(\d+)\] is ready")[1])
            assert int(httpx.get(url).text) in {replaced, first[1]}

            served.signal(signal.SIGHUP)
            second = reloaded(served)
            served.hear("Reload 2 complete: 2 workers retired")
            assert int(httpx.get(url).text) in second

            assert finish(held) in pids
        served.hear("Reload 1 complete: 2 workers retired")


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("fail to start", "left with exit status 3"),
        ("crash at import", "left with exit status 9"),
    ],
)
def test_reload_that_fails_leaves_the_old_workers(how: str, reason: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    with Served.start("--workers", "2", MISBEHAVE=how, MISBEHAVE_WHILE=str(broken)) as served:
        url, pids = served.ready()
        broken.touch()
        served.signal(signal.SIGHUP)

        served.hear(rf"Reload 1 given up, the old workers stay: .*{reason}")
        assert int(httpx.get(url).text) in pids

        broken.unlink()
        served.signal(signal.SIGHUP)
        served.hear("Reload 2 complete: 2 workers retired")
        assert int(httpx.get(url).text) not in pids


@pytest.mark.parametrize("how", ["hang at import", "hang in startup"])
def test_reload_that_takes_too_long_leaves_the_old_workers(how: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    with Served.start(
        "--workers", "2", "--ready-timeout", "2", MISBEHAVE=how, MISBEHAVE_WHILE=str(broken)
    ) as served:
        url, pids = served.ready()
        broken.touch()
        served.signal(signal.SIGHUP)

        served.hear("given up, the old workers stay: not everybody is ready after 2 s")
        assert int(httpx.get(url).text) in pids
        served.signal(signal.SIGTERM)
        assert served.ended() == 0


def test_reloads_asked_for_during_a_reload_are_one(tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    with Served.start(
        "--workers", "2", MISBEHAVE="start late", MISBEHAVE_WHILE=str(slow)
    ) as served:
        served.ready()
        slow.touch()
        served.signal(signal.SIGHUP)
        served.hear("starting late")
        for _ in range(3):
            served.signal(signal.SIGHUP)
            served.hear("A reload will follow the reload under way")
        slow.unlink()

        served.hear("Reload 2 complete")
        served.signal(signal.SIGTERM)
        assert served.ended() == 0
        assert "Reload 3" not in served.all_output()


@pytest.mark.parametrize(
    ("how", "sign"), [("hang at import", "importing"), ("hang in startup", "starting up")]
)
def test_sigterm_during_a_reload_is_acted_on_at_once(how: str, sign: str, tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    with Served.start("--workers", "2", MISBEHAVE=how, MISBEHAVE_WHILE=str(slow)) as served:
        served.ready()
        slow.touch()
        served.signal(signal.SIGHUP)
        served.hear(sign)
        served.signal(signal.SIGTERM)

        assert served.ended(AT_ONCE) == 0, served.all_output()


def test_reload_that_reaches_the_whole_group_cuts_nobody() -> None:
    with Served.start("--workers", "2") as served:
        url, pids = served.ready()
        with request_in_flight(url, served) as held:
            served.signal(signal.SIGHUP, group=True)
            reloaded(served)

            assert finish(held) in pids


def test_more_and_fewer_workers() -> None:
    with Served.start("--workers", "2") as served:
        _, pids = served.ready()
        served.signal(signal.SIGTTIN)
        served.hear("From 2 to 3 workers")
        third = int(served.hear(r"Worker \[(\d+)\] is ready")[1])

        served.signal(signal.SIGTTOU)
        served.hear(rf"Worker \[{third}\] left with exit status 0; it was retiring")
        served.signal(signal.SIGTTOU)
        served.hear(rf"Worker \[{pids[1]}|{pids[0]}\] left with exit status 0; it was retiring")
        served.signal(signal.SIGTTOU)
        served.signal(signal.SIGHUP)

        reloaded(served, workers=1)


def test_worker_at_its_limit_of_requests_serves_until_another_is_ready() -> None:
    with Served.start("--workers", "2", "--limit-max-requests", "1") as served:
        url, _ = served.ready()
        worn = int(httpx.get(url).text)

        served.hear("Recycling 1: starting 1 workers")
        successor = int(served.hear(r"Worker \[(\d+)\] is ready")[1])
        served.hear(rf"Worker \[{worn}\] left with exit status 0; it was retiring")
        assert successor != worn


def test_worker_is_replaced_when_its_lifetime_is_over() -> None:
    with Served.start("--workers", "2", "--max-lifetime", "3") as served:
        _, pids = served.ready()
        left = {int(served.hear(r"Worker \[(\d+)\] left with exit status 0")[1]) for _ in pids}
        assert left == set(pids)


def test_worker_whose_loop_hangs_is_killed_and_says_where() -> None:
    with Served.start("--workers", "2", "--hang-timeout", "2") as served:
        url, pids = served.ready()
        with contextlib.suppress(httpx.HTTPError):
            httpx.get(f"{url}/hang", timeout=10)

        hung = int(served.hear(r"Worker \[(\d+)\] hangs: not a turn of its loop in 2 s")[1])
        served.hear("supervised_app.py.* in app")
        served.hear(rf"Worker \[{hung}\] was ended by SIGABRT; a new one takes its place")
        served.hear(r"Worker \[(\d+)\] is ready")
        assert hung in pids


def test_stopped_worker_is_left_alone() -> None:
    with Served.start("--workers", "2", "--hang-timeout", "1.5") as served:
        _, pids = served.ready()
        os.kill(pids[0], signal.SIGSTOP)
        served.hear(rf"Worker \[{pids[0]}\] is stopped, or debugged: left alone")
        os.kill(pids[0], signal.SIGCONT)
        served.signal(signal.SIGTERM)

        assert served.ended() == 0, served.all_output()


def test_server_that_was_stopped_as_a_whole_goes_on() -> None:
    with Served.start("--workers", "2", "--hang-timeout", "1.5") as served:
        _, pids = served.ready()
        served.signal(signal.SIGSTOP, group=True)
        threading.Event().wait(3.5)  # longer than a master sleeps by itself
        served.signal(signal.SIGCONT, group=True)
        threading.Event().wait(1)  # for the master's next look
        served.signal(signal.SIGTERM)

        assert served.ended() == 0
        output = served.all_output()
        assert "hangs" not in output
        assert len(re.findall("is ready", output)) == len(pids)
