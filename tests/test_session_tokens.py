"""Sessions by tokens, and what ends by itself: with clocks that the test moves."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from lastcall import Lastcall
from lastcall.broker.base import StreamPosition
from lastcall.channel_options import ChannelOptions
from lastcall.tokens import make_token
from tests.session_client import PATH, SessionClient, serving, session

pytestmark = pytest.mark.usefixtures("run_dir")

SECRET = "a secret of more than thirty-two bytes"  # noqa: S105  (of this test)
ROOM = ChannelOptions(
    history_size=10,
    force_recovery=True,
    presence=True,
    allow_presence_for_subscriber=True,
    allow_publish_for_subscriber=True,
)


def token(**claims: object) -> str:
    return make_token(SECRET, claims)


def soon(seconds: float = 3600) -> int:
    return int(time.time() + seconds)


@pytest.fixture
def lastcall() -> Lastcall:
    return Lastcall(
        token_secret=SECRET,
        user_personal_channel=True,
        channels=ChannelOptions(allow_user_limited_channels=True),
        namespaces={"room": ROOM},
    )


@pytest.fixture
def client(lastcall: Lastcall) -> Iterator[TestClient]:
    with serving(lastcall) as client:
        yield client


@pytest.fixture
def speaker(client: TestClient) -> Iterator[SessionClient]:
    with session(client) as speaker:
        speaker.connect(token=token(sub="ann", info={"name": "Ann"}))
        yield speaker


def error(code: int, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


def test_token_says_who_it_is_and_for_how_long(client: TestClient) -> None:
    with session(client) as speaker:
        claims = {"sub": "ann", "exp": soon(), "channels": ["room:a"]}
        result = speaker.connect(token=token(**claims))

    assert result["expires"] is True
    assert 3000 < result["ttl"] <= 3600
    assert set(result["subs"]) == {"room:a", "#ann"}


def test_expired_token_may_be_followed_by_a_fresh_connection(client: TestClient) -> None:
    with session(client) as speaker:
        assert speaker.connect(token=token(sub="ann", exp=soon(-5))) == error(109, "token expired")
        # Its connection is dead: nothing is answered any more, and nothing harms anybody.
        speaker.say({"id": 2, "subscribe": {"channel": "room:a"}}, "nonsense")


@pytest.mark.parametrize(
    ("bad", "close"),
    [
        (make_token("another secret that is long enough", {"sub": "ann"}), (3500, "invalid token")),
        (token(sub="ann", channel="room:a"), (3500, "invalid token")),
        (token(sub=""), (3507, "permission denied")),
    ],
)
def test_bad_tokens_end_the_connection(
    client: TestClient, bad: str, close: tuple[int, str]
) -> None:
    with session(client) as speaker:
        speaker.say({"id": 1, "connect": {"token": bad}})
        assert speaker.closed() == close


def test_subscription_token_opens_its_channel_for_its_user(speaker: SessionClient) -> None:
    ours = token(sub="ann", channel="room:a", info={"seat": 4}, exp=soon(60), data={"hi": 1})
    result = speaker.ask("subscribe", channel="room:a", token=ours)
    assert (result["expires"], result["data"]) == (True, {"hi": 1})
    assert result["ttl"] <= 60
    (info,) = speaker.ask("presence", channel="room:a")["presence"].values()
    assert info["user"] == "ann"
    assert info["conn_info"] == {"name": "Ann"}
    assert info["chan_info"] == {"seat": 4}

    badly_signed = make_token("another secret that is long enough", {"channel": "room:b"})
    assert speaker.ask("subscribe", channel="room:b", token=badly_signed) == error(
        103, "permission denied"
    )
    expired = token(sub="ann", channel="room:b", exp=soon(-1))
    assert speaker.ask("subscribe", channel="room:b", token=expired) == error(109, "token expired")
    speaker.say(
        {"id": 99, "subscribe": {"channel": "room:b", "token": token(sub="bob", channel="room:b")}}
    )
    assert speaker.closed() == (3500, "invalid token")


def test_named_users_need_no_token(speaker: SessionClient) -> None:
    assert speaker.ask("subscribe", channel="talk#ann,bob") == {}
    assert speaker.ask("subscribe", channel="talk#bob") == error(103, "permission denied")


@pytest.mark.parametrize(
    ("make_fresh", "expected"),
    [
        # Made by the test: all tests are collected long before the last of them runs.
        (lambda: token(sub="ann", exp=soon()), None),
        (lambda: token(sub="ann", exp=soon(-9)), (3005, "connection expired")),
        (lambda: token(sub="bob", exp=soon()), (3500, "invalid token")),
        (lambda: token(sub="ann", channels=["room:a"]), (3010, "insufficient state")),
    ],
)
def test_fresh_token_lets_the_connection_live_on(
    speaker: SessionClient, make_fresh: Callable[[], str], expected: tuple[int, str] | None
) -> None:
    speaker.say({"id": 5, "refresh": {"token": make_fresh()}})

    if expected is None:
        refreshed = speaker.hear()["refresh"]
        assert refreshed["expires"]
        assert 3000 < refreshed["ttl"] <= 3600
    else:
        assert speaker.closed() == expected


def test_fresh_token_lets_a_subscription_live_on(speaker: SessionClient) -> None:
    first = token(sub="ann", channel="room:a", exp=soon(60))
    speaker.ask("subscribe", channel="room:a", token=first)

    fresh = token(sub="ann", channel="room:a", exp=soon(600))
    assert speaker.ask("sub_refresh", channel="room:a", token=fresh)["ttl"] > 590
    assert speaker.ask("sub_refresh", channel="room:b", token=fresh) == error(
        103, "permission denied"
    )
    expired = token(sub="ann", channel="room:a", exp=soon(-1))
    assert speaker.ask("sub_refresh", channel="room:a", token=expired) == error(
        109, "token expired"
    )
    speaker.say({"id": 50, "sub_refresh": {"channel": "room:a", "token": "nonsense"}})
    assert speaker.closed() == (3500, "invalid token")


def test_application_and_token_have_to_agree_on_the_user(lastcall: Lastcall) -> None:
    from fastapi import FastAPI, WebSocket  # noqa: PLC0415  (only here)

    app = FastAPI(lifespan=lastcall.lifespan)

    @app.websocket("/mine")
    async def mine(websocket: WebSocket) -> None:
        await lastcall.attach(websocket, user="ann", protocol="centrifuge-json")

    with TestClient(app) as client, session(client, "/mine") as speaker:
        speaker.say({"id": 1, "connect": {"token": token(sub="bob")}})
        assert speaker.closed() == (3500, "invalid token")


class Clock:
    """Both clocks of the running worker, in the test's hand."""

    def __init__(self, lastcall: Lastcall) -> None:
        self._sessions = lastcall.now.worker.sessions
        self._passed = 0.0
        self._sessions._clock = lambda: time.time() + self._passed  # noqa: SLF001
        self._sessions._beat = lambda: time.monotonic() + self._passed  # noqa: SLF001

    def pass_seconds(self, client: TestClient, seconds: float) -> None:
        self._passed += seconds
        assert client.portal is not None
        client.portal.call(self._sessions.next_second)


