"""A start that cannot succeed: one sentence for the operator, and a status that servers obey."""

import signal
import sys
from pathlib import Path

import pytest

from tests.server_process import START_TIMEOUT, run_server, wait_until

pytestmark = pytest.mark.whole

UVICORN = (sys.executable, "-m", "uvicorn", "main:app")
GUNICORN = (
    *(sys.executable, "-m", "gunicorn", "main:app", "--bind", "127.0.0.1:{port}"),
    *("--worker-class", "uvicorn_worker.UvicornWorker", "--no-control-socket"),
)


@pytest.mark.parametrize("wrong", [{"run_dir": "/proc/nowhere"}, {"handover": "sideways"}])
@pytest.mark.parametrize(
    ("command", "workers", "status"), [(UVICORN, 1, 3), (UVICORN, 2, 0), (GUNICORN, 1, 3)]
)
def test_a_wrong_setting_stops_the_start_with_a_sentence(
    command: tuple[str, ...], workers: int, status: int, wrong: dict[str, str]
) -> None:
    """The master of uvicorn takes a worker's 3 as "stop", and ends with 0 itself."""
    (name, value) = next(iter(wrong.items()))
    with run_server(command=command, workers=workers, wait=False, **wrong) as server:  # type: ignore[arg-type]
        assert server.wait(START_TIMEOUT) == status
        assert f"lastcall: LASTCALL_{name.upper()}" in server.log
        assert value in server.log
        assert "Traceback" not in server.log


def test_several_workers_need_a_state_directory_that_can_be_written() -> None:
    with run_server(workers=2, wait=False, state_dir="/proc/nowhere") as server:
        assert server.wait(START_TIMEOUT) == 0
        assert "lastcall: LASTCALL_STATE_DIR: /proc/nowhere cannot be used" in server.log
        assert "Traceback" not in server.log
        assert server.leftovers() == []


@pytest.mark.parametrize("command", [UVICORN, (*UVICORN[:2], "lastcall", "serve")])
def test_a_start_that_waits_for_its_log_can_be_stopped(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    """A disk that is full or broken delays the start, and must not make it deaf."""
    (tmp_path / "state" / "history.sqlite3").mkdir(parents=True)
    with run_server(command=command, workers=2, wait=False, directory=tmp_path) as server:
        wait_until(lambda: "the log cannot be opened" in server.log, START_TIMEOUT, server.describe)
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0
        wait_until(server.group_is_gone, 2, server.describe)
        assert "Traceback" not in server.log
        assert server.leftovers() == []


def test_a_server_whose_log_cannot_be_opened_says_that_it_is_not_ready(tmp_path: Path) -> None:
    """Until it can be: whoever runs it sees what is wrong, and it comes back by itself."""
    (tmp_path / "state" / "history.sqlite3").mkdir(parents=True)
    with run_server(workers=2, wait=False, directory=tmp_path) as server:
        wait_until(lambda: server.health("live") == 200, START_TIMEOUT, server.describe)
        assert server.health("ready") == 503
        assert server.log.count("the log cannot be opened") <= 2, server.log

        (tmp_path / "state" / "history.sqlite3").rmdir()
        wait_until(lambda: server.health("ready") == 200, START_TIMEOUT, server.describe)
        server.send_signal(signal.SIGTERM)
        server.wait(10)
        assert "Traceback" not in server.log


def test_workers_that_would_not_hear_each_other_say_so() -> None:
    with run_server(workers=2, broker_url="memory:") as server:
        assert "clients of different workers do not hear each other" in server.log
