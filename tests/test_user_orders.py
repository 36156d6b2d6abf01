"""What the server API does to connections: subscribe, unsubscribe, disconnect, refresh."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from fastapi import FastAPI, WebSocket
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from lastcall import Lastcall
from lastcall.tokens import make_token
from tests.api_caller import KEY, NAMESPACES, Caller
from tests.session_client import SessionClient, serving, session

pytestmark = pytest.mark.usefixtures("run_dir")

SECRET = "a secret of thirty-two characters"  # noqa: S105  (of a test)
DONE: dict[str, object] = {}


@pytest.fixture
def lastcall() -> Lastcall:
    return Lastcall(
        api_key=KEY,
        token_secret=SECRET,
        allow_anonymous=True,
        namespaces=NAMESPACES,
        max_channels=3,
        expired_delay=0,
        stale_delay=0.5,  # what is due is looked for then first
    )


@pytest.fixture
def client(lastcall: Lastcall) -> Iterator[TestClient]:
    with serving(lastcall) as client:
        yield client


@pytest.fixture
def api(client: TestClient) -> Caller:
    return Caller(client)


@contextmanager
def user(client: TestClient, name: str) -> Iterator[SessionClient]:
    """A client with a token of this user, which knows its own id."""
    with session(client) as speaker:
        token = {"token": make_token(SECRET, {"sub": name})} if name else {}
        speaker.id = speaker.connect(**token)["client"]
        yield speaker


def hears(speaker: SessionClient, kind: str, channel: str = "") -> object:
    """What a push of this kind says."""
    push = speaker.hear()["push"]
    assert push.get("channel", "") == channel
    return push[kind]


def is_untouched(speaker: SessionClient) -> bool:
    """Whether nothing was said to it."""
    return bool(speaker.ask("unsubscribe", channel="plain:never") == {})


# --- subscribe


def test_user_hears_a_channel_from_now_on(client: TestClient, api: Caller) -> None:
    with user(client, "7") as one, user(client, "7") as two, user(client, "8") as other:
        order = {"user": "7", "channel": "news:a", "data": {"hi": 1}, "info": {"n": 1}}
        assert api.call("subscribe", **order) == DONE
        told = hears(one, "subscribe", "news:a")
        assert told == hears(two, "subscribe", "news:a")
        epoch = told.pop("epoch")  # type: ignore[attr-defined]  # a dict
        assert told == {"recoverable": True, "positioned": True, "data": {"hi": 1}}

        position = api.call("publish", channel="news:a", data=1)
        assert position == {"offset": 1, "epoch": epoch}
        assert hears(one, "pub", "news:a") == {"data": 1, "offset": 1}
        assert is_untouched(other)


def test_subscription_is_seen_in_presence_with_its_info(client: TestClient, api: Caller) -> None:
    with user(client, "7") as one:
        api.call("subscribe", user="7", channel="room:a", b64info="ewoibiI6MX0=")
        hears(one, "subscribe", "room:a")
        (present,) = api.call("presence", channel="room:a")["presence"].values()

    assert (present["user"], present["chan_info"]) == ("7", {"n": 1})


def test_option_can_be_overridden_for_a_subscription(client: TestClient, api: Caller) -> None:
    with user(client, "7") as one:
        off = {"value": False}
        api.call(
            "subscribe",
            user="7",
            channel="news:a",
            override={"force_recovery": off, "force_positioning": off},
        )
        assert hears(one, "subscribe", "news:a") == {}


def test_subscription_goes_on_where_it_is_told(client: TestClient, api: Caller) -> None:
    for number in range(2):
        api.call("publish", channel="news:a", data=number)
    position = api.call("publish", channel="news:a", data=2)
    with user(client, "7") as one:
        since = {"offset": 1, "epoch": position["epoch"]}
        api.call("subscribe", user="7", channel="news:a", recover_since=since)
        assert hears(one, "subscribe", "news:a")["offset"] == 1  # type: ignore[index]
        assert hears(one, "pub", "news:a") == {"data": 1, "offset": 2}
        assert hears(one, "pub", "news:a") == {"data": 2, "offset": 3}


def test_subscription_that_is_there_stays_as_it_is(client: TestClient, api: Caller) -> None:
    with user(client, "7") as one:
        one.ask("subscribe", channel="plain:a")
        assert api.call("subscribe", user="7", channel="plain:a") == DONE
        assert is_untouched(one)


def test_one_connection_can_be_named(client: TestClient, api: Caller) -> None:
    with user(client, "7") as one, user(client, "7") as two:
        api.call("subscribe", user="7", channel="plain:a", client=one.id)
        hears(one, "subscribe", "plain:a")
        api.call("subscribe", user="7", channel="plain:a", session="another")
        api.call("subscribe", user="8", channel="plain:a", client=one.id)
        assert is_untouched(one)
        assert is_untouched(two)


def test_no_user_is_who_has_none(client: TestClient, api: Caller) -> None:
    with user(client, "") as nobody, user(client, "7") as somebody:
        api.call("subscribe", user="", channel="plain:a")
        hears(nobody, "subscribe", "plain:a")
        assert is_untouched(somebody)


def test_too_many_subscriptions_end_the_connection(client: TestClient, api: Caller) -> None:
    with user(client, "7") as one:
        for number in range(3):
            api.call("subscribe", user="7", channel=f"plain:{number}")
            hears(one, "subscribe", f"plain:{number}")
        assert api.call("subscribe", user="7", channel="plain:more") == DONE
        assert one.closed() == (3505, "channel limit")


def test_subscription_has_its_time(client: TestClient, api: Caller) -> None:
    with user(client, "7") as one:
        api.call("subscribe", user="7", channel="plain:a", expire_at=int(time.time()) - 1)
        hears(one, "subscribe", "plain:a")
        assert one.closed() == (3006, "subscription expired")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"channel": ""}, 107),
        ({"channel": "nosuch:a"}, 102),
        ({"channel": "plain:a", "b64info": "!"}, 107),
        ({"channel": "plain:a", "b64data": "AP8="}, 107),
    ],
)
def test_impossible_subscription_is_refused(
    api: Caller,
    fields: dict[str, object],
    code: int,
) -> None:
    assert api.call("subscribe", user="7", **fields) == code


# --- unsubscribe


def test_user_hears_a_channel_no_more(client: TestClient, api: Caller) -> None:
    with user(client, "7") as one, user(client, "8") as other:
        for speaker in (one, other):
            speaker.ask("subscribe", channel="plain:a")
        assert api.call("unsubscribe", user="7", channel="plain:a") == DONE
        ended = {"code": 2000, "reason": "server unsubscribe"}
        assert hears(one, "unsubscribe", "plain:a") == ended
        api.call("publish", channel="plain:a", data=1)
        assert hears(other, "pub", "plain:a") == {"data": 1}
        assert is_untouched(one)
        assert api.call("unsubscribe", user="7", channel="plain:a") == DONE
        assert is_untouched(one)


def test_no_channel_is_every_channel(client: TestClient, api: Caller) -> None:
    with user(client, "7") as one:
        one.ask("subscribe", channel="plain:a")
        one.ask("subscribe", channel="plain:b")
        assert api.call("unsubscribe", user="7", channel="") == DONE
        hears(one, "unsubscribe", "plain:a")
        hears(one, "unsubscribe", "plain:b")


def test_unknown_namespace_cannot_be_left(api: Caller) -> None:
    assert api.call("unsubscribe", user="7", channel="nosuch:a") == 102


# --- disconnect


def test_user_is_disconnected_for_good(client: TestClient, api: Caller) -> None:
    with user(client, "7") as one, user(client, "7") as two, user(client, "8") as other:
        assert api.call("disconnect", user="7", whitelist=[two.id]) == DONE
        assert one.closed() == (3503, "force disconnect")
        assert is_untouched(two)
        assert is_untouched(other)


def test_application_has_codes_and_reasons_of_its_own(client: TestClient, api: Caller) -> None:
    with user(client, "7") as one:
        how = {"code": 4001, "reason": "moving"}
        assert api.call("disconnect", user="7", client=one.id, disconnect=how) == DONE
        assert one.closed() == (4001, "moving")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (0, "why"),
        (999, "why"),
        (1005, "why"),
        (2000, "why"),
        (5000, "why"),
        (4000, ""),
        (4000, " "),
        (4000, "30"),
        (4000, '{"reconnect":false}'),
        (4000, "two\nlines"),
        (4000, "x" * 124),
    ],
)
def test_close_that_no_client_can_be_told_is_refused(api: Caller, code: int, reason: str) -> None:
    assert api.call("disconnect", user="7", disconnect={"code": code, "reason": reason}) == 107


def test_plain_clients_are_disconnected_by_the_user_of_their_endpoint() -> None:
    lastcall = Lastcall(api_key=KEY)
    app = FastAPI(lifespan=lastcall.lifespan)
    app.include_router(lastcall.router)

    @app.websocket("/ws/{name}")
    async def notifications(websocket: WebSocket, name: str) -> None:
        await lastcall.attach(websocket, user=name, channels=["ws"])

    with (
        TestClient(app) as client,
        client.websocket_connect("/ws/ann") as ann,
        client.websocket_connect("/ws/bob") as bob,
    ):
        api = Caller(client)
        api.call("subscribe", user="ann", channel="more")  # no way to tell it: left alone
        api.call("refresh", user="ann")
        api.call("disconnect", user="ann")
        with pytest.raises(WebSocketDisconnect) as end:
            ann.receive_text()
        assert (end.value.code, end.value.reason) == (3503, "force disconnect")
        api.call("publish", channel="ws", data=1)
        assert bob.receive_text() == "1"


# --- refresh


def test_connection_gets_another_end(client: TestClient, api: Caller) -> None:
    with user(client, "7") as one:
        assert api.call("refresh", user="7", expire_at=int(time.time()) + 100) == DONE
        told = hears(one, "refresh")
        assert told["expires"] is True  # type: ignore[index]
        assert 98 <= told["ttl"] <= 101  # type: ignore[index]
        assert api.call("refresh", user="7", info={"n": 2}) == DONE
        assert hears(one, "refresh") == {"expires": False, "ttl": 0}
        one.ask("subscribe", channel="room:a")
        (present,) = api.call("presence", channel="room:a")["presence"].values()
        assert present["conn_info"] == {"n": 2}


@pytest.mark.parametrize("how", [{"expired": True}, {"expire_at": 1}])
def test_connection_whose_time_is_over_ends(
    client: TestClient,
    api: Caller,
    how: dict[str, object],
) -> None:
    with user(client, "7") as one, user(client, "8") as other:
        assert api.call("refresh", user="7", **how) == DONE
        assert one.closed() == (3005, "connection expired")
        assert is_untouched(other)
