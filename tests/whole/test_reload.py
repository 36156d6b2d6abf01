"""A reload as the clients of a whole server see it."""

import signal
import sys

import pytest

from lastcall.settings import SHUTDOWN_NOTICE
from tests.clients import Client, clients
from tests.server_process import run_server, wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.whole]

OWN = (sys.executable, "-m", "lastcall", "serve", "main:app")


async def test_old_workers_serve_their_clients_beside_the_new_ones() -> None:
    with run_server(
        command=OWN, workers=2, handover="off", shutdown_notice_interval=1, heartbeat_interval=0
    ) as server:
        async with clients(server.websocket_url, 6) as connected:
            before = set(server.worker_pids())
            server.send_signal(signal.SIGHUP)
            for client in connected:
                # With the second one they have closed their listeners.
                await client.hear(SHUTDOWN_NOTICE, times=2)
            assert set(server.records()) > before

            newcomer = await Client.connect(server.websocket_url)
            await newcomer.send("hello")
            await connected[0].send("still here")
            for client in [*connected, newcomer]:
                await client.hear("hello")
                await client.hear("still here")
            assert SHUTDOWN_NOTICE not in newcomer.heard
            for client in connected:
                await client.close()
            wait_until(lambda: not before & set(server.records()), 10, server.describe)
            await newcomer.send("alone")
            await newcomer.hear("alone")
            await newcomer.close()
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0
        assert server.leftovers() == []
