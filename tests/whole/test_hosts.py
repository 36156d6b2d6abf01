"""Two hosts with two workers each, on one engine: what one host promises holds over both."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from cent import Client as Api
from cent import (
    DisconnectRequest,
    InfoRequest,
    PresenceRequest,
    PublishRequest,
    SubscribeRequest,
)
from websockets.asyncio.client import ClientConnection, connect

from benchmarks.deploys.hosts_under_fire import SHORT, under_fire
from tests.clients import PATIENCE, Client, clients
from tests.engines import ENGINES, every_engine
from tests.redis_cluster import run_cluster
from tests.redis_process import needs_redis
from tests.server_process import ServerProcess, run_server
from tests.stream_client import StreamClient
from tests.whole.moving import until

pytestmark = [pytest.mark.anyio, pytest.mark.whole]

KEY = "the key"
SETTINGS: dict[str, Any] = {
    "insecure": True,
    "api_key": KEY,
    "heartbeat_interval": 0,
    "announcements": "false",
    "ping_interval": 600,
    "namespaces": json.dumps(
        {
            "kept": {"history_size": 5000, "history_ttl": 600, "force_recovery": True},
            "room": {"presence": True},
        }
    ),
}


@pytest.fixture(
    scope="module", params=[*every_engine(), pytest.param("redis cluster", marks=needs_redis)]
)
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where an engine is."""
    run = ENGINES.get(request.param, run_cluster)
    with run() as engine:
        yield engine.url


@pytest.fixture(scope="module")
def hosts(url: str) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    """For all tests that harm neither of them."""
    settings: dict[str, Any] = SETTINGS | {"broker_url": url}
    with run_server(workers=2, **settings) as one, run_server(workers=2, **settings) as other:
        yield one, other
        assert "Traceback" not in one.log + other.log


def api_of(server: ServerProcess) -> Api:
    return Api(f"http://127.0.0.1:{server.port}/api", KEY)


def nodes_of(server: ServerProcess) -> int:
    """How many workers one of this host's names."""
    with api_of(server) as api:
        return len({node.uid for node in api.info(InfoRequest()).nodes})


def present_at(server: ServerProcess, channel: str) -> int:
    """How many clients one of this host's workers finds in *channel*."""
    with api_of(server) as api:
        return len(api.presence(PresenceRequest(channel=channel)).presence)


@contextlib.asynccontextmanager
async def session(server: ServerProcess, *lines: Any) -> AsyncIterator[ClientConnection]:
    """A client that is connected and has said *lines*; the answers are heard."""
    url = f"ws://127.0.0.1:{server.port}/connection/websocket"
    async with connect(url, compression=None, ping_interval=None) as websocket:
        for line in [{"id": 1, "connect": {}}, *lines]:
            await websocket.send(json.dumps(line))
            await hear(websocket)
        yield websocket


async def hear(websocket: ClientConnection) -> Any:
    async with asyncio.timeout(PATIENCE):
        while not (line := json.loads(await websocket.recv())):
            await websocket.send("{}")
    assert "error" not in line, line
    return line


async def test_all_hear_all_in_one_order(hosts: tuple[ServerProcess, ServerProcess]) -> None:
    async with (
        clients(hosts[0].websocket_url, 6) as here,
        clients(hosts[1].websocket_url, 6) as there,
    ):
        everybody = here + there

        async def say(number: int, client: Client) -> None:
            for count in range(40):
                await client.send(f"{number} says {count}")

        senders = [here[0], there[0], here[1], there[1]]
        await asyncio.gather(*(say(*each) for each in enumerate(senders)))
        for number in range(len(senders)):
            await here[0].hear(f"{number} says 39")
        await here[0].send("the end")
        for client in everybody:
            await client.hear("the end")

    orders = [[each for each in client.heard if " says " in str(each)] for client in everybody]
    assert len(set(orders[0])) == len(orders[0]) == 160
    assert all(order == orders[0] for order in orders)


async def test_who_comes_back_to_the_other_host_gets_what_was_missed(
    hosts: tuple[ServerProcess, ServerProcess],
) -> None:
    async with session(hosts[0]) as websocket:
        await websocket.send(json.dumps({"id": 2, "subscribe": {"channel": "kept:news"}}))
        position = (await hear(websocket))["subscribe"]
    with api_of(hosts[0]) as api:
        for number in range(10):
            await asyncio.to_thread(api.publish, PublishRequest(channel="kept:news", data=number))
    wish = {"channel": "kept:news", "recover": True, "epoch": position["epoch"]}
    async with session(hosts[1]) as websocket:
        await websocket.send(json.dumps({"id": 2, "subscribe": wish}))
        result = (await hear(websocket))["subscribe"]

    assert result["recovered"]
    assert [each["data"] for each in result["publications"]] == list(range(10))
    assert result["epoch"] == position["epoch"]


