"""What is frozen while an application runs, and that clients leave nothing to collect."""

import gc
import signal
from collections.abc import Iterator

import pytest
import uvicorn
from websockets.asyncio.client import connect

from lastcall import ServerSettings, create_app
from lastcall.collector import start_up_spared
from lastcall.connection import Connection
from lastcall.exit_status import CANNOT_START
from lastcall.uvicorn_endpoint import Endpoint
from lastcall.uvicorn_server import StoppableServer
from lastcall.uvicorn_websocket import UvicornWebSocket
from tests.uvicorn_host import hosting

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
def _no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_what_exists_is_spared_until_the_end() -> None:
    before = gc.get_freeze_count()
    mine: list[object] = [[]]

    with start_up_spared():
        assert gc.get_freeze_count() > before
        assert not any(each is mine for each in gc.get_objects())

    assert any(each is mine for each in gc.get_objects())


def test_a_process_that_is_about_to_end_collects_nothing_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The interpreter would, several times, on the cores of those who serve."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    server = StoppableServer(uvicorn.Config("nowhere:app"), lambda: None)
    before = gc.get_freeze_count()
    try:
        assert server.run_to_status([]) == CANNOT_START
        assert gc.get_freeze_count() > before
    finally:
        gc.unfreeze()


@pytest.mark.usefixtures("_no_collection", "run_dir")
async def test_client_that_leaves_is_gone_without_a_collection() -> None:
    """Else thousands that leave at once would wait in memory for a stop of everybody."""
    app = create_app(ServerSettings(broker_url="memory:"))
    async with app.router.lifespan_context(app), hosting(app) as host:
        for _ in range(3):
            async with connect(f"{host.url}/ws") as client:
                await client.send("news")
                while await client.recv() != "news":
                    pass
        await host.empty()
        left = [
            each
            for each in gc.get_objects()
            if type(each) in {Connection, Endpoint, UvicornWebSocket}
        ]

        assert left == []
