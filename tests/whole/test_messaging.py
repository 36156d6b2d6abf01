"""What clients of `/ws` hear, whichever worker they are on."""

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import unix_connect

from lastcall.settings import HEARTBEAT
from tests.clients import Client, clients
from tests.server_process import ServerProcess, run_server

pytestmark = [pytest.mark.anyio, pytest.mark.whole]


@pytest.fixture(scope="module", params=[1, 4], ids=["one worker", "four workers"])
def server(request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    """One server for all tests of this file: nothing here harms it."""
    with run_server(workers=request.param, heartbeat_interval=1) as server:
        yield server


async def settled(connected: list[Client]) -> None:
    """Everybody has heard of the last one to connect, so that nothing is under way."""
    for client in connected:
        await client.hear(f"{connected[-1].name} connected.")


async def test_everybody_hears_every_message_once_and_in_the_same_order(
    server: ServerProcess,
) -> None:
    async with clients(server.websocket_url, 12) as connected:
        await settled(connected)
        senders = connected[:6]

        async def send_all(number: int, client: Client) -> None:
            for count in range(50):
                await client.send(f"{number} says {count}")

        await asyncio.gather(*(send_all(*each) for each in enumerate(senders)))
        last = connected[0]
        for number in range(len(senders)):
            await last.hear(f"{number} says 49")
        await last.send("the end")
        for client in connected:
            await client.hear("the end")

    orders = [[heard for heard in client.heard if " says " in str(heard)] for client in connected]
    assert len(set(orders[0])) == len(orders[0]) == 300
    assert all(order == orders[0] for order in orders)


async def test_text_stays_text_and_binary_stays_binary(server: ServerProcess) -> None:
    async with clients(server.websocket_url, 2) as (sender, other):
        await settled([sender, other])
        await sender.send("zwölf €")
        await sender.send(b"\x00\xfe\xff")
        await sender.send("")
        for client in (sender, other):
            await client.hear("zwölf €")
            await client.hear(b"\x00\xfe\xff")
            await client.hear("")


async def test_all_are_told_who_connects_and_the_others_who_disconnects(
    server: ServerProcess,
) -> None:
    async with clients(server.websocket_url, 3) as (clean, broken, witness):
        await settled([clean, broken, witness])
        # The new one included.
        await witness.hear(f"{witness.name} connected.")
        assert f"{clean.name} connected." not in witness.heard

        await clean.close()
        await witness.hear(f"{clean.name} disconnected.")
        await broken.cut()
        await witness.hear(f"{broken.name} disconnected.")
        assert f"{clean.name} disconnected." not in clean.heard


async def test_announcements_stand_in_the_one_order(server: ServerProcess) -> None:
    async with clients(server.websocket_url, 3) as (first, second, talker):
        await settled([first, second, talker])
        guests = []
        for number in range(10):
            await talker.send(f"word {number}")
            guest = await Client.connect(server.websocket_url)
            guests.append(guest)
            await guest.close()
        for client in (first, second):
            await client.hear(f"{guests[-1].name} disconnected.")
            await client.hear("word 9")

        names = tuple(guest.name for guest in guests)

        def story(client: Client) -> list[str | bytes]:
            return [h for h in client.heard if str(h).startswith(("word", *names))]

        assert len(story(first)) == 30
        assert story(first) == story(second)


async def test_the_heart_beats_once_for_each_client(server: ServerProcess) -> None:
    async with clients(server.websocket_url, 4) as connected:
        for client in connected:
            await client.hear(HEARTBEAT, times=3)
        for client in connected:
            times = [
                at
                for at, heard in zip(client.heard_at, client.heard, strict=True)
                if heard == HEARTBEAT
            ]
            gaps = [after - before for before, after in itertools.pairwise(times)]
            assert all(0.5 < gap < 1.5 for gap in gaps), gaps


async def test_health_answers(server: ServerProcess) -> None:
    assert server.get("/health/live")[0] == 200
    assert server.get("/health/ready")[0] == 200


async def test_a_foreign_web_page_is_refused_and_the_own_one_is_not(
    server: ServerProcess,
) -> None:
    with pytest.raises(Exception, match="403"):
        await Client.connect(server.websocket_url, origin="https://evil.example")
    own = await Client.connect(server.websocket_url, origin=f"http://127.0.0.1:{server.port}")
    await own.close()


async def test_a_message_that_is_too_big_ends_only_its_sender(server: ServerProcess) -> None:
    async with clients(server.websocket_url, 2) as (greedy, other):
        await settled([greedy, other])
        await greedy.send("x" * 70_000)
        assert (await greedy.closed())[0] == 1009
        await other.hear(f"{greedy.name} disconnected.")
        await other.send("unharmed")
        await other.hear("unharmed")


async def test_behind_a_proxy_the_clients_address_is_the_forwarded_one(
    server: ServerProcess,
) -> None:
    async with clients(server.websocket_url, 1) as (witness,):
        headers = {"X-Forwarded-For": "203.0.113.7"}
        behind = await Client.connect(server.websocket_url, additional_headers=headers)
        await witness.hear('Client "[203.0.113.7]" connected.')
        await behind.close()
        await witness.hear('Client "[203.0.113.7]" disconnected.')


async def test_who_has_no_address_is_announced_in_the_same_shape(tmp_path: Path) -> None:
    """On a unix socket only a proxy that is trusted knows more than that somebody came."""
    path, url = str(tmp_path / "socket"), "ws://localhost/ws"
    arguments = ("--uds", path, "--forwarded-allow-ips", "*")
    with run_server(*arguments, workers=2, wait=False) as server:
        server.wait_workers(2)
        here = Client(await unix_connect(path, url))
        await here.hear('Client "[unix]" connected.')
        headers = {"X-Forwarded-For": "2001:db8::7"}
        behind = Client(await unix_connect(path, url, additional_headers=headers))
        await here.hear('Client "[2001:db8::7]" connected.')
        await behind.close()
        await here.hear('Client "[2001:db8::7]" disconnected.')
        await here.close()


async def test_announcements_can_be_switched_off() -> None:
    with run_server(announcements="off", heartbeat_interval=0) as server:
        async with clients(server.websocket_url, 2) as (first, second):
            await second.close()
            await first.send("alone")
            await first.hear("alone")
            assert first.heard == ["alone"]


async def test_ipv6_addresses_look_alike() -> None:
    with run_server("--host", "::1", wait=False) as server:
        server.wait_workers(1)
        async with clients(f"ws://[::1]:{server.port}/ws", 1) as (client,):
            await client.hear(f'Client "[::1]:{client.websocket.local_address[1]}" connected.')


async def test_a_storm_of_clients_is_summarised() -> None:
    with run_server(announcement_rate=5) as server:
        async with clients(server.websocket_url, 1) as (witness,):
            storm = await asyncio.gather(*(Client.connect(server.websocket_url) for _ in range(60)))
            told, connects = 0, list[str]()
            while told < 61:
                connects = [str(h) for h in witness.heard if str(h).endswith("connected.")]
                told = sum(
                    1 if line.startswith("Client") else int(line.split()[0]) for line in connects
                )
                before = len(witness.heard)
                if told < 61:
                    await witness.hear(lambda _: True, times=before + 1)
            assert told == 61
            assert len(connects) < 40
            await asyncio.gather(*(client.close() for client in storm))
