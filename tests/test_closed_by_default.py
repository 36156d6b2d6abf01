"""A fresh server lets nobody do anything that nobody has allowed."""

import time
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from lastcall import Lastcall
from lastcall.protocol.centrifuge import METHODS
from lastcall.server_api import METHODS as API_METHODS
from lastcall.tokens import make_token
from tests.session_client import PATH, SessionClient, serving, session

pytestmark = pytest.mark.usefixtures("run_dir")

SECRET = "a secret of more than thirty-two bytes"  # noqa: S105  (of this test)
DENIED = {"error": {"code": 103, "message": "permission denied"}}
UNKNOWN = {"error": {"code": 102, "message": "unknown channel"}}
OFF = {"error": {"code": 108, "message": "not available"}}


@pytest.fixture
def client() -> Iterator[TestClient]:
    with serving(Lastcall()) as client:
        yield client


@pytest.fixture
def ann() -> Iterator[SessionClient]:
    """Somebody whom the server knows, and nothing more: all that was set is the secret."""
    with serving(Lastcall(token_secret=SECRET)) as client, session(client) as speaker:
        speaker.connect(token=make_token(SECRET, {"sub": "ann", "exp": time.time() + 60}))
        yield speaker


def test_nobody_connects_without_saying_who(client: TestClient) -> None:
    with session(client) as speaker:
        speaker.say({"id": 1, "connect": {}})
        assert speaker.closed() == (3501, "bad request")


@pytest.mark.parametrize("secret", [SECRET, "", "secret", "x" * 64])
def test_no_token_is_believed_without_a_key(client: TestClient, secret: str) -> None:
    with session(client) as speaker:
        speaker.say({"id": 1, "connect": {"token": make_token(secret, {"sub": "ann"})}})
        assert speaker.closed() == (3500, "invalid token")


@pytest.mark.parametrize("method", sorted(METHODS.values()))
def test_nothing_can_be_asked_before_that(client: TestClient, method: str) -> None:
    if method == "connect":
        return
    with session(client) as speaker:
        speaker.say({"id": 1, method: {"channel": "news", "data": 1, "token": "x"}})
        assert speaker.closed() == (3501, "bad request")


@pytest.mark.parametrize("channel", ["news", "$news", "news#ann", "#ann"])
def test_known_user_may_do_nothing_in_a_channel(ann: SessionClient, channel: str) -> None:
    assert ann.ask("subscribe", channel=channel) == DENIED
    assert ann.ask("publish", channel=channel, data=1) == DENIED
    assert ann.ask("history", channel=channel) == OFF
    assert ann.ask("presence", channel=channel) == OFF
    assert ann.ask("presence_stats", channel=channel) == OFF


def test_namespaces_that_nobody_configured_do_not_exist(ann: SessionClient) -> None:
    for method in ("subscribe", "publish", "history", "presence"):
        assert ann.ask(method, channel="chat:room", data=1) == UNKNOWN


def test_known_user_calls_nothing_and_is_subscribed_to_nothing(ann: SessionClient) -> None:
    assert ann.ask("rpc", method="anything") == OFF
    ann.say({"send": {"data": 1}})
    assert ann.closed() == (3508, "not available")


@pytest.mark.parametrize("name", [*API_METHODS, "batch"])
@pytest.mark.parametrize("key", [None, "", "None", "null"])
def test_server_api_is_closed_whatever_the_key(
    client: TestClient, name: str, key: str | None
) -> None:
    ways: list[dict[str, str]] = [{}]
    if key is not None:
        ways = [{"X-API-Key": key}, {"Authorization": f"apikey {key}"}]
    for headers in ways:
        assert client.post(f"/api/{name}", json={}, headers=headers).status_code == 401
    assert client.post(f"/api/{name}?api_key={key or ''}", json={}).status_code == 401


def test_closed_api_is_on_no_page(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert not [path for path in paths if path.startswith("/api")]


@pytest.mark.parametrize("path", ["/connection/sse", "/connection/http_stream", PATH])
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://testserver.evil"])
def test_page_of_another_origin_gets_no_connection(
    client: TestClient, path: str, origin: str
) -> None:
    headers = {"origin": origin}
    if path == PATH:
        with (
            pytest.raises(WebSocketDisconnect) as refused,
            client.websocket_connect(path, headers=headers),
        ):
            pass
        assert refused.value.code == 1008
        return
    method = "GET" if path.endswith("sse") else "POST"
    line = '{"id":1,"connect":{}}'
    answer = client.request(
        method, path, headers=headers, params={"cf_connect": line}, content=line
    )
    assert answer.status_code == 403


def test_application_without_our_router_has_nothing_of_it() -> None:
    lastcall = Lastcall()
    with TestClient(FastAPI(lifespan=lastcall.lifespan)) as client:
        assert client.get("/metrics").status_code == 404
        assert client.post("/api/publish", json={}).status_code == 404
