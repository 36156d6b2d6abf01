"""How many connections one user, and one address, may have."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from fastapi import FastAPI, WebSocket
from starlette.testclient import TestClient, WebSocketDenialResponse

from lastcall import Lastcall, Settings
from lastcall.channel_options import ChannelOptions
from lastcall.crowd import Crowd, place_of
from lastcall.tokens import make_token
from tests.session_client import PATH, SessionClient, connected, session

pytestmark = pytest.mark.usefixtures("run_dir")

SECRET = "a secret of more than thirty-two bytes"  # noqa: S105  (of this test)


@contextmanager
def serving(**settings: int) -> Iterator[tuple[TestClient, Crowd]]:
    """An application with an endpoint of its own beside that of the SDKs."""
    lastcall = Lastcall(
        Settings,
        token_secret=SECRET,
        allow_anonymous=True,
        namespaces={"room": ChannelOptions()},
        **settings,
    )
    app = FastAPI(lifespan=lastcall.lifespan)
    app.include_router(lastcall.router)

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket, user: str | None = None) -> None:
        await lastcall.attach(websocket, user=user)

    with TestClient(app, client=("192.0.2.7", 50_000)) as client:
        yield client, lastcall.now.worker.crowd


def closed(client: TestClient, **connect: object) -> tuple[int, str]:
    with session(client) as speaker:
        speaker.say({"id": 1, "connect": connect})
        return speaker.closed()


def token(user: str) -> str:
    return make_token(SECRET, {"sub": user})


def refusal(client: TestClient, path: str) -> int:
    with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect(path):
        pass
    assert int(refused.value.headers["retry-after"]) >= 1
    status: int = refused.value.status_code
    return status


def test_user_has_no_more_connections_than_allowed() -> None:
    with serving(max_user_connections=2) as (client, _), ExitStack() as stack:
        ours = [stack.enter_context(session(client)) for _ in range(2)]
        for speaker in ours:
            assert speaker.connect(token=token("ann"))["client"]
        assert closed(client, token=token("ann")) == (3504, "connection limit")
        assert refusal(client, "/ws?user=ann") == 429
        with connected(client), session(client) as other, client.websocket_connect("/ws"):
            assert other.connect(token=token("bob"))["client"]


def test_place_is_free_again_when_a_client_has_left_or_was_not_let_in() -> None:
    with serving(max_user_connections=1) as (client, _):
        for _ in range(3):
            with session(client) as speaker:
                assert speaker.connect(token=token("ann"))["client"]
            with session(client) as speaker:
                # Let in as a user, and then not: its channel does not exist.
                wrong = make_token(SECRET, {"sub": "ann", "channels": ["none:such"]})
                assert speaker.connect(token=wrong)["error"]["code"] == 102
            with client.websocket_connect("/ws?user=ann"):
                assert closed(client, token=token("ann")) == (3504, "connection limit")


def test_address_has_no_more_connections_than_allowed() -> None:
    with serving(max_address_connections=2) as (client, crowd):
        with session(client) as one, client.websocket_connect("/ws"):
            assert one.connect()["client"]
            assert refusal(client, "/ws") == 429
            with client.websocket_connect(PATH) as third:
                assert SessionClient(third).closed() == (3013, "too many requests")
            assert crowd.has_room_at("192.0.2.8")
        with connected(client), connected(client):
            assert not crowd.has_room_at("192.0.2.7")


def test_without_limits_nothing_is_counted() -> None:
    with serving() as (client, crowd), ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(connected(client))
        assert crowd.is_empty


@pytest.mark.parametrize(
    ("host", "place"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
        (None, ""),
    ],
)
def test_one_address_is_what_one_customer_has(host: str | None, place: str) -> None:
    assert place_of(host) == place
