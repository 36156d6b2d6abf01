"""Clients without a WebSocket, over real sockets: what they read, and what they say by requests."""

import json
from typing import Any

import anyio
import httpx
import pytest
from fastapi import FastAPI, Request, Response
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware

from lastcall import Connection, Lastcall
from lastcall.broker.memory import MemoryBroker
from lastcall.channel_options import ChannelOptions
from lastcall.emulation import Emulation
from lastcall.errors import BrokerUnavailable, Disconnect
from lastcall.event_ids import positions_of
from lastcall.tokens import make_token
from tests.stream_client import StreamClient, StreamServer, streaming

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("run_dir")]

SECRET = "a secret of more than thirty-two bytes"  # noqa: S105  (of this test)
NAMESPACES = {
    "room": ChannelOptions(
        history_size=10,
        force_recovery=True,
        presence=True,
        allow_presence_for_subscriber=True,
        allow_history_for_subscriber=True,
        allow_subscribe_for_client=True,
        allow_publish_for_subscriber=True,
    ),
    "told": ChannelOptions(allow_subscribe_for_client=True),
}
BOTH_WAYS = pytest.mark.parametrize("transport", ["sse", "http_stream"])
ONE_WAY = pytest.mark.parametrize("transport", ["uni_sse", "uni_http_stream"])
ALL = pytest.mark.parametrize("transport", ["sse", "http_stream", "uni_sse", "uni_http_stream"])


def token(user: str = "ann", **claims: object) -> str:
    return make_token(SECRET, {"sub": user, **claims})


ANN: dict[str, Any] = {"token": token()}
IN_ROOM: dict[str, Any] = {"token": token(channels=["room:a"])}


@pytest.fixture
def lastcall() -> Lastcall:
    return Lastcall(token_secret=SECRET, namespaces=NAMESPACES, max_message_size=4000)


def end(code: int, reason: str) -> dict[str, Any]:
    return {"disconnect": {"code": code, "reason": reason}}


# --- both ways


@BOTH_WAYS
async def test_a_client_is_answered_down_its_stream(lastcall: Lastcall, transport: str) -> None:
    async with streaming(lastcall) as server, server.open(transport, ANN) as client:
        result = await client.connected()
        assert set(result) == {"client", "version", "ping", "pong", "session", "node"}
        assert result["session"] not in (result["client"], result["node"])
        assert (await client.ask("subscribe", channel="room:a"))["recoverable"]
        await client.say({"id": 5, "publish": {"channel": "room:a", "data": {"n": 1}}})
        heard = [await client.hear(), await client.hear()]
        assert {"id": 5, "publish": {}} in heard
        (push,) = [each["push"] for each in heard if "push" in each]
        assert push["pub"]["data"] == {"n": 1}
        assert push["pub"]["info"]["user"] == "ann"
        assert (await client.ask("presence_stats", channel="room:a"))["num_users"] == 1
        assert len((await client.ask("history", channel="room:a", limit=9))["publications"]) == 1
        assert await client.ask("unsubscribe", channel="room:a") == {}
        assert (await client.ask("rpc", method="none"))["error"]["code"] == 108


@BOTH_WAYS
async def test_the_connect_may_come_with_other_commands(lastcall: Lastcall, transport: str) -> None:
    subscribe = {"id": 2, "subscribe": {"channel": "told:a"}}
    lines = [json.dumps(each).encode() for each in ({"id": 1, "connect": ANN}, subscribe)]
    async with (
        streaming(lastcall) as server,
        server.open(transport, b"\n".join(lines)) as client,
    ):
        await client.connected()
        assert await client.hear() == {"id": 2, "subscribe": {}}


@ALL
async def test_everybody_hears_the_same_in_one_order(lastcall: Lastcall, transport: str) -> None:
    async with (
        streaming(lastcall) as server,
        server.open(transport, IN_ROOM) as first,
        server.open("sse", IN_ROOM) as second,
    ):
        for client in (first, second):
            assert set((await client.connected())["subs"]) == {"room:a"}
        for number in range(20):
            lastcall.publish("room:a", {"n": number})
        for client in (first, second):
            heard = [await client.hear() for _ in range(20)]
            pubs = [each.get("push", each)["pub"] for each in heard]
            assert [each["offset"] for each in pubs] == list(range(1, 21))
            assert [each["data"]["n"] for each in pubs] == list(range(20))


