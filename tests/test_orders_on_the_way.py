"""What is ordered for a client while it is between two workers is done to it, once."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from lastcall import handover_receiver, handover_sender
from lastcall.broker.base import Kind
from lastcall.channel_options import ChannelOptions
from lastcall.moving import Moving
from lastcall.revocations import UserRevocation
from lastcall.server_api import Disconnect, Subscribe, Unsubscribe
from tests.handover_places import Bus, Place, two_places
from tests.uvicorn_host import TIMEOUT

pytestmark = pytest.mark.anyio

ROOM = "room:a"
SETTINGS: dict[str, Any] = {"namespaces": {"room": ChannelOptions()}}


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no silent worker."""
    for name in ("HELLO_TIME", "PAUSE_TIME"):
        monkeypatch.setattr(handover_sender, name, TIMEOUT)
    for name in ("SUBSCRIBE_TIME", "HISTORY_TIME"):
        monkeypatch.setattr(handover_receiver, name, TIMEOUT)


class Client:
    """A client that hears what the server has to say to it."""

    def __init__(self, websocket: ClientConnection) -> None:
        self._websocket = websocket

    async def ask(self, line: object) -> None:
        await self._websocket.send(json.dumps(line))

    async def hear(self) -> Any:
        async with asyncio.timeout(TIMEOUT):
            return json.loads(await self._websocket.recv())

    async def closed(self) -> int | None:
        async with asyncio.timeout(TIMEOUT):
            with pytest.raises(ConnectionClosed) as end:
                await self._websocket.recv()
        return end.value.rcvd.code if end.value.rcvd else None


@asynccontextmanager
async def scene(path: Path) -> AsyncIterator[tuple[Place, Place, Bus, Client]]:
    """Two workers that hear each other, and a client of the first."""
    async with two_places(path, **SETTINGS) as (old, new, bus):
        for place in (old, new):
            await place.worker.everyone.start()
        async with connect(f"{old.host.url}/sdk", compression=None) as websocket:
            client = Client(websocket)
            await client.ask({"id": 1, "connect": {}})
            assert (await client.hear())["connect"]["client"]
            yield old, new, bus, client


def order(bus: Bus, what: Subscribe | Unsubscribe | Disconnect) -> None:
    """As a worker tells it: both hear it at once."""
    name = f"order: {type(what).__name__}"
    tell = msgspec.msgpack.encode([name, msgspec.json.encode(what), "", 0])
    bus.publish(tell, "\0everyone", Kind.BINARY)
    for view in bus.views:
        view.events.flush()  # type: ignore[attr-defined]  # a hub's


async def move(
    places: tuple[Place, Place, Bus], what: Any, where: str, patch: pytest.MonkeyPatch
) -> None:
    """Hand the client over, and give an order in the middle of it."""
    old, new, bus = places
    freeze, go_on = old.mover.freeze, new.mover._host.go_on  # noqa: SLF001  (where it happens)

    def freeze_and_order(connections: Any) -> list[Moving]:
        frozen = freeze(connections)
        order(bus, what)
        return frozen

    async def order_and_go_on(*arguments: Any) -> None:
        order(bus, what)
        await go_on(*arguments)

    if where == "frozen":
        patch.setattr(old.mover, "freeze", freeze_and_order)
    else:
        patch.setattr(new.mover._host, "go_on", order_and_go_on)  # noqa: SLF001  (the same)
    await old.sender.round([new.record])
    assert (old.sender.moved, old.sender.lost) == (1, 0)


WINDOWS = pytest.mark.parametrize("where", ["frozen", "arriving"])


@WINDOWS
async def test_who_is_to_go_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    async with scene(tmp_path) as (old, new, bus, client):
        await move((old, new, bus), Disconnect(user="somebody"), where, monkeypatch)
        assert await client.closed() == 3503


@WINDOWS
async def test_who_is_to_hear_a_channel_hears_of_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    async with scene(tmp_path) as (old, new, bus, client):
        await move((old, new, bus), Subscribe(user="somebody", channel=ROOM), where, monkeypatch)
        assert "subscribe" in (await client.hear())["push"]
        order(bus, Unsubscribe(user="somebody", channel=ROOM))
        assert "unsubscribe" in (await client.hear())["push"]


async def test_what_was_done_before_is_not_done_again(tmp_path: Path) -> None:
    async with scene(tmp_path) as (old, new, bus, client):
        order(bus, Subscribe(user="somebody", channel=ROOM))
        assert "subscribe" in (await client.hear())["push"]
        order(bus, Unsubscribe(user="somebody", channel=ROOM))
        assert "unsubscribe" in (await client.hear())["push"]
        await old.sender.round([new.record])
        assert old.sender.moved == 1
        order(bus, Disconnect(user="somebody"))
        assert await client.closed() == 3503


async def test_who_is_taken_back_has_missed_nothing(tmp_path: Path) -> None:
    async with scene(tmp_path) as (old, _, bus, client):
        (moving,) = old.mover.freeze([old.connection])
        order(bus, Subscribe(user="somebody", channel=ROOM))
        await old.mover.take_back(moving)
        assert "subscribe" in (await client.hear())["push"]
        (moving,) = old.mover.freeze([old.connection])
        order(bus, Disconnect(user="somebody"))
        await old.mover.take_back(moving)
        assert await client.closed() == 3503


async def test_token_that_was_revoked_meanwhile_is_noticed_on_arrival(tmp_path: Path) -> None:
    async with scene(tmp_path) as (old, new, _, client):
        session = old.connection.session
        assert session is not None
        session.has_token, session.issued_at = True, 5.0
        revocations = new.worker.rules.tokens.revocations
        revocations.add(UserRevocation("somebody", 10.0, 2.0**53), 0)
        await old.sender.round([new.record])
        assert await client.closed() == 3500