async def test_both_hosts_are_asked_and_obey(hosts: tuple[ServerProcess, ServerProcess]) -> None:
    """Every worker answers, whichever is asked; presence is that of all."""
    entered = {"id": 2, "subscribe": {"channel": "room:1"}}
    async with session(hosts[0], entered) as here, session(hosts[1], entered) as there:
        for host in hosts:
            # Who has just started hears within seconds that the others are ready.
            await until(lambda host=host: nodes_of(host) == 4, host)
            await until(lambda host=host: present_at(host, "room:1") == 2, host)
        with api_of(hosts[0]) as api:
            order = SubscribeRequest(user="", channel="kept:ordered")
            await asyncio.to_thread(api.subscribe, order)
            for websocket in (here, there):
                assert (await hear(websocket))["push"]["channel"] == "kept:ordered"
            await asyncio.to_thread(api.disconnect, DisconnectRequest(user=""))
        for websocket in (here, there):
            await asyncio.wait_for(websocket.wait_closed(), PATIENCE)
            assert websocket.close_code == 3503


async def test_a_stream_is_spoken_for_at_the_other_host(
    hosts: tuple[ServerProcess, ServerProcess],
) -> None:
    urls = [f"http://127.0.0.1:{host.port}" for host in hosts]
    first = json.dumps({"id": 1, "connect": {}})
    async with (
        httpx.AsyncClient(base_url=urls[0], timeout=20) as here,
        httpx.AsyncClient(base_url=urls[1], timeout=20) as there,
        here.stream("POST", "/connection/http_stream", content=first) as response,
    ):
        client = StreamClient(there, response, reads_events=False)
        await client.connected()
        result = await client.ask("subscribe", channel="kept:streams")

    assert result["positioned"] or result["recoverable"]


async def test_limits_hold_over_both_hosts(url: str) -> None:
    settings: dict[str, Any] = SETTINGS | {
        "broker_url": url,
        "broker_prefix": "limited",
        "max_address_connections": 2,
    }
    with run_server(workers=2, **settings) as one, run_server(workers=2, **settings) as other:
        async with session(one), session(one):

            async def is_refused() -> bool:
                try:
                    async with session(other):
                        return False
                except Exception:  # noqa: BLE001  (in whichever way: it is asked until it is)
                    return True

            async with asyncio.timeout(PATIENCE):
                while not await is_refused():  # noqa: ASYNC110  (a second passes until it is told)
                    await asyncio.sleep(0.2)


@pytest.mark.parametrize("name", every_engine())
async def test_clients_stay_while_the_engine_is_away_and_hear_what_was_accepted(name: str) -> None:
    with ENGINES[name]() as engine:
        settings: dict[str, Any] = SETTINGS | {"broker_url": engine.url}
        with run_server(workers=2, **settings) as one, run_server(workers=2, **settings) as other:
            async with (
                clients(one.websocket_url, 2) as here,
                clients(other.websocket_url, 2) as there,
            ):
                await here[0].send("before")
                for client in here + there:
                    await client.hear("before")
                await asyncio.to_thread(engine.kill)
                await until(lambda: {host.health("ready") for host in (one, other)} == {503}, one)
                await asyncio.to_thread(engine.start)
                await until(lambda: {host.health("ready") for host in (one, other)} == {200}, one)
                await there[0].send("after")
                for client in here + there:
                    await client.hear("after")
            assert "Traceback" not in one.log + other.log


@pytest.mark.parametrize("name", every_engine())
async def test_under_fire_every_offset_comes_once_and_in_order(name: str) -> None:
    """The engine is killed, a host is killed as a whole, another is rolled, while all publish."""
    with ENGINES[name]() as engine:
        fired = await under_fire(engine, SHORT)

    assert fired.complaints == [], fired.log
    # The history holds more than is published in all: nobody may be told of a gap.
    assert fired.told == fired.lost == 0
    assert fired.acknowledged > 100
    assert "Traceback" not in fired.log
