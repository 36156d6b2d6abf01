"""`lastcall serve` with real workers and real signals: replaced, told, stopped, never orphaned."""

import os
import signal
import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.whole.served import (
    Served,
    finish,
    has_ended,
    is_gone,
    request_in_flight,
    watched,
)

pytestmark = pytest.mark.whole

AT_ONCE = 3.0
"""Seconds on a busy machine; what is slow here takes a minute."""


def is_refused(url: str) -> bool:
    where = urlsplit(url)
    try:
        socket.create_connection((where.hostname or "", where.port or 0), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_sigterm_to_the_master_ends_all_with_status_0(loop: str) -> None:
    with Served.start("--workers", "2", "--loop", loop) as served:
        url, pids = served.ready()
        assert int(httpx.get(url).text) in pids

        served.signal(signal.SIGTERM)

        assert served.ended() == 0
        assert all(is_gone(pid) for pid in pids)
        assert is_refused(url)
        assert "Traceback" not in served.all_output()


def test_killed_worker_is_replaced() -> None:
    with Served.start("--workers", "2") as served:
        url, pids = served.ready()

        os.kill(pids[0], signal.SIGKILL)

        served.hear(rf"Worker \[{pids[0]}\] was ended by SIGKILL; .* in 0\.1 s")
        successor = int(served.hear(r"Worker \[(\d+)\] is ready")[1])
        assert successor not in pids
        assert int(httpx.get(url).text) in {successor, pids[1]}


def test_killed_worker_is_replaced_while_another_drains() -> None:
    with Served.start("--workers", "2") as served:
        url, pids = served.ready()
        with request_in_flight(url, served) as held:
            # Nobody but the one that drains holds this request; it leaves after answering.
            for pid in pids:
                os.kill(pid, signal.SIGTERM)
            first = int(served.hear(r"Worker \[(\d+)\] left with exit status 0; a new one")[1])
            replacement = int(served.hear(r"Worker \[(\d+)\] is ready")[1])
            os.kill(replacement, signal.SIGKILL)
            served.hear(rf"Worker \[{replacement}\] was ended by SIGKILL")
            served.hear(r"Worker \[(\d+)\] is ready")

            assert finish(held) in set(pids) - {first}


def test_port_is_closed_at_once_while_workers_drain() -> None:
    with Served.start("--workers", "2") as served:
        url, pids = served.ready()
        with request_in_flight(url, served) as held:
            served.signal(signal.SIGTERM)
            # Both have closed theirs when one has gone and the other has said so.
            served.hear_all(r"Waiting for (connections to close|background tasks)", "; 1 left")

            assert is_refused(url)
            served.signal(signal.SIGTERM)
            assert finish(held) in pids
        assert served.ended() == 0


def test_ctrl_c_reaches_the_whole_group_and_is_one_request() -> None:
    with Served.start("--workers", "2") as served:
        url, pids = served.ready()
        with request_in_flight(url, served) as held:
            served.signal(signal.SIGINT, group=True)
            served.hear(r"; 1 left")

            assert finish(held) in pids
        assert served.ended() == 0
        assert "Traceback" not in served.all_output()


def test_second_ctrl_c_ends_workers_at_once() -> None:
    with Served.start("--workers", "2") as served:
        url, _ = served.ready()
        with request_in_flight(url, served):
            served.signal(signal.SIGINT)
            served.hear(r"; 1 left")
            threading.Event().wait(0.6)  # later than what counts as one request
            served.signal(signal.SIGINT)

            assert served.ended(AT_ONCE) == 0, served.all_output()


def test_third_ctrl_c_kills_and_says_so_in_the_exit_status() -> None:
    with Served.start("--workers", "2", MISBEHAVE="ignore signals") as served:
        _, pids = served.ready()
        for what in ("stopping", "ending at once", "killing"):
            served.signal(signal.SIGINT)
            served.hear(f"SIGINT received: {what} 2 workers")
            threading.Event().wait(0.6)  # later than what counts as one request

        assert served.ended(AT_ONCE) == 1
        assert all(is_gone(pid) for pid in pids)


def test_crash_loop_backs_off_and_still_hears_sigterm() -> None:
    with Served.start("--workers", "2", MISBEHAVE="crash at import") as served:
        for delay in (r"0\.1", r"0\.2", r"0\.4"):
            served.hear(rf"left with exit status 9; a new one takes its place in {delay} s")
        served.signal(signal.SIGTERM)

        assert served.ended(AT_ONCE) == 0, served.all_output()


@pytest.mark.parametrize("how", ["fail to start", "raise at import", "exit at import"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_start_that_cannot_succeed_ends_with_status_3(how: str, workers: str) -> None:
    with Served.start("--workers", workers, MISBEHAVE=how) as served:
        assert served.ended() == 3
        output = served.all_output()

    if workers == "2":
        assert "before it was ready: the server cannot start" in output
    assert {
        "fail to start": "no database",
        "raise at import": "RuntimeError: broken on purpose",
        "exit at import": "not today",
    }[how] in output


def test_worker_that_cannot_start_later_leaves_the_others_serving(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    with Served.start(
        "--workers", "2", MISBEHAVE="fail to start", MISBEHAVE_WHILE=str(broken)
    ) as served:
        url, pids = served.ready()
        broken.touch()
        os.kill(pids[0], signal.SIGKILL)

        served.hear(r"left with exit status 3; a new one takes its place in 0\.2 s")
        assert int(httpx.get(url).text) == pids[1]
        broken.unlink()
        served.hear(r"Worker \[(\d+)\] is ready")


def test_nobody_left_and_nobody_can_start_ends_with_status_3(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    with Served.start(
        "--workers", "2", MISBEHAVE="fail to start", MISBEHAVE_WHILE=str(broken)
    ) as served:
        _, pids = served.ready()
        broken.touch()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

        assert served.ended() == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    ("phase", "sign"), [("hang at import", "importing"), ("hang in startup", "starting up")]
)
def test_signal_during_start_up_is_acted_on_at_once(
    number: signal.Signals, workers: str, phase: str, sign: str
) -> None:
    with Served.start("--workers", workers, MISBEHAVE=phase) as served:
        served.hear(sign)
        served.signal(number, group=number == signal.SIGINT)

        assert served.ended(AT_ONCE) == 0, served.all_output()
        assert "Traceback" not in served.all_output()


def test_start_up_that_is_stopped_is_cleaned_up() -> None:
    with Served.start("--workers", "2", MISBEHAVE="hang in startup") as served:
        for _ in range(2):
            served.hear("starting up")
        served.signal(signal.SIGTERM)
        for _ in range(2):
            served.hear("cleaned up")

        assert served.ended(AT_ONCE) == 0, served.all_output()


@pytest.mark.parametrize("moment", ["Master", "Started server process"])
def test_ctrl_c_while_processes_start_leaves_no_traceback(moment: str) -> None:
    with Served.start("--workers", "2") as served:
        served.hear(moment)
        served.signal(signal.SIGINT, group=True)

        assert served.ended(AT_ONCE) == 0, served.all_output()
        assert "Traceback" not in served.all_output()


def test_workers_of_a_killed_master_leave_and_the_port_is_free() -> None:
    with Served.start("--workers", "2") as served:
        url, (first, second) = served.ready()
        with watched(first) as one, watched(second) as other:
            served.signal(signal.SIGKILL)

            assert has_ended(one)
            assert has_ended(other)
        assert is_refused(url)


def test_workers_know_their_master_and_do_not_share_its_handlers() -> None:
    with Served.start("--workers", "2") as served:
        _, pids = served.ready()
        for pid in pids:
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            (master,) = (each for each in environment if each.startswith(b"LASTCALL_MASTER="))
            assert master.startswith(f"LASTCALL_MASTER={served.process.pid}-".encode())
            status = Path(f"/proc/{pid}/status").read_text()
            (caught,) = (line for line in status.splitlines() if line.startswith("SigCgt"))
            assert not int(caught.split()[1], 16) & 1 << (signal.SIGCHLD - 1)


def test_unix_socket_serves_and_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "chat.sock"
    with Served.start("--workers", "2", "--uds", str(path)) as served:
        place, pids = served.ready()
        assert place == str(path)
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
            assert int(client.get("http://chat/").text) in pids
        served.signal(signal.SIGTERM)

        assert served.ended() == 0
        assert not path.exists()


def test_socket_of_a_service_manager_serves() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.fileno()
        with Served.start("--workers", "2", "--fd", str(number), pass_fds=(number,)) as served:
            _, pids = served.ready()
            host, port = listener.getsockname()
            assert int(httpx.get(f"http://{host}:{port}").text) in pids
            served.signal(signal.SIGTERM)

            assert served.ended() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_worker_needs_no_master(number: signal.Signals) -> None:
    with Served.start(LASTCALL_MASTER="1-1") as served:
        url, _ = served.ready(workers=0)
        assert int(httpx.get(url).text) == served.process.pid

        served.signal(number)

        assert served.ended() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_application_that_fails_to_stop_is_an_exit_status_of_1(workers: str) -> None:
    with Served.start("--workers", workers, MISBEHAVE="fail to stop") as served:
        served.ready(workers=0)
        served.signal(signal.SIGTERM)

        assert served.ended() == 1


@pytest.mark.parametrize("workers", ["1", "2"])
def test_port_in_use_is_one_sentence_and_status_3(workers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        with Served.start("--port", port, "--workers", workers) as served:
            assert served.ended() == 3
            assert served.all_output() == (
                f"lastcall: cannot listen on 127.0.0.1:{port}: Address already in use\n"
            )


def test_reload_is_uvicorns_own() -> None:
    with Served.start("--reload", "--reload-dir", "tests/whole") as served:
        served.hear("Started reloader process")
        served.hear("Application startup complete")
        served.signal(signal.SIGTERM)

        assert served.ended() == 0


def test_unknown_variable_is_said_once_for_all_workers() -> None:
    with Served.start("--workers", "2", LASTCALL_HANDOFF="off") as served:
        # Its workers read no settings; what they would say is silenced in test_settings.
        served.hear(r"WARNING: +LASTCALL_HANDOFF is set, but there is no such setting; did you")
