"""Somebody in a hurry: a second Ctrl-C, at whichever server with several workers."""

import asyncio
import signal
import sys

import pytest

from lastcall.settings import SHUTDOWN_NOTICE
from tests.clients import clients
from tests.server_process import ROOT, run_server, wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.whole]

COMMANDS = {
    "uvicorn": (sys.executable, "-m", "uvicorn", "main:app"),
    "fastapi run": (sys.executable, "-m", "fastapi", "run", str(ROOT / "main.py")),
    "lastcall serve": (sys.executable, "-m", "lastcall", "serve", "main:app"),
}


@pytest.mark.parametrize("name", COMMANDS)
async def test_a_second_ctrl_c_ends_every_worker_now_with_clean_codes(name: str) -> None:
    with run_server(
        command=COMMANDS[name], workers=3, shutdown_timeout=60, shutdown_notice_interval=0.7
    ) as server:
        async with clients(server.websocket_url, 9) as connected:
            server.send_signal_to_group(signal.SIGINT)
            # Later than what counts as one Ctrl-C, on every worker.
            for client in connected:
                await client.hear(SHUTDOWN_NOTICE, times=2)
            server.send_signal_to_group(signal.SIGINT)
            ends = await asyncio.gather(*(client.closed() for client in connected))
            assert set(ends) == {(1012, "server is shutting down")}

        assert server.wait(5) == 0
        wait_until(server.group_is_gone, 2, server.describe)
        assert server.leftovers() == []
        assert "Traceback" not in server.log
