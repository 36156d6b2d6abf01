"""A revoked token stays revoked on every worker, also when all of them were killed meanwhile."""

import json
import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.sdk.server import MASTERS, SETTINGS, token, url_of
from tests.server_process import ServerProcess, run_server
from tests.whole.moving import until

pytestmark = [pytest.mark.anyio, pytest.mark.whole]

KEY = "the key"


async def is_let_in(server: ServerProcess, credentials: str) -> bool:
    async with connect(url_of(server)) as websocket:
        await websocket.send(json.dumps({"id": 1, "connect": {"token": credentials}}))
        try:
            return bool(json.loads(await websocket.recv())["connect"])
        except ConnectionClosed:
            pass
        assert websocket.close_code == 3500
        return False


@MASTERS
async def test_token_stays_revoked_when_everything_was_killed(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    settings: dict[str, Any] = SETTINGS | {"api_key": KEY, "directory": tmp_path}
    revoked, other = token(jti="a"), token(jti="b")
    with ExitStack() as stack:
        server = stack.enter_context(run_server(command=command, workers=2, **settings))
        assert await is_let_in(server, revoked)
        url = f"http://127.0.0.1:{server.port}/api/revoke_token"
        async with httpx.AsyncClient(timeout=20, trust_env=False) as http:
            order = {"uid": "a", "expire_at": int(time.time() + 600)}
            answer = await http.post(url, json=order, headers={"X-API-Key": KEY})
        assert answer.json() == {"result": {}}
        os.killpg(server.process.pid, signal.SIGKILL)
        await until(server.group_is_gone, server)

        again = stack.enter_context(run_server(command=command, workers=2, **settings))
        for _ in range(8):
            assert not await is_let_in(again, revoked)
        assert await is_let_in(again, other)