@ALL
async def test_what_keeps_proxies_from_collecting(lastcall: Lastcall, transport: str) -> None:
    async with streaming(lastcall) as server, server.open(transport, ANN) as client:
        headers = client.response.headers
        assert headers["x-accel-buffering"] == "no"
        assert "no-store" in headers["cache-control"]
        assert "no-transform" in headers["cache-control"]
        is_events = transport.endswith("sse")
        kind = "text/event-stream; charset=utf-8" if is_events else "application/x-ndjson"
        assert headers["content-type"] == kind
        await client.connected()


async def test_a_client_is_pinged_and_has_to_answer() -> None:
    lastcall = Lastcall(token_secret=SECRET, ping_interval=0.2, pong_timeout=0.1)
    async with streaming(lastcall) as server, server.open("sse", ANN) as client:
        assert (await client.connected())["pong"] is True
        await client.hear_ping()
        assert await client.say("{}") == 204
        await client.hear_ping()
        assert await client.hear() == {"push": end(3012, "no pong")}
        assert await client.is_over()


async def test_who_only_listens_is_pinged_and_has_nothing_to_answer() -> None:
    lastcall = Lastcall(token_secret=SECRET, ping_interval=0.2, pong_timeout=0.1)
    async with streaming(lastcall) as server, server.open("uni_sse", ANN) as client:
        assert "pong" not in await client.connected()
        for _ in range(2):
            await client.hear_ping()


@BOTH_WAYS
async def test_an_end_is_a_push_and_then_the_end(lastcall: Lastcall, transport: str) -> None:
    @lastcall.on_rpc("end")
    def leave(_connection: Connection, _data: str) -> None:
        raise type("Ending", (Disconnect,), {"code": 4001, "reason": "as you wish"})

    async with streaming(lastcall) as server, server.open(transport, ANN) as client:
        await client.connected()
        await client.say({"id": 2, "rpc": {"method": "end"}})
        assert await client.hear() == {"push": end(4001, "as you wish")}
        assert await client.is_over()
        assert await client.say({"id": 3, "rpc": {"method": "end"}}) == 204


@BOTH_WAYS
@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"token": token("ann", exp=1)}, {"code": 109, "message": "token expired"}),
        ({"token": "nonsense"}, end(3500, "invalid token")),
        ({}, end(3501, "bad request")),
        (b"nonsense", end(3501, "bad request")),
        (b'{"id":1,"subscribe":{"channel":"told:a"}}', end(3501, "bad request")),
    ],
)
async def test_who_may_not_come_in_reads_why(
    lastcall: Lastcall, transport: str, said: Any, expected: dict[str, Any]
) -> None:
    async with streaming(lastcall) as server, server.open(transport, said) as client:
        heard = await client.hear()
        assert heard.get("push", heard.get("error")) == expected


async def test_what_a_client_cannot_do_here(lastcall: Lastcall) -> None:
    async with streaming(lastcall) as server:
        assert (await server.http.get("/connection/sse")).status_code == 400
        assert (await server.http.get("/connection/http_stream")).status_code == 405
        assert (await server.http.get("/emulation")).status_code == 405
        for path in ("/connection/http_stream", "/connection/uni_http_stream", "/emulation"):
            assert (await server.http.post(path, content=4001 * b" ")).status_code == 413
            assert (await server.http.post(path, content=b"\xff")).status_code == 400
        long = {"cf_connect": 4001 * " "}
        assert (await server.http.get("/connection/sse", params=long)).status_code == 413


@BOTH_WAYS
async def test_what_is_said_has_to_be_of_a_client(lastcall: Lastcall, transport: str) -> None:
    async with streaming(lastcall) as server, server.open(transport, ANN) as client:
        await client.connected()
        ping = {"id": 2, "rpc": {"method": "none"}}
        assert await client.say(ping, node="another") == 404
        assert await client.say(ping, session="guessed") == 204
        for body in ('{"session":1}', "[]", '{"session":"a","node":"b","data":"\\ud800"}'):
            assert (await server.http.post("/emulation", content=body)).status_code == 400
        assert (await client.ask("rpc", method="none"))["error"]["code"] == 108


