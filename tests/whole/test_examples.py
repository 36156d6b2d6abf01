"""Every example runs as its docstring says, with real clients, and leaves when it is told to."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import anyio
import httpx
import pytest
from anyio import to_thread
from anyio.streams.buffered import BufferedByteReceiveStream
from websockets import Subprotocol

from lastcall.settings import SHUTDOWN_NOTICE
from tests.browser import Browser
from tests.channels_page import fill, until_subscribed, until_text
from tests.clients import PATIENCE, Client, clients
from tests.server_process import (
    ROOT,
    START_TIMEOUT,
    ServerProcess,
    run_server,
    wait_until,
)

pytestmark = [pytest.mark.anyio, pytest.mark.whole]

EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.py"))


@contextlib.contextmanager
def run_example(
    name: str, shutdown_timeout: float = 60, workers: int = 1
) -> Iterator[ServerProcess]:
    """Run `examples/<name>.py` under stock uvicorn; in the end it has to have left cleanly."""
    command = (sys.executable, "-m", "uvicorn", f"examples.{name}:app")
    with run_server(command=command, shutdown_timeout=shutdown_timeout, workers=workers) as server:
        yield server
        # uvicorn's own statuses: one process ends by the signal, a master with 0.
        assert server.wait(5) == (-signal.SIGTERM if workers == 1 else 0)
        assert server.leftovers() == []
        assert "Traceback" not in server.log


def url(server: ServerProcess, path: str) -> str:
    """The address of a WebSocket endpoint of the example."""
    return f"ws://127.0.0.1:{server.port}{path}"


@contextlib.asynccontextmanager
async def http_client(server: ServerProcess) -> AsyncIterator[httpx.AsyncClient]:
    """A client for the example's other endpoints."""
    base = f"http://127.0.0.1:{server.port}"
    async with httpx.AsyncClient(base_url=base, timeout=PATIENCE, trust_env=False) as http:
        yield http


def test_every_example_has_a_test() -> None:
    tests = [name.removeprefix("test_") for name in globals() if name.startswith("test_")]

    assert [name for name in EXAMPLES if name not in tests] == []


def test_every_example_says_how_it_is_run() -> None:
    for name in EXAMPLES:
        text = (ROOT / "examples" / f"{name}.py").read_text()
        assert f"    uvicorn examples.{name}:app" in text or f"python -m examples.{name} " in text
        assert len(text.splitlines()) <= 70, f"{name} is too long for an example"


async def test_notify_from_endpoint() -> None:
    with run_example("notify_from_endpoint") as server, anyio.fail_after(30):
        with pytest.raises(Exception, match="403"):
            await Client.connect(url(server, "/notifications?token=wrong"))
        async with (
            clients(url(server, "/notifications?token=ada-token"), 1) as (ada,),
            clients(url(server, "/notifications?token=bob-token"), 1) as (bob,),
            http_client(server) as http,
        ):
            assert (await http.post("/orders/7/ship")).json() == {"offset": 1}
            assert (await http.post("/users/ada/remind")).status_code == 200
            await ada.hear('{"order":7,"status":"shipped"}')
            await bob.hear('{"order":7,"status":"shipped"}')
            await ada.hear("Your basket is waiting.")
            assert "Your basket is waiting." not in bob.heard

            server.send_signal(signal.SIGTERM)
            await ada.hear(SHUTDOWN_NOTICE)
            await bob.hear(SHUTDOWN_NOTICE)


async def test_chat_with_rooms() -> None:
    with run_example("chat_with_rooms") as server, anyio.fail_after(30):
        async with clients(url(server, "/audience"), 1) as (listener,):
            async with (
                clients(url(server, "/rooms/kitchen?name=ada"), 1) as (ada,),
                clients(url(server, "/rooms/kitchen?name=bob"), 1) as (bob,),
                clients(url(server, "/rooms/cellar?name=eve"), 1) as (eve,),
            ):
                for client, name in ((ada, "ada"), (bob, "bob"), (eve, "eve")):
                    await client.hear(f"Welcome, {name}.")
                    await listener.hear(f"{name} came")
                await ada.send("hello")
                await bob.hear('{"from":"ada","text":"hello"}')
                await listener.send("me too")
                await listener.hear("The audience only listens.")
                assert eve.heard == ["Welcome, eve."]

                server.send_signal(signal.SIGTERM)
                await ada.hear(SHUTDOWN_NOTICE)
                await ada.send("still here")
                await bob.hear('{"from":"ada","text":"still here"}')
            await listener.hear("bob went (1000)")


