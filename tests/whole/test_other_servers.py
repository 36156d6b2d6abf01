"""What holds where another server runs the worker; docs/servers.md says it in words."""

import importlib.util
import os
import signal
import sys
import time

import pytest

from lastcall.settings import SHUTDOWN_NOTICE
from tests.clients import Client, clients
from tests.server_process import ServerProcess, run_server, slowness, wait_until
from tests.whole.moving import until
from tests.whole.spreading import fill, recorded, spread

pytestmark = [pytest.mark.anyio, pytest.mark.whole]

COMMANDS = {
    "hypercorn": ("hypercorn", "main:app", "--bind", "127.0.0.1:{port}"),
    "hypercorn-uvloop": (
        *("hypercorn", "main:app", "-k", "uvloop", "--bind", "127.0.0.1:{port}"),
        *("--graceful-timeout", "6"),
    ),
    "hypercorn-alone": ("hypercorn", "main:app", "--workers", "0", "--bind", "127.0.0.1:{port}"),
    "gunicorn": (
        *("gunicorn", "main:app", "--worker-class", "uvicorn_worker.UvicornWorker"),
        *("--bind", "127.0.0.1:{port}", "--graceful-timeout", "30", "--no-control-socket"),
    ),
    "uvicorn-wsproto": ("uvicorn", "main:app", "--ws", "wsproto", "--port", "{port}"),
    "uvicorn-h11": ("uvicorn", "main:app", "--http", "h11", "--port", "{port}"),
    "granian": ("granian", "--interface", "asgi", "main:app", "--port", "{port}"),
}
DRAINING = [name for name in COMMANDS if name != "granian"]
HEARTBEAT = "Server is running..."


def run(name: str, **settings: object):  # type: ignore[no-untyped-def]  # noqa: ANN201  (as run_server)
    """Run the notification server under the server *name*."""
    module, *arguments = COMMANDS[name]
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    command = (sys.executable, "-m", module, *arguments)
    return run_server(command=command, **settings)  # type: ignore[arg-type]


def leaves_nothing(server: ServerProcess) -> None:
    """Check that neither a process nor a file of the server is left, and no traceback."""
    wait_until(server.group_is_gone, 5)
    assert server.leftovers() == []
    assert "Traceback" not in server.log


@pytest.mark.parametrize("name", COMMANDS)
async def test_clients_are_served_and_let_go_with_codes(name: str) -> None:
    with run(name, heartbeat_interval=0.5, max_message_size=100) as server:
        async with clients(server.websocket_url, 3) as (first, second, third):
            await first.hear(f"{third.name} connected.")
            await first.send("to all")
            await second.send(b"\x00in bytes")
            for client in (first, second, third):
                await client.hear("to all")
                await client.hear(b"\x00in bytes")
                await client.hear(HEARTBEAT, times=2)
            assert server.get("/health/live")[0] == 200
            assert server.get("/health/ready")[0] == 200
            await third.cut()
            await first.hear(f"{third.name} disconnected.")
            await second.send("x" * 101)
            assert await second.closed() == (1009, "message too big")
            await first.send("still served")
            await first.hear("still served")
            assert "Traceback" not in server.log


@pytest.mark.parametrize("name", DRAINING)
async def test_clients_are_told_served_and_closed(name: str) -> None:
    with run(name, shutdown_timeout=4, shutdown_notice_interval=0.5) as server:
        async with clients(server.websocket_url, 2) as (first, second):
            started = time.monotonic()
            server.send_signal(signal.SIGTERM)
            await first.hear(SHUTDOWN_NOTICE)
            assert time.monotonic() - started < 1 * slowness()
            await second.send("still here")
            await first.hear("still here")
            await first.hear(SHUTDOWN_NOTICE, times=3)
            assert await first.closed() == (1012, "server is shutting down")
            assert await second.closed() == (1012, "server is shutting down")
        server.wait(5)
        leaves_nothing(server)


@pytest.mark.parametrize("name", ["hypercorn", "hypercorn-alone", "gunicorn"])
async def test_ends_when_the_last_client_has_left(name: str) -> None:
    with run(name, shutdown_timeout=60) as server:
        async with clients(server.websocket_url, 1) as (client,):
            server.send_signal(signal.SIGINT)
            await client.hear(SHUTDOWN_NOTICE)
        server.wait(3)
        leaves_nothing(server)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("name", ["hypercorn", "gunicorn"])
async def test_a_signal_to_every_process_is_one_stop(name: str, number: signal.Signals) -> None:
    """So systemd stops a service, and so a terminal's Ctrl-C goes."""
    with run(name, shutdown_timeout=60) as server:
        async with clients(server.websocket_url, 1) as (client,):
            server.send_signal_to_group(number)
            await client.hear(SHUTDOWN_NOTICE)
            await client.send("still here")
            await client.hear("still here")
        server.wait(3)
        leaves_nothing(server)


