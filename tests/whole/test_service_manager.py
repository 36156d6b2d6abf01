"""Who starts it: systemd, whose side of the line the test plays, or a container as process 1."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.server_process import wait_until
from tests.whole.served import Served, is_gone
from tests.whole.test_upgrade import upgraded

pytestmark = pytest.mark.whole

ACTIVATED = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
os.execv(sys.argv[2], sys.argv[2:])
"""
"""What systemd does between fork and exec: the socket is descriptor 3, for this process only."""

CONTAINER = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket on which systemd would listen."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(20)
        yield listener


def test_service_manager_hears_of_it_and_watches_the_new_master(
    manager: socket.socket,
) -> None:
    named = {"NOTIFY_SOCKET": manager.getsockname(), "INVOCATION_ID": "0" * 32}
    with Served.start("--workers", "2", **named) as served:
        _, old = served.ready()
        assert manager.recv(1000).startswith(b"READY=1")
        served.signal(signal.SIGHUP)
        assert manager.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert manager.recv(1000).startswith(b"READY=1")
        served.signal(signal.SIGUSR2)
        said = manager.recv(1000)
        assert said.startswith(b"READY=1\nMAINPID=")
        pid = int(said.split(b"=")[2])

        assert served.ended() == 0
        assert all(is_gone(each) for each in old)
        os.kill(pid, signal.SIGTERM)
        assert manager.recv(1000) == b"STOPPING=1"
        wait_until(
            lambda: is_gone(pid) or Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z", 10
        )


def test_manager_that_names_no_start_keeps_its_process(manager: socket.socket) -> None:
    """A container's runtime has such a socket too, and sees the end of process 1 as its end."""
    with Served.start(
        "--workers", "2", NOTIFY_SOCKET=manager.getsockname(), INVOCATION_ID=""
    ) as served:
        url, _ = served.ready()
        assert manager.recv(1000) == b"READY=1"
        served.signal(signal.SIGUSR2)
        _, pids = upgraded(served)
        served.hear("Upgrade 1 complete")

        assert int(httpx.get(url).text) in pids
        served.signal(signal.SIGTERM)
        assert served.ended() == 0


def test_manager_hears_nothing_from_a_master_that_has_not_taken_over(
    manager: socket.socket, tmp_path: Path
) -> None:
    late = tmp_path / "late"
    with Served.start(
        "--workers",
        "2",
        MISBEHAVE="start late",
        MISBEHAVE_WHILE=str(late),
        NOTIFY_SOCKET=manager.getsockname(),
        INVOCATION_ID="0" * 32,
    ) as served:
        served.ready()
        late.touch()
        served.signal(signal.SIGUSR2)
        served.hear("starting late")
        served.signal(signal.SIGTERM)
        assert served.ended() == 0

    assert [manager.recv(1000) for _ in range(2)] == [b"READY=1", b"STOPPING=1"]
    manager.settimeout(0)
    with pytest.raises(BlockingIOError):
        manager.recv(1000)


def test_socket_of_the_manager_outlives_upgrades_and_restarts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.fileno()
        below = (sys.executable, "-c", ACTIVATED, str(number))
        with Served.start("--workers", "2", below=below, pass_fds=(number,)) as served:
            url, _ = served.ready()
            assert url.endswith(f":{listener.getsockname()[1]}")
            served.signal(signal.SIGUSR2)
            _, pids = upgraded(served)
            served.hear("Upgrade 1 complete")
            assert int(httpx.get(url).text) in pids
            served.signal(signal.SIGTERM)
            assert served.ended() == 0
        with socket.create_connection(listener.getsockname()) as early:
            # Nobody serves, and nobody is refused: the next start finds it waiting.
            early.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            with Served.start("--workers", "2", below=below, pass_fds=(number,)) as served:
                served.ready()
                early.settimeout(20)
                assert early.recv(1000).startswith(b"HTTP/1.1 200")


@pytest.mark.skipif(
    subprocess.run([*CONTAINER, "true"], check=False).returncode != 0,
    reason="this machine lets nobody make a PID namespace: process 1 is not tried",
)
def test_process_1_of_a_container_stays_in_front() -> None:
    with Served.start("--workers", "2", below=CONTAINER) as served:
        url, old = served.ready()
        assert old[0] < 100  # in a world of its own
        process_1 = only_child(served.process.pid)
        for _ in range(2):
            os.kill(process_1, signal.SIGUSR2)
            _, pids = upgraded(served)
            served.hear("Upgrade 1 complete")
            assert int(httpx.get(url).text) in pids
        os.kill(process_1, signal.SIGTERM)

        assert served.ended() == 0
        assert len(re.findall("ends with exit status 0", served.all_output())) == 3


def only_child(pid: int) -> int:
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)
