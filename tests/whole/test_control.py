"""`lastcall status`, `reload`, `scale` and `stop` against servers that run."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.server_process import run_server
from tests.whole.served import CHECKOUT, Served

pytestmark = pytest.mark.whole


def lastcall(*arguments: str, run_dir: Path) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LASTCALL_")}
    return subprocess.run(
        [sys.executable, "-m", "lastcall", *arguments],
        cwd=CHECKOUT,
        env=clean | {"NO_COLOR": "1", "LASTCALL_RUN_DIR": str(run_dir)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def status(run_dir: Path) -> list[dict[str, Any]]:
    ended = lastcall("status", "--json", run_dir=run_dir)
    assert not ended.stderr
    servers: list[dict[str, Any]] = json.loads(ended.stdout)
    return servers


def test_status_reload_scale_and_stop_of_our_own_master(tmp_path: Path) -> None:
    with Served.start("--workers", "2", app="main:app", LASTCALL_RUN_DIR=str(tmp_path)) as served:
        url, pids = served.ready()
        (server,) = status(tmp_path)
        own = server["supervisor"]
        assert (own["pid"], own["size"], own["address"]) == (served.process.pid, 2, url)
        assert sorted(worker["pid"] for worker in server["workers"]) == sorted(pids)
        for worker in server["workers"]:
            assert (worker["state"], worker["generation"], worker["connections"]) == ("ready", 1, 0)
            assert 10_000_000 < worker["pss"] <= worker["rss"]

        ended = lastcall("reload", run_dir=tmp_path)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert "reload 1: the new workers serve after" in ended.stdout
        served.hear("Reload 1 complete")
        (deploy,) = status(tmp_path)[0]["supervisor"]["deploys"]
        assert (deploy["phase"], deploy["retired"], deploy["generation"]) == ("done", 2, 2)

        assert lastcall("scale", "1", run_dir=tmp_path).returncode == 0
        served.hear("From 2 to 1 workers")
        text = lastcall("status", run_dir=tmp_path).stdout
        assert f"on {url}: master {served.process.pid}" in text
        assert "reload 1 of" in text

        assert lastcall("stop", run_dir=tmp_path).returncode == 0
        assert served.ended() == 0
    assert list(tmp_path.iterdir()) == []
    ended = lastcall("status", run_dir=tmp_path)
    assert (ended.returncode, ended.stdout) == (1, "no server runs here\n")


def test_reload_that_fails_is_the_exit_status_of_the_command(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    (tmp_path / "run").mkdir()
    with Served.start(
        "--workers",
        "2",
        MISBEHAVE="fail to start",
        MISBEHAVE_WHILE=str(broken),
        LASTCALL_RUN_DIR=str(tmp_path / "run"),
    ) as served:
        _, pids = served.ready()
        broken.touch()
        ended = lastcall("reload", "--pid", str(pids[0]), run_dir=tmp_path / "run")

        assert ended.returncode == 1
        assert "reload 1 given up, the old workers stay: Worker" in ended.stderr


def test_directory_that_a_cleaner_takes_comes_back(tmp_path: Path) -> None:
    with Served.start("--workers", "2", LASTCALL_RUN_DIR=str(tmp_path)) as served:
        served.ready()
        (directory,) = tmp_path.iterdir()
        shutil.rmtree(directory)
        os.kill(served.process.pid, signal.SIGTTIN)
        served.hear("is ready")

        assert status(tmp_path)[0]["supervisor"]["size"] == 3


def test_caller_who_says_nothing_or_nonsense_holds_nobody_up(tmp_path: Path) -> None:
    with Served.start("--workers", "2", LASTCALL_RUN_DIR=str(tmp_path)) as served:
        served.ready()
        (door,) = tmp_path.glob("*/*.control")
        callers = [socket.socket(socket.AF_UNIX) for _ in range(20)]
        for caller in callers:
            caller.connect(str(door))
        callers[-1].sendall(b'{"command": "dance"}\n')
        assert b"not understood" in callers[-1].recv(1000)
        callers[-2].sendall(b"x" * 5000)

        assert len(status(tmp_path)) == 1
        for caller in callers:
            caller.close()
        served.signal(signal.SIGTERM)
        assert served.ended() == 0


def test_workers_of_stock_uvicorn_are_seen_and_stopped() -> None:
    with run_server(workers=2) as server:
        (seen,) = status(server.run_dir)
        assert (seen["master"], seen["supervisor"]) == (server.process.pid, None)
        assert {worker["state"] for worker in seen["workers"]} == {"ready"}

        ended = lastcall("reload", run_dir=server.run_dir)
        assert "only a master of `lastcall serve --workers N` can reload" in ended.stderr
        assert lastcall("stop", run_dir=server.run_dir).returncode == 0
        assert server.wait(10) in (0, -signal.SIGTERM)


def test_one_of_several_servers_has_to_be_named(tmp_path: Path) -> None:
    with run_server(directory=tmp_path), run_server(directory=tmp_path) as other:
        run_dir = tmp_path / "run"
        assert len(status(run_dir)) == 2
        assert "name one by --pid: " in lastcall("stop", run_dir=run_dir).stderr
        assert lastcall("stop", "--pid", str(other.process.pid), run_dir=run_dir).returncode == 0
        assert other.wait(10) == -signal.SIGTERM
        assert len(status(run_dir)) == 1