async def test_a_broker_that_is_away_is_said_with_a_status(
    lastcall: Lastcall, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away() -> None:
        raise BrokerUnavailable("away")

    monkeypatch.setattr(Emulation, "say", lambda *_: away())
    async with streaming(lastcall) as server, server.open("sse", ANN) as client:
        await client.connected()
        assert await client.say("{}") == 503


async def test_a_listener_has_no_secret_by_which_somebody_could_speak(lastcall: Lastcall) -> None:
    async with streaming(lastcall) as server, server.open("uni_sse", ANN) as client:
        assert "session" not in await client.connected()


@ALL
async def test_a_client_that_goes_is_gone(lastcall: Lastcall, transport: str) -> None:
    codes: list[int] = []
    gone = anyio.Event()

    @lastcall.on_disconnect
    def left(_connection: Connection, code: int) -> None:
        codes.append(code)
        gone.set()

    async with streaming(lastcall) as server:
        async with server.open(transport, IN_ROOM) as client:
            await client.connected()
            assert lastcall.now.worker.connections.count == 1
        with anyio.fail_after(5):
            await gone.wait()
        assert lastcall.now.worker.connections.count == 0
        assert lastcall.now.worker.hub.subscribers("room:a") == []
    assert codes == [1005]


@ALL
async def test_a_worker_that_is_full_asks_to_come_back(transport: str) -> None:
    lastcall = Lastcall(token_secret=SECRET, max_connections=1)
    async with (
        streaming(lastcall) as server,
        server.open(transport, ANN) as first,
        server.open(transport, ANN) as second,
    ):
        await first.connected()
        if not transport.startswith("uni"):
            error = {"code": 111, "message": "too many requests", "temporary": True}
            assert await second.hear() == {"id": 1, "error": error}
        heard = await second.hear()
        assert heard.get("push", heard) == end(3013, "too many requests")
        assert await second.is_over()


@BOTH_WAYS
async def test_who_says_too_much_at_once_is_let_go(transport: str) -> None:
    """A WebSocket would not be read from; a request is here already."""
    lastcall = Lastcall(token_secret=SECRET, message_rate=1, max_backlog=1024)
    async with streaming(lastcall) as server, server.open(transport, ANN) as client:
        await client.connected()
        for _ in range(30):
            await client.say({"id": 2, "rpc": {"method": 100 * "x"}})
        heard = [await client.hear()]
        while "push" not in heard[-1]:
            heard.append(await client.hear())
        assert heard[-1] == {"push": end(3013, "too many requests")}
        assert len(heard) < 30


async def test_what_servers_log_has_no_token_in_it(lastcall: Lastcall) -> None:
    seen: list[str] = []

    class Log:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async def sending(message: Any) -> None:
                if message["type"] == "http.response.start":
                    seen.append(scope["query_string"].decode())
                await send(message)

            await self.app(scope, receive, sending)

    app = FastAPI()
    app.add_middleware(Log)
    async with streaming(lastcall, app) as server:
        for transport in ("sse", "uni_sse"):
            async with server.open(transport, ANN) as client:
                await client.connected()
    assert seen == ["cf_connect=", "cf_connect="]


@ALL
async def test_middleware_around_it_collects_nothing(lastcall: Lastcall, transport: str) -> None:
    async def dispatch(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers["x-stamp"] = "1"
        return response

    app = FastAPI()
    app.add_middleware(GZipMiddleware, minimum_size=1)
    app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
    async with streaming(lastcall, app) as server, server.open(transport, IN_ROOM) as client:
        await client.connected()
        assert client.response.headers["x-stamp"] == "1"
        lastcall.publish("room:a", 1)
        heard = await client.hear()
        assert heard.get("push", heard)["pub"]["data"] == 1


# --- pages of other origins


FOREIGN = "https://a.example"


async def test_pages_of_foreign_origins_are_refused(lastcall: Lastcall) -> None:
    async with streaming(lastcall) as server:
        for method, path in (
            ("GET", "/connection/sse?cf_connect={}"),
            ("POST", "/connection/http_stream"),
            ("OPTIONS", "/connection/http_stream"),
            ("GET", "/connection/uni_sse"),
            ("POST", "/emulation"),
            ("OPTIONS", "/emulation"),
        ):
            response = await server.http.request(method, path, headers={"origin": FOREIGN})
            assert response.status_code == 403, path
            assert "access-control-allow-origin" not in response.headers


async def test_pages_of_allowed_origins_may_read_and_speak() -> None:
    lastcall = Lastcall(token_secret=SECRET, allowed_origins=FOREIGN)
    async with streaming(lastcall) as server:
        for path in ("/connection/http_stream", "/emulation"):
            asking = {"origin": FOREIGN, "access-control-request-headers": "content-type"}
            response = await server.http.options(path, headers=asking)
            assert response.status_code == 204
            assert response.headers["access-control-allow-origin"] == FOREIGN
            assert response.headers["access-control-allow-methods"] == "POST, OPTIONS"
            assert response.headers["access-control-allow-headers"] == "content-type"
            assert response.headers["access-control-max-age"] == "300"
        async with server.open("sse", ANN, origin=FOREIGN) as client:
            assert client.response.headers["access-control-allow-origin"] == FOREIGN
            await client.connected()
        response = await server.http.post("/emulation", headers={"origin": FOREIGN})
        assert (response.status_code, response.headers["vary"]) == (400, "origin")


# --- endpoints of the application's own


async def test_an_endpoint_of_ones_own_knows_its_user(lastcall: Lastcall) -> None:
    app, names = FastAPI(), []
    live = lastcall.endpoint("live")

    @live.on_connect
    def came(connection: Connection) -> None:
        names.append(connection.user)

    @app.get("/live")
    async def endpoint(request: Request) -> Response:
        return await live.stream(request, "uni_sse", user="bob", channels=["told:b"])

    @app.get("/wrong")
    async def wrong(request: Request) -> Response:
        return await live.stream(request, "uni_sse", channels="told:b")

    async with streaming(lastcall, app) as server:
        async with server.http.stream("GET", "/live") as response:
            client = StreamClient(server.http, response, reads_events=True)
            assert set((await client.connected())["subs"]) == {"told:b"}
            lastcall.publish("told:b", "hello")
            assert await client.hear() == {"channel": "told:b", "pub": {"data": "hello"}}
        assert names == ["bob"]
        with pytest.raises(httpx.HTTPStatusError):
            (await server.http.get("/wrong")).raise_for_status()


# --- those that only listen, and come back


async def test_a_reader_that_comes_back_gets_what_it_missed(lastcall: Lastcall) -> None:
    """As often as it is cut, wherever in what was written together."""
    async with streaming(lastcall) as server:
        heard: list[int] = []
        where, said = "", 0
        for _ in range(4):
            headers = {"last-event-id": where} if where else {}
            async with server.open("uni_sse", IN_ROOM, **headers) as client:
                result = (await client.connected())["subs"]["room:a"]
                heard += [each["data"] for each in result.get("publications", [])]
                assert result.get("recovered", False) is bool(where)
                for _ in range(3):
                    lastcall.publish("room:a", said)
                    said += 1
                for _ in range(2):
                    heard.append((await client.hear())["pub"]["data"])
                where = client.last_event_id
            lastcall.publish("room:a", said)
            said += 1
        assert heard == list(range(14))


async def test_a_reader_that_was_away_too_long_is_told_of_the_gap(lastcall: Lastcall) -> None:
    async with streaming(lastcall) as server:
        async with server.open("uni_sse", IN_ROOM) as client:
            await client.connected()
            where = client.last_event_id
        for number in range(2000):
            await lastcall.publish("room:a", number)
        async with server.open("uni_sse", IN_ROOM, **{"last-event-id": where}) as client:
            result = (await client.connected())["subs"]["room:a"]
            assert result["was_recovering"] is True
            assert "recovered" not in result
            assert positions_of(client.last_event_id)["room:a"].offset == 2000


async def test_a_reader_of_a_cache_gets_the_latest_and_stands_there() -> None:
    cache = NAMESPACES["room"].model_copy(update={"force_recovery_mode": "cache"})
    lastcall = Lastcall(token_secret=SECRET, namespaces={"room": cache})
    async with streaming(lastcall) as server:
        async with server.open("uni_sse", IN_ROOM) as client:
            await client.connected()
            where = client.last_event_id
        for number in range(5):
            await lastcall.publish("room:a", number)
        for missed in ([4], []):
            async with server.open("uni_sse", IN_ROOM, **{"last-event-id": where}) as client:
                result = (await client.connected())["subs"]["room:a"]
                assert [each["data"] for each in result.get("publications", [])] == missed
                where = client.last_event_id
                assert positions_of(where)["room:a"].offset == 5


async def test_a_reader_names_channels_that_it_may_hear(lastcall: Lastcall) -> None:
    wishes: dict[str, Any] = {"room:a": {}, "told:b": {}, "nobody#else": {}}
    asking = {**ANN, "subs": wishes}
    async with streaming(lastcall) as server, server.open("uni_sse", asking) as client:
        assert set((await client.connected())["subs"]) == {"room:a", "told:b"}
        assert set(positions_of(client.last_event_id)) == {"room:a"}


@pytest.mark.parametrize(
    ("said", "status", "code"),
    [
        ({"token": token("ann", exp=1)}, 401, 3005),
        ({"token": "nonsense"}, 401, 3500),
        ({"token": token("")}, 403, 3507),
        ({}, 400, 3501),
        (b"nonsense", 400, 3501),
    ],
)
async def test_an_event_source_that_may_not_come_in_stays_away(
    lastcall: Lastcall, said: Any, status: int, code: int
) -> None:
    async with (
        streaming(lastcall) as server,
        server.open("uni_sse", said, **{"last-event-id": "{}"}) as client,
    ):
        assert client.response.status_code == status
        assert json.loads(await client.response.aread())["code"] == code


async def test_a_listener_of_lines_reads_why_it_may_not_come_in(lastcall: Lastcall) -> None:
    async with streaming(lastcall) as server, server.open("uni_http_stream", {}) as client:
        assert await client.hear() == end(3501, "bad request")
        assert await client.is_over()


async def test_a_broker_that_is_away_brings_readers_back_later(
    lastcall: Lastcall, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_broker: MemoryBroker, _channel: str) -> None:
        raise BrokerUnavailable("away")

    async with streaming(lastcall) as server:
        monkeypatch.setattr(MemoryBroker, "subscribe", away)
        async with server.open("uni_sse", IN_ROOM) as client:
            assert await client.hear() == end(3004, "internal server error")
            assert await client.is_over()


async def run_api(server: StreamServer, method: str, **fields: Any) -> None:
    headers = {"x-api-key": "key"}
    response = await server.http.post(f"/api/{method}", json=fields, headers=headers)
    assert response.json() == {"result": {}}


async def test_the_server_api_finds_a_client_by_its_session() -> None:
    async with (
        streaming(Lastcall(token_secret=SECRET, api_key="key")) as server,
        server.open("sse", ANN) as first,
        server.open("sse", ANN) as second,
    ):
        for client in (first, second):
            await client.connected()
        await run_api(server, "disconnect", user="ann", session=first.session["session"])
        assert await first.hear() == {"push": end(3503, "force disconnect")}
        assert (await second.ask("rpc", method="none"))["error"]["code"] == 108


async def test_channels_that_the_server_adds_and_takes_count_for_the_way_back() -> None:
    lastcall = Lastcall(token_secret=SECRET, api_key="key", namespaces=NAMESPACES)
    async with streaming(lastcall) as server, server.open("uni_sse", IN_ROOM) as client:
        await client.connected()
        await run_api(server, "subscribe", user="ann", channel="room:b")
        assert "subscribe" in await client.hear()
        assert set(positions_of(client.last_event_id)) == {"room:a", "room:b"}
        await run_api(server, "unsubscribe", user="ann", channel="room:a")
        assert "unsubscribe" in await client.hear()
        assert set(positions_of(client.last_event_id)) == {"room:b"}
