"""The server API as Centrifugo's own client calls it, on a server with two workers."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from anyio.to_thread import run_sync
from cent import (
    AsyncClient,
    BatchRequest,
    BroadcastRequest,
    CentApiResponseError,
    CentUnauthorizedError,
    ChannelsRequest,
    Client,
    Disconnect,
    DisconnectRequest,
    HistoryRequest,
    InfoRequest,
    PresenceRequest,
    PresenceStatsRequest,
    PublishRequest,
    RefreshRequest,
    StreamPosition,
    SubscribeRequest,
    UnsubscribeRequest,
)
from websockets.asyncio.client import ClientConnection, connect

from tests.server_process import ROOT, ServerProcess, run_server

pytestmark = [pytest.mark.anyio, pytest.mark.whole]

KEY = "the key"
OPEN = {"allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True}
NAMESPACES = json.dumps(
    {
        "news": {"history_size": 10, "force_recovery": True, **OPEN},
        "room": {"presence": True, **OPEN},
    }
)


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with run_server(
        workers=2,
        api_key=KEY,
        allow_anonymous="true",
        namespaces=NAMESPACES,
        heartbeat_interval=0,  # only what the API makes them hear
        ping_interval=600,
    ) as server:
        yield server


@pytest.fixture
def api(server: ServerProcess) -> Iterator[Client]:
    with Client(server_api(server), KEY) as client:
        yield client


def lastcall(server: ServerProcess, *arguments: str) -> tuple[int, str, str]:
    """Exit status, output and errors of the command line."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LASTCALL_")}
    ended = subprocess.run(
        [sys.executable, "-m", "lastcall", *arguments, "--url", server_api(server)],
        cwd=ROOT,
        env=clean | {"LASTCALL_API_KEY": KEY},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return ended.returncode, ended.stdout, ended.stderr


def server_api(server: ServerProcess) -> str:
    return f"http://127.0.0.1:{server.port}/api"


class Speaker:
    """A client of the Centrifuge protocol."""

    def __init__(self, websocket: ClientConnection) -> None:
        self._websocket = websocket
        self._lines: list[Any] = []
        self.id = ""

    async def say(self, command: dict[str, Any]) -> None:
        await self._websocket.send(json.dumps(command))

    async def hear(self) -> Any:
        while not self._lines:
            text = str(await self._websocket.recv())
            self._lines = [json.loads(line) for line in text.split("\n")]
        return self._lines.pop(0)

    async def closed(self) -> tuple[int | None, str | None]:
        await self._websocket.wait_closed()
        return self._websocket.close_code, self._websocket.close_reason


@asynccontextmanager
async def speakers(server: ServerProcess, number: int) -> AsyncIterator[list[Speaker]]:
    """Connected clients, some of them on each worker."""
    url = f"ws://127.0.0.1:{server.port}/connection/websocket"
    async with AsyncExitStack() as stack:
        found = [Speaker(await stack.enter_async_context(connect(url))) for _ in range(number)]
        for speaker in found:
            await speaker.say({"id": 1, "connect": {}})
            speaker.id = (await speaker.hear())["connect"]["client"]
        yield found


async def test_every_worker_carries_an_order_out(server: ServerProcess, api: Client) -> None:
    async with speakers(server, 12) as clients:
        nodes = api.info(InfoRequest()).nodes
        assert len(nodes) == 2
        assert [node.num_clients > 0 for node in nodes] == [True, True]
        assert sum(node.num_clients for node in nodes) == 12

        api.subscribe(SubscribeRequest(user="", channel="news:a", data={"hi": 1}))
        for client in clients:
            assert (await client.hear())["push"]["subscribe"]["data"] == {"hi": 1}
        assert api.channels(ChannelsRequest()).channels["news:a"].num_clients == 12

        published = api.publish(PublishRequest(channel="news:a", data={"n": 1}, tags={"k": "v"}))
        for client in clients:
            pub = (await client.hear())["push"]["pub"]
            assert pub == {"data": {"n": 1}, "offset": published.offset, "tags": {"k": "v"}}

        api.unsubscribe(UnsubscribeRequest(user="", channel="news:a"))
        for client in clients:
            assert (await client.hear())["push"]["unsubscribe"]["code"] == 2000

        api.subscribe(SubscribeRequest(user="", channel="room:a"))
        for client in clients:
            await client.hear()
        assert set(api.presence(PresenceRequest(channel="room:a")).presence) == {
            client.id for client in clients
        }
        assert api.presence_stats(PresenceStatsRequest(channel="room:a")).num_clients == 12

        api.refresh(RefreshRequest(user="", expire_at=4_000_000_000))
        for client in clients:
            assert (await client.hear())["push"]["refresh"]["expires"] is True

        spared, *others = clients
        how = Disconnect(code=4001, reason="x")
        api.disconnect(DisconnectRequest(user="", whitelist=[spared.id], disconnect=how))
        for client in others:
            assert await client.closed() == (4001, "x")
        assert spared.id in api.presence(PresenceRequest(channel="room:a")).presence


def test_publications_and_history(api: Client) -> None:
    once = PublishRequest(channel="news:h", data={"n": 1}, idempotency_key="once")
    first = api.publish(once)
    assert api.publish(once) == first
    channels = ["news:h", "news:i", "nosuch:a"]
    responses = api.broadcast(BroadcastRequest(channels=channels, data={"n": 2})).responses
    assert [each.error and each.error.code for each in responses] == [None, None, 102]

    history = api.history(HistoryRequest(channel="news:h", limit=-1))
    assert [(each.data, each.offset) for each in history.publications] == [
        ({"n": 1}, 1),
        ({"n": 2}, 2),
    ]
    since = StreamPosition(offset=1, epoch=first.epoch)
    rest = api.history(HistoryRequest(channel="news:h", limit=5, since=since))
    assert [each.offset for each in rest.publications] == [2]


def test_errors_are_those_that_its_client_knows(server: ServerProcess, api: Client) -> None:
    with pytest.raises(CentApiResponseError) as refused:
        api.publish(PublishRequest(channel="nosuch:a", data={}))
    assert (refused.value.code, refused.value.message) == (102, "unknown channel")
    with pytest.raises(CentApiResponseError) as off:
        api.presence(PresenceRequest(channel="news:a"))
    assert off.value.code == 108

    stranger = Client(server_api(server), "another key")
    with stranger, pytest.raises(CentUnauthorizedError):
        stranger.info(InfoRequest())


async def test_asynchronous_client_and_batch(server: ServerProcess) -> None:
    async with AsyncClient(server_api(server), KEY) as client:
        result = await client.batch(
            BatchRequest(
                requests=[
                    PublishRequest(channel="news:b", data={"n": 1}),
                    BroadcastRequest(channels=["news:b"], data={"n": 2}),
                    HistoryRequest(channel="news:b", limit=-1),
                    InfoRequest(),
                ],
                parallel=False,
            )
        )
        replies: list[Any] = list(result.replies)
        published, broadcast, history, info = replies
        assert published.offset == 1
        assert broadcast.responses[0].result.offset == 2
        assert [each.data["n"] for each in history.publications] == [1, 2]
        assert len(info.nodes) == 2


async def test_command_line(server: ServerProcess) -> None:
    async with speakers(server, 1) as (one,):
        await one.say({"id": 2, "subscribe": {"channel": "room:cli"}})
        await one.hear()
        status, shown, said = await run_sync(lastcall, server, "channels", "room:c*")
        assert (status, said) == (0, "")
        assert json.loads(shown) == {"room:cli": {"num_clients": 1}}
        _, shown, _ = await run_sync(lastcall, server, "presence", "room:cli")
        assert list(json.loads(shown)) == [one.id]

        assert await run_sync(lastcall, server, "publish", "room:cli", '{"a": 1}') == (
            0,
            "{}\n",
            "",
        )
        assert (await one.hear())["push"]["pub"] == {"data": {"a": 1}}
        assert await run_sync(lastcall, server, "disconnect", "") == (0, "", "")
        assert await one.closed() == (3503, "force disconnect")


def test_command_line_says_in_one_sentence_what_is_wrong(server: ServerProcess) -> None:
    unknown = lastcall(server, "publish", "nosuch:a", "1")
    assert unknown == (1, "", "lastcall: error 102: unknown channel\n")
