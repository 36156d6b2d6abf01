"""`/connection/uni_websocket`: pushes as messages for who says nothing but who it is."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient, WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from lastcall import Lastcall
from lastcall.channel_options import ChannelOptions
from tests.session_client import serving

pytestmark = pytest.mark.usefixtures("run_dir")

PATH = "/connection/uni_websocket"
WISH: dict[str, object] = {"subs": {"room": {}}}


@pytest.fixture
def lastcall() -> Lastcall:
    room = ChannelOptions(history_size=10, force_recovery=True)
    return Lastcall(insecure=True, channels=room, max_connections=1)


@pytest.fixture
def client(lastcall: Lastcall) -> Iterator[TestClient]:
    with serving(lastcall) as client:
        yield client


def hear(websocket: WebSocketTestSession) -> Any:
    return json.loads(websocket.receive_text())


@pytest.mark.parametrize("in_url", [True, False])
def test_a_client_says_once_what_it_wants_and_hears_it(
    client: TestClient, lastcall: Lastcall, *, in_url: bool
) -> None:
    said = json.dumps(WISH)
    path = f"{PATH}?cf_connect={quote(said)}" if in_url else PATH
    with client.websocket_connect(path) as websocket:
        if not in_url:
            websocket.send_text(said)
        connect = hear(websocket)["connect"]
        assert set(connect) == {"client", "version", "ping", "subs"}
        assert connect["subs"]["room"]["recoverable"] is True
        lastcall.publish_sync("room", {"n": 1})
        assert hear(websocket) == {"channel": "room", "pub": {"data": {"n": 1}, "offset": 1}}


def test_a_client_may_name_where_it_stood(client: TestClient, lastcall: Lastcall) -> None:
    position, *_ = [lastcall.publish_sync("room", number) for number in range(3)]
    stood = {"recover": True, "offset": position.offset, "epoch": position.epoch}
    with client.websocket_connect(PATH) as websocket:
        websocket.send_text(json.dumps({"subs": {"room": stood}}))
        room = hear(websocket)["connect"]["subs"]["room"]
        assert room["recovered"] is True
        assert [each["data"] for each in room["publications"]] == [1, 2]


@pytest.mark.parametrize("said", ["{}", "anything"])
def test_a_client_has_nothing_more_to_say(client: TestClient, said: str) -> None:
    with client.websocket_connect(PATH) as websocket:
        websocket.send_text("{}")
        assert "connect" in hear(websocket)
        websocket.send_text(said)
        with pytest.raises(WebSocketDisconnect) as end:
            hear(websocket)
    assert (end.value.code, end.value.reason) == (3501, "bad request")


@pytest.mark.parametrize("in_url", [True, False])
def test_a_worker_that_leaves_asks_to_come_back(
    client: TestClient, lastcall: Lastcall, monkeypatch: pytest.MonkeyPatch, *, in_url: bool
) -> None:
    monkeypatch.setattr(lastcall.now.worker.crowd, "turns_away", lambda: True)
    path = f"{PATH}?cf_connect=%7B%7D" if in_url else PATH
    with client.websocket_connect(path) as websocket:
        if not in_url:
            websocket.send_text("{}")
        assert hear(websocket) == {"disconnect": {"code": 3013, "reason": "too many requests"}}


def test_a_worker_that_is_full_ends_it_by_its_code(client: TestClient) -> None:
    with (
        client.websocket_connect(PATH),
        client.websocket_connect(PATH) as second,
        pytest.raises(WebSocketDisconnect) as end,
    ):
        hear(second)
    assert (end.value.code, end.value.reason) == (3013, "too many requests")
