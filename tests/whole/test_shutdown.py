"""How one worker leaves: every line of the brief, with real signals and real clients."""

import signal
import sys
import time

import pytest

from lastcall.settings import SHUTDOWN_NOTICE
from tests.clients import Client, clients
from tests.server_process import ROOT, ServerProcess, run_server, slowness

pytestmark = [pytest.mark.anyio, pytest.mark.whole]

STOPS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


@STOPS
async def test_clients_are_told_served_and_closed_at_the_timeout(
    server: ServerProcess, number: signal.Signals
) -> None:
    async with clients(server.websocket_url, 2) as (first, second):
        started = time.monotonic()
        server.send_signal(number)

        await first.hear(SHUTDOWN_NOTICE)
        told_after = time.monotonic() - started
        assert server.get("/health/ready")[0] == 503
        await second.send("still here")
        await first.hear("still here")
        await first.hear(SHUTDOWN_NOTICE, times=3)

        assert await first.closed() == (1012, "server is shutting down")
        assert await second.closed() == (1012, "server is shutting down")
        closed_after = time.monotonic() - started

    # Measured now: it may take longer than the clients had.
    slower = slowness()
    assert told_after < 1 * slower
    assert 1.9 < closed_after < 4 * slower
    # uvicorn's own statuses: killed by SIGTERM, or a quiet end after Ctrl-C.
    assert server.wait(5) == (-signal.SIGTERM if number == signal.SIGTERM else 0)
    assert server.leftovers() == []
    assert "Traceback" not in server.log


@STOPS
async def test_ends_at_once_when_the_last_client_leaves(number: signal.Signals) -> None:
    with run_server(shutdown_timeout=60) as server:
        async with clients(server.websocket_url, 2) as (first, second):
            server.send_signal(number)
            await first.hear(SHUTDOWN_NOTICE)
            await first.close()
            await second.hear(f"{first.name} disconnected.")
            assert server.process.poll() is None
        left = time.monotonic()

        server.wait(5)

    assert time.monotonic() - left < 1.5 * slowness()


async def test_ends_at_once_when_the_last_client_is_cut(server: ServerProcess) -> None:
    client = await Client.connect(server.websocket_url)
    server.send_signal(signal.SIGTERM)
    await client.hear(SHUTDOWN_NOTICE)
    await client.cut()

    assert server.wait(5) == -signal.SIGTERM


async def test_without_clients_the_end_comes_at_once(server: ServerProcess) -> None:
    server.send_signal(signal.SIGTERM)

    assert server.wait(2) == -signal.SIGTERM
    assert server.leftovers() == []


async def test_signals_that_come_twice_are_one_stop(server: ServerProcess) -> None:
    async with clients(server.websocket_url, 1) as (client,):
        server.send_signal(signal.SIGTERM)
        await client.hear(SHUTDOWN_NOTICE)
        server.send_signal(signal.SIGTERM)
        await client.hear(SHUTDOWN_NOTICE, times=2)
        await client.send("served")
        await client.hear("served")

    assert server.wait(5) == -signal.SIGTERM


async def test_a_second_ctrl_c_ends_it_now_with_clean_codes() -> None:
    with run_server(shutdown_timeout=60, shutdown_notice_interval=0.7) as server:
        async with clients(server.websocket_url, 3) as connected:
            server.send_signal(signal.SIGINT)
            await connected[0].hear(SHUTDOWN_NOTICE, times=2)
            server.send_signal(signal.SIGINT)
            for client in connected:
                assert await client.closed(patience=2) == (1012, "server is shutting down")

        server.wait(3)
        assert server.leftovers() == []
        assert "Traceback" not in server.log


async def test_two_interrupts_within_half_a_second_are_one_ctrl_c() -> None:
    with run_server(shutdown_timeout=60, shutdown_notice_interval=0.5) as server:
        async with clients(server.websocket_url, 1) as (client,):
            server.send_signal(signal.SIGINT)
            server.send_signal(signal.SIGINT)
            await client.hear(SHUTDOWN_NOTICE, times=3)
        server.wait(3)


async def test_new_connections_are_refused_in_words_while_none_stays() -> None:
    with run_server(shutdown_timeout=60) as server:
        async with clients(server.websocket_url, 1) as (client,):
            server.send_signal(signal.SIGTERM)
            await client.hear(SHUTDOWN_NOTICE)
            time.sleep(0.6)  # noqa: ASYNC251  (the worker looks for siblings for a quarter of a second)

            started = time.monotonic()
            status, headers, _ = server.get("/", timeout=1)
            assert status == 503
            assert headers["connection"] == "close"
            assert int(headers["retry-after"]) >= 1
            with pytest.raises(Exception, match="503"):
                await Client.connect(server.websocket_url)
            assert server.get("/health/live")[0] == 200
            assert server.get("/health/ready")[0] == 503
            assert time.monotonic() - started < 1 * slowness()
        server.wait(3)


async def test_the_timeout_of_uvicorn_counts_when_it_is_smaller() -> None:
    with run_server("--timeout-graceful-shutdown", "1", shutdown_timeout=60) as server:
        assert "1 s to leave (--timeout-graceful-shutdown)" in server.log
        async with clients(server.websocket_url, 1) as (client,):
            started = time.monotonic()
            server.send_signal(signal.SIGTERM)
            assert (await client.closed())[0] == 1012
            assert 0.9 < time.monotonic() - started < 2.5 * slowness()
        server.wait(3)


async def test_a_reload_does_not_wait() -> None:
    with run_server("--reload", shutdown_timeout=60) as server:
        async with clients(server.websocket_url, 1) as (client,):
            started = time.monotonic()
            server.send_signal(signal.SIGTERM)
            assert await client.closed() == (1012, "server is shutting down")
            assert time.monotonic() - started < 2 * slowness()
        server.wait(5)
        assert server.leftovers() == []


async def test_a_stop_during_start_up_is_obeyed() -> None:
    for delay in (0.3, 0.6, 0.9, 1.2):
        with run_server(wait=False) as server:
            time.sleep(delay)  # noqa: ASYNC251  (any moment of a start-up is the right one)
            server.send_signal(signal.SIGTERM)
            server.wait(5)
            assert server.leftovers() == []
            assert "Traceback" not in server.log


async def test_the_applications_own_shutdown_comes_after_the_drain() -> None:
    command = (sys.executable, "-m", "uvicorn", "tests.whole.own_lifespan:app")
    with run_server(command=command, shutdown_timeout=60) as server:
        async with clients(server.websocket_url, 1) as (client,):
            server.send_signal(signal.SIGTERM)
            await client.hear(SHUTDOWN_NOTICE)
            await client.send("is it there?")
            await client.hear("the database is open")
        server.wait(3)
        log = server.log
        assert log.index("drained") < log.index("database closed")


async def test_fastapi_run_drains_too() -> None:
    command = (sys.executable, "-m", "fastapi", "run", str(ROOT / "main.py"))
    with run_server(command=command, shutdown_timeout=60) as server:
        async with clients(server.websocket_url, 1) as (client,):
            server.send_signal(signal.SIGTERM)
            await client.hear(SHUTDOWN_NOTICE)
            await client.send("served")
            await client.hear("served")
        server.wait(3)
