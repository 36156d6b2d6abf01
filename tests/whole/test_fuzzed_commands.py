"""Clients that say whatever Hypothesis thinks of, to a real server: no worker dies of it."""

import asyncio
import contextlib
import json
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.fuzzed import CLOSE_CODES, LAST, LAST_ID, check, messages
from tests.sdk.server import OWN, SETTINGS, STOCK, token, url_of
from tests.server_process import ServerProcess, run_server

pytestmark = pytest.mark.whole

FRAME_ERRORS = {1002, 1007, 1009}
ROOM = "chat:a"


@pytest.fixture(scope="module", params=[STOCK, OWN], ids=["uvicorn", "lastcall serve"])
def server(request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    with run_server(command=request.param, workers=2, **SETTINGS) as server:
        workers = set(server.worker_pids())
        yield server
        assert set(server.worker_pids()) == workers, "one has died on the way"
        assert "Traceback" not in server.log


def say_and_hear(server: ServerProcess, said: list[str | bytes]) -> None:
    """One client, beside another that must hear nothing but what was published."""

    async def converse() -> None:
        async with connect(url_of(server), compression=None) as websocket:
            with contextlib.suppress(ConnectionClosed):
                for message in [*said, LAST]:
                    await websocket.send(message)
            try:
                while True:
                    lines = str(await websocket.recv()).split("\n")
                    answers = [check(line) for line in lines]
                    if any(answers):
                        return
            except ConnectionClosed:
                pass
            assert websocket.close_code in CLOSE_CODES | FRAME_ERRORS
            assert websocket.close_reason

    asyncio.run(asyncio.wait_for(converse(), 30))


FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
hello = json.dumps({"id": 1_000_000, "connect": {"token": token("fuzzy")}})


def test_nobody_is_harmed_by_what_a_client_says(server: ServerProcess) -> None:
    @FEW
    @given(messages, st.booleans())
    def each(said: list[str], connects: bool) -> None:  # noqa: FBT001  (made by Hypothesis)
        say_and_hear(server, [hello, *said] if connects else [*said])

    each()


def test_nobody_is_harmed_by_bytes(server: ServerProcess) -> None:
    """Also not those who hear the channel into which they are published."""
    spoilt = b'{"id":7,"publish":{"channel":"%b","data":"%b"}}'

    async def listen() -> None:
        subscribe = {"id": 2, "subscribe": {"channel": ROOM}}
        async with connect(url_of(server)) as listener:
            await listener.send(hello + "\n" + json.dumps(subscribe))
            await listener.recv()

            @FEW
            @given(st.binary(max_size=60))
            def each(garbage: bytes) -> None:
                inside = spoilt % (ROOM.encode(), garbage.translate(None, b'"\\\n'))
                say_and_hear(server, [hello.encode(), inside, garbage])

            await asyncio.to_thread(each)
            end = {"id": LAST_ID, "publish": {"channel": ROOM, "data": "the end"}}
            await listener.send(json.dumps(end))
            async with asyncio.timeout(20):
                while "the end" not in str(await listener.recv()):
                    pass

    asyncio.run(listen())