def test_pings_have_to_be_answered(
    lastcall: Lastcall, client: TestClient, speaker: SessionClient
) -> None:
    clock = Clock(lastcall)
    for _ in range(2):
        clock.pass_seconds(client, 26)
        assert speaker.hear() == {}
        speaker.say({})
        speaker.ask("unsubscribe", channel="room:a")  # by now the pong was read
    clock.pass_seconds(client, 26)
    assert speaker.hear() == {}
    clock.pass_seconds(client, 9)
    assert speaker.closed() == (3012, "no pong")


def test_tool_that_answers_websocket_pings_only_gets_no_others(
    lastcall: Lastcall, client: TestClient
) -> None:
    clock = Clock(lastcall)
    with session(client, f"{PATH}?cf_ws_frame_ping_pong=true") as tool:
        assert not {"ping", "pong"} & set(tool.connect(token=token(sub="ann")))
        clock.pass_seconds(client, 60)
        assert tool.ask("unsubscribe", channel="room:a") == {}
        tool.say({})
        assert tool.closed() == (3501, "bad request")


def test_who_never_says_who_it_is_is_let_go(lastcall: Lastcall, client: TestClient) -> None:
    with session(client) as speaker:
        clock = Clock(lastcall)
        clock.pass_seconds(client, 12)
        assert speaker.closed() == (3502, "stale")


def test_connection_ends_some_time_after_its_token(lastcall: Lastcall, client: TestClient) -> None:
    with session(client) as speaker:
        speaker.connect(token=token(sub="ann", exp=soon(2)))
        clock = Clock(lastcall)
        clock.pass_seconds(client, 29)
        assert speaker.closed() == (3005, "connection expired")


def test_subscription_ends_some_time_after_its_token(
    lastcall: Lastcall, client: TestClient, speaker: SessionClient
) -> None:
    mine = token(sub="ann", channel="room:a", exp=soon(1))
    speaker.ask("subscribe", channel="room:a", token=mine)
    clock = Clock(lastcall)
    clock.pass_seconds(client, 28)

    lines = [speaker.hear(), speaker.hear()]
    assert {} in lines
    assert {
        "push": {
            "channel": "room:a",
            "unsubscribe": {"code": 2501, "reason": "subscription expired"},
        }
    } in lines
    assert speaker.ask("presence", channel="room:a") == error(103, "permission denied")


def test_gap_in_a_stream_is_told_to_those_who_hold_a_position(
    lastcall: Lastcall, client: TestClient, speaker: SessionClient
) -> None:
    mine = token(sub="ann", channel="room:a")
    speaker.ask("subscribe", channel="room:a", token=mine)
    speaker.ask("subscribe", channel="talk#ann")
    lose(lastcall, client, "talk#ann")
    lose(lastcall, client, "room:a")

    assert speaker.hear() == {
        "push": {"channel": "room:a", "unsubscribe": {"code": 2500, "reason": "insufficient state"}}
    }
    assert speaker.ask("subscribe", channel="room:a", token=mine)["positioned"]


def test_gap_in_a_server_side_subscription_ends_the_connection(
    lastcall: Lastcall, client: TestClient
) -> None:
    with session(client) as speaker:
        speaker.connect(token=token(sub="ann", channels=["room:a"]))
        lose(lastcall, client, "room:a")
        assert speaker.closed() == (3010, "insufficient state")


def lose(lastcall: Lastcall, client: TestClient, channel: str) -> None:
    """Let the broker say that the stream goes on somewhere else."""
    assert client.portal is not None
    hub = lastcall.now.worker.hub
    client.portal.call(hub.reset, channel, StreamPosition(0, "another"))
