"""Limits that hold over all workers of a host."""

import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.sdk.server import MASTERS, SETTINGS, token, url_of
from tests.server_process import ServerProcess, run_server
from tests.whole.moving import until

pytestmark = [pytest.mark.anyio, pytest.mark.whole]

LIMIT = 4
IN_A_ROW = 8
"""So many tries come to both workers, but for one time in a hundred."""


@asynccontextmanager
async def comes(server: ServerProcess, user: str) -> AsyncIterator[ClientConnection | None]:
    """A client that says who it is; None if it was not let in."""
    async with connect(url_of(server), compression=None) as websocket:
        await websocket.send(json.dumps({"id": 1, "connect": {"token": token(user)}}))
        try:
            reply = json.loads(await websocket.recv())
        except ConnectionClosed:
            yield None
        else:
            assert reply["connect"]["client"]
            yield websocket
            return
        assert (websocket.close_code, websocket.close_reason) == (3504, "connection limit")


@MASTERS
async def test_user_has_so_many_connections_whichever_worker_has_them(
    command: tuple[str, ...],
) -> None:
    settings: dict[str, Any] = SETTINGS | {"max_user_connections": LIMIT, "ping_interval": 600}
    with run_server(command=command, workers=2, **settings) as server:
        async with AsyncExitStack() as stack:
            for _ in range(LIMIT):
                assert await stack.enter_async_context(comes(server, "ann"))
            refused = 0
            while refused < IN_A_ROW:  # within a second every worker knows of all
                async with comes(server, "ann") as one_more:
                    refused = 0 if one_more else refused + 1
            async with comes(server, "bob") as another:
                assert another

            pids = server.worker_pids()
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            await until(lambda: len(set(server.worker_pids()) - set(pids)) == len(pids), server)
            async with comes(server, "ann") as back:
                assert back, "those that died with their worker count no more"