async def test_gunicorns_limit_counts() -> None:
    with run("gunicorn", shutdown_timeout=60) as server:
        assert "25 s to leave (gunicorn's --graceful-timeout)" in server.log


async def test_hypercorns_limit_counts_where_it_does_not_wait_for_connections() -> None:
    with run("hypercorn-uvloop", shutdown_timeout=60) as server:
        assert "5 s to leave (hypercorn's --graceful-timeout)" in server.log
        async with clients(server.websocket_url, 1) as (client,):
            server.send_signal(signal.SIGTERM)
            assert await client.closed() == (1012, "server is shutting down")
        server.wait(3)
        leaves_nothing(server)


async def test_a_stop_in_a_hurry_under_gunicorn_has_clean_codes_too() -> None:
    """SIGQUIT, or a second Ctrl-C, makes gunicorn kill after two seconds."""
    # The second notice comes when a signal is not the same Ctrl-C any more.
    with run("gunicorn", shutdown_timeout=60, shutdown_notice_interval=0.7) as server:
        async with clients(server.websocket_url, 1) as (client,):
            server.send_signal(signal.SIGTERM)
            await client.hear(SHUTDOWN_NOTICE, times=2)
            server.send_signal(signal.SIGQUIT)
            assert await client.closed(patience=2) == (1012, "server is shutting down")
        server.wait(5)
        leaves_nothing(server)


@pytest.mark.parametrize("name", ["hypercorn", "hypercorn-alone"])
async def test_while_hypercorn_drains_new_clients_are_refused_at_once(name: str) -> None:
    with run(name, shutdown_timeout=60) as server:
        async with clients(server.websocket_url, 1) as (client,):
            server.send_signal(signal.SIGTERM)
            await client.hear(SHUTDOWN_NOTICE)
            wait_until(lambda: is_refused(server), 2)
            await client.send("still here")
            await client.hear("still here")


def is_refused(server: ServerProcess) -> bool:
    try:
        server.get("/health/live", timeout=0.1)
    except OSError as error:
        return "refused" in str(error)
    return False


async def test_hypercorn_serves_again_after_a_reload() -> None:
    """Not to be confused with a stop: the workers that follow listen on the same sockets."""
    with run("hypercorn", shutdown_timeout=1) as server:
        (pid,) = server.worker_pids()
        async with clients(server.websocket_url, 1) as (client,):
            server.send_signal(signal.SIGHUP)
            assert await client.closed() == (1012, "server is shutting down")
        wait_until(lambda: set(server.worker_pids()) not in ({pid}, set()), 15)
        again = await Client.connect(server.websocket_url)
        await again.close()


async def test_a_single_worker_of_hypercorn_that_is_told_to_stop_drains() -> None:
    with run("hypercorn", shutdown_timeout=1) as server:
        async with clients(server.websocket_url, 1) as (client,):
            (pid,) = server.worker_pids()
            os.kill(pid, signal.SIGTERM)
            await client.hear(SHUTDOWN_NOTICE)
            assert await client.closed() == (1012, "server is shutting down")
        # Its master starts another.
        wait_until(lambda: set(server.worker_pids()) not in ({pid}, set()), 15)
        again = await Client.connect(server.websocket_url)
        await again.close()


async def test_granian_cuts_its_clients() -> None:
    """Fails when granian learns to wait; then docs/servers.md can say something better."""
    with run("granian", shutdown_timeout=5) as server:
        async with clients(server.websocket_url, 1) as (client,):
            server.send_signal(signal.SIGTERM)
            with pytest.raises(AssertionError, match="1006"):
                await client.closed()
        server.wait(5)
        leaves_nothing(server)


@pytest.mark.parametrize("name", ["hypercorn", "gunicorn"])
async def test_several_workers_share_their_channels_and_stop(name: str) -> None:
    with run(name, workers=2, shutdown_timeout=60) as server:
        async with clients(server.websocket_url, 20) as connected:
            await spread(server, connected)
            await fill(server, connected)
            await connected[0].send("to all workers")
            for client in connected:
                await client.hear("to all workers")
            server.send_signal(signal.SIGTERM)
            for client in connected:
                await client.hear(SHUTDOWN_NOTICE)
        server.wait(5)
        leaves_nothing(server)


async def test_gunicorn_replaces_its_workers_and_disconnects_nobody() -> None:
    """It stops the old ones while the next ones start: clients may be told, but are moved then."""
    with run("gunicorn", workers=2, shutdown_timeout=60, announcements=False) as server:
        async with clients(server.websocket_url, 8) as connected:
            before = {*server.worker_pids()}
            server.send_signal(signal.SIGHUP)

            def are_new() -> bool:
                there = {*server.records(), *server.records("DONE")}
                return len(server.worker_pids()) == 2 and not before & there

            await until(are_new, server)
            await connected[0].send("after all")
            for client in connected:
                await client.hear("after all")
            recorded(server, 8)
            assert "clients over to worker" in server.log
            server.send_signal(signal.SIGTERM)
        server.wait(5)
        leaves_nothing(server)