async def test_only_the_drain() -> None:
    with run_example("only_the_drain") as server, anyio.fail_after(30):
        async with (
            clients(url(server, "/echo"), 1) as (client,),
            http_client(server) as http,
            http.stream("GET", "/events") as events,
            http.stream("GET", "/export") as export,
        ):
            read_events, read_export = events.aiter_lines(), export.aiter_lines()
            assert await anext(read_events) == "data: all is well"
            assert await anext(read_export) == "line 0"

            server.send_signal(signal.SIGTERM)
            await client.hear(SHUTDOWN_NOTICE)
            await client.send("still here")
            await client.hear("still here")
            assert "event: goodbye" in [line async for line in read_events]
            assert [line async for line in read_export][-1] == "line 29"


async def test_only_the_drain_ends_what_stays() -> None:
    with run_example("only_the_drain", shutdown_timeout=0.5) as server, anyio.fail_after(30):
        async with (
            clients(url(server, "/echo"), 1) as (client,),
            http_client(server) as http,
            http.stream("GET", "/export") as export,
        ):
            read_export = export.aiter_lines()
            assert await anext(read_export) == "line 0"

            server.send_signal(signal.SIGTERM)
            assert await client.closed() == (1012, "server is shutting down")
            # A response that ends, shorter: HTTP has no word for why.
            assert "line 29" not in [line async for line in read_export]


async def test_only_the_drain_does_not_wait_for_who_has_left() -> None:
    """A response whose reader is gone, in the middle of a wait, is no reason to stay."""
    with run_example("only_the_drain") as server, anyio.fail_after(30):
        async with http_client(server) as http:
            for path in ("/events", "/export"):
                async with http.stream("GET", path) as response:
                    await anext(response.aiter_lines())
        server.send_signal(signal.SIGTERM)


async def test_own_lifespan() -> None:
    with run_example("own_lifespan") as server, anyio.fail_after(30):
        async with clients(url(server, "/notes"), 1) as (client,):
            await client.send("milk")
            await client.hear("note 1 is kept")
            server.send_signal(signal.SIGTERM)
            await client.hear(SHUTDOWN_NOTICE)
            await client.send("bread")
            await client.hear("note 2 is kept")
        server.wait(5)
        assert "drained, closing the database" in server.log


async def test_server_with_settings() -> None:
    with run_example("server_with_settings") as server, anyio.fail_after(30):
        assert server.get("/about")[2] == '{"seconds_to_leave":60.0}'
        async with clients(server.websocket_url, 2) as (first, second):
            await first.hear("Server is running...")
            await first.send("hello")
            await second.hear("hello")
            server.send_signal(signal.SIGTERM)
            await second.hear("Back in a minute.")


@pytest.mark.parametrize("workers", [1, 2])
async def test_background_publisher(workers: int) -> None:
    with run_example("background_publisher", workers=workers) as server, anyio.fail_after(30):
        async with clients(url(server, "/clock"), 1) as (client,):
            await client.hear(is_tick, times=2)
            server.send_signal(signal.SIGTERM)
            await client.hear(SHUTDOWN_NOTICE)
            await client.hear(is_tick, times=1 + len(list(filter(is_tick, client.heard))))
        ticks = list(filter(is_tick, client.heard))
        assert len(set(ticks)) == len(ticks)


def test_news_in_a_browser(browser: Browser) -> None:
    with (
        run_example("news_in_a_browser", workers=2, shutdown_timeout=0) as server,
        browser.tab(f"http://127.0.0.1:{server.port}/") as tab,
    ):
        until_text(tab, "#state", "live")
        tell_news(server, "It rains.")
        until_text(tab, "#news", "It rains.")
        # Two workers; one is killed, perhaps ours. Whoever hears of it afterwards missed it.
        victim = server.worker_pids()[0]
        os.kill(victim, signal.SIGKILL)
        tell_news(server, "It has stopped.")
        until_text(tab, "#news", "It has stopped.")
        assert tab.texts("#news li") == ["It rains.", "It has stopped."]
        assert tab.complaints() == []

        def is_replaced() -> bool:
            return len({*server.worker_pids()} - {victim}) == 2

        # uvicorn's master hears no signal while it starts a worker.
        wait_until(is_replaced, START_TIMEOUT, server.describe)
        server.send_signal(signal.SIGTERM)


