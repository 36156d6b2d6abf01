"""A new master takes over, or nothing has happened; seen from whoever started the first one."""

import signal
import sys
from pathlib import Path

import httpx
import pytest

from lastcall.settings import SHUTDOWN_NOTICE
from tests.clients import clients
from tests.server_process import run_server, wait_until
from tests.whole.served import APPLICATION, Served, finish, is_gone, request_in_flight
from tests.whole.test_control import lastcall, status

pytestmark = pytest.mark.whole

CLOSE = {"Connection": "close"}
OWN = (sys.executable, "-m", "lastcall", "serve", "main:app")


def upgraded(served: Served) -> tuple[int, list[int]]:
    """Wait until a new master has taken over; its pid and its workers'."""
    pids = [int(served.hear(r"Worker \[(\d+)\] is ready")[1]) for _ in range(2)]
    return int(served.hear(r"Master \[(\d+)\] takes over, 2 workers retire")[1]), pids


def test_new_master_takes_over_and_who_started_the_first_sees_one_process(tmp_path: Path) -> None:
    with Served.start("--workers", "2", LASTCALL_RUN_DIR=str(tmp_path)) as served:
        url, old = served.ready()
        with request_in_flight(url, served) as held:
            served.signal(signal.SIGUSR2)
            second, pids = upgraded(served)
            # The old ones take requests until they have heard of it, and then no more.
            wait_until(lambda: int(httpx.get(url).text) in pids, 20)
            assert finish(held) in old
        served.hear("Upgrade 1 complete")

        # Once more, by the command: the second master leaves, the first process stays in front.
        ended = lastcall("upgrade", run_dir=tmp_path)
        assert (ended.returncode, ended.stderr) == (0, "")
        third, pids = upgraded(served)
        served.hear(rf"Master \[{second}\] ends with exit status 0")
        assert int(httpx.get(url).text) in pids
        (server,) = [each for each in status(tmp_path) if not each["supervisor"]["stopping"]]
        assert (server["master"], server["supervisor"]["generation"]) == (third, 3)
        # Who knows the pid that it was started with may go on using it.
        assert (
            lastcall("scale", "2", "--pid", str(served.process.pid), run_dir=tmp_path).stderr == ""
        )

        served.signal(signal.SIGHUP)
        served.hear("Reload 1 complete")
        served.signal(signal.SIGTERM)
        assert served.ended() == 0
        assert is_gone(third)
    assert list(tmp_path.iterdir()) == []


def test_unix_socket_changes_hands_and_is_removed_in_the_end(tmp_path: Path) -> None:
    path, broken = tmp_path / "chat.sock", tmp_path / "broken"
    with (
        Served.start(
            "--workers",
            "2",
            "--uds",
            str(path),
            MISBEHAVE="fail to start",
            MISBEHAVE_WHILE=str(broken),
        ) as served,
        httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client,
    ):
        _, pids = served.ready()
        broken.touch()
        served.signal(signal.SIGUSR2)
        served.hear("Upgrade 1 given up")
        assert int(client.get("http://chat/", headers=CLOSE).text) in pids

        broken.unlink()
        served.signal(signal.SIGUSR2)
        _, pids = upgraded(served)
        served.hear("Upgrade 2 complete")
        assert int(client.get("http://chat/", headers=CLOSE).text) in pids
        served.signal(signal.SIGTERM)

        assert served.ended() == 0
        assert not path.exists()


def test_release_that_a_link_points_to_by_now_is_taken(tmp_path: Path) -> None:
    for name in ("old", "newer"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "released.py").write_text(APPLICATION.replace("RELEASE", name))
    current = tmp_path / "current"
    current.symlink_to("old")
    with Served.start("--workers", "2", app="released:app", directory=current) as served:
        url, _ = served.ready()
        assert httpx.get(url).text == "old"
        current.unlink()
        current.symlink_to("newer")
        served.signal(signal.SIGUSR2)
        upgraded(served)
        served.hear("Upgrade 1 complete")

        assert httpx.get(url).text == "newer"


@pytest.mark.anyio
async def test_clients_stay_connected_to_the_new_masters_workers() -> None:
    with run_server(command=OWN, workers=2, heartbeat_interval=0) as server:
        async with clients(server.websocket_url, 6) as connected:
            before = set(server.worker_pids())
            server.send_signal(signal.SIGUSR2)
            wait_until(lambda: not before & set(server.records()), 30, server.describe)
            await connected[0].send("hello")
            for client in connected:
                await client.hear("hello")
                assert SHUTDOWN_NOTICE not in client.heard
        server.send_signal(signal.SIGTERM)
        assert server.wait(15) == 0
        assert server.leftovers() == []