def tell_news(server: ServerProcess, text: str) -> None:
    answer = httpx.post(f"http://127.0.0.1:{server.port}/news", json=text, trust_env=False)
    assert answer.status_code == 200, answer.text


async def test_news_in_python() -> None:
    with run_example("news_in_a_browser") as server, anyio.fail_after(30):
        line = [
            sys.executable,
            "-m",
            "examples.news_in_python",
            url(server, "/connection/websocket"),
        ]
        async with await anyio.open_process(line, cwd=ROOT, stderr=None) as reader:
            assert reader.stdout is not None
            said = BufferedByteReceiveStream(reader.stdout)
            live = await said.receive_until(b"\n", 100)
            await to_thread.run_sync(tell_news, server, "It rains.")
            news = await said.receive_until(b"\n", 100)
            reader.terminate()
        assert (live, news) == (b"live", b"1 It rains.")
        server.send_signal(signal.SIGTERM)


def test_login(browser: Browser) -> None:
    with (
        run_example("login", shutdown_timeout=0) as server,
        browser.tab(f"http://127.0.0.1:{server.port}/#channels") as tab,
    ):
        until_text(tab, "#advice", "No connection to /live yet")
        tab.evaluate("fetch('/login/ada', { method: 'POST' }).then(() => null)")
        tab.click("#connect")
        until_text(tab, "#advice", "You may not subscribe to room:lobby.")
        fill(tab, "#channel", "room:cellar")
        tab.press("Enter")
        until_text(tab, "#advice", "You may not subscribe to room:cellar.")
        fill(tab, "#channel", "room:kitchen")
        tab.press("Enter")
        until_subscribed(tab)
        until_text(tab, "#people", "ada, this page")

        heard = tab.evaluate(
            """new Promise((heard) => {
                const ada = new Centrifuge(`ws://${location.host}/live`);
                ada.on("publication", ({ channel, data }) => heard([channel, data]));
                ada.on("connected", () => fetch("/remind/ada", { method: "POST" }));
                ada.connect();
            })"""
        )
        assert heard == ["user-ada", "ada is waiting for you."]
        assert tab.complaints() == []
        server.send_signal(signal.SIGTERM)


def is_tick(heard: str | bytes) -> bool:
    return isinstance(heard, str) and heard.isdigit()


def test_testing_a_deploy() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "examples/testing_a_deploy.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


async def test_tickets() -> None:
    """Each is good once, for an SDK as for a bare WebSocket, and none stands in a URL."""
    sdk = "/connection/websocket"
    with run_example("tickets") as server, anyio.fail_after(30):
        async with http_client(server) as http:
            assert (await http.post("/ticket", headers={"X-Key": "wrong"})).status_code == 403

            async def ticket(of: str) -> str:
                made = (await http.post("/ticket", headers={"X-Key": f"{of}-key"})).json()
                assert isinstance(made, str)
                return made

            shown = await ticket("ada")
            line = json.dumps({"id": 1, "connect": {"data": {"ticket": shown}}})
            async with clients(url(server, sdk), 3) as (first, second, third):
                await first.send(line)
                await first.hear(lambda heard: '"subs":{"user-ada":' in str(heard))
                await second.send(line)
                assert await second.closed() == (3501, "bad request")
                await third.send(line.replace(shown, "made up"))
                assert await third.closed() == (3501, "bad request")

            shown = await ticket("bob")
            address = url(server, "/notifications")
            subprotocols = [Subprotocol("ticket"), Subprotocol(shown)]
            bob = await Client.connect(address, subprotocols=subprotocols)
            assert bob.websocket.subprotocol == "ticket"
            with pytest.raises(Exception, match="403"):
                await Client.connect(address, subprotocols=subprotocols)
            with pytest.raises(Exception, match="403"):
                await Client.connect(address)
            assert shown not in server.log
            server.send_signal(signal.SIGTERM)
            await bob.hear(SHUTDOWN_NOTICE)
            await bob.websocket.close()
