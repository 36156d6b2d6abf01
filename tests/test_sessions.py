"""The Centrifuge protocol as a client meets it: every command, every error, every close."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket
from starlette.testclient import TestClient

from lastcall import Connection, Lastcall, Settings
from lastcall.broker.base import HistoryLimits
from lastcall.channel_options import ChannelOptions
from lastcall.channels import ChannelRetention
from lastcall.errors import NotPermitted, Refused
from tests.session_client import SessionClient, connected, serving, session

pytestmark = pytest.mark.usefixtures("run_dir")

NEWS = ChannelOptions(
    history_size=10,
    force_recovery=True,
    allow_subscribe_for_anonymous=True,
    allow_subscribe_for_client=True,
    allow_publish_for_client=True,
    allow_publish_for_anonymous=True,
    allow_history_for_client=True,
    allow_history_for_anonymous=True,
)


@pytest.fixture
def lastcall() -> Lastcall:
    return Lastcall(
        allow_anonymous=True,
        max_channels=3,
        namespaces={
            "news": NEWS,
            "quote": NEWS.model_copy(update={"history_size": 1, "force_recovery_mode": "cache"}),
            "brief": NEWS.model_copy(
                update={"history_size": 1, "force_recovery_mode": "cache", "history_ttl": 0.5}
            ),
            "shut": ChannelOptions(),
            "asked": ChannelOptions(),
            "room": ChannelOptions(
                allow_subscribe_for_client=True,
                allow_subscribe_for_anonymous=True,
                presence=True,
                allow_presence_for_subscriber=True,
                allow_presence_for_anonymous=True,
                join_leave=True,
            ),
        },
    )


@pytest.fixture
def client(lastcall: Lastcall) -> Iterator[TestClient]:
    with serving(lastcall) as client:
        yield client


@pytest.fixture
def speaker(client: TestClient) -> Iterator[SessionClient]:
    with connected(client) as speaker:
        yield speaker


def error(code: int, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


def test_connect_names_the_client_and_the_pings(client: TestClient) -> None:
    with session(client) as speaker:
        result = speaker.connect(name="js", data={"anything": [1]})

    assert len(result.pop("client")) == 36
    assert result.pop("version")
    assert result == {"ping": 25, "pong": True}


def test_one_message_may_hold_many_commands(client: TestClient) -> None:
    with session(client) as speaker:
        speaker.say(
            {"id": 1, "connect": {}},
            {"id": 2, "subscribe": {"channel": "news:a", "flag": 1}},
            {"id": 3, "subscribe": {"channel": "shut:a"}},
        )
        assert [speaker.hear()["id"] for _ in range(3)] == [1, 2, 3]


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        "nonsense",
        "[]",
        "null",
        "7",
        '{"id":1}',
        '{"id":"1","rpc":{}}',
        '{"id":-1,"rpc":{}}',
        '{"id":4294967296,"rpc":{}}',
        '{"id":1,"subscribe":null}',
        '{"id":1,"subscribe":{"channel":5}}',
        '{"id":1,"subscribe":{}}',
        '{"id":1,"publish":{"channel":""}}',
        '{"id":1,"subscribe":{"channel":"news:a","delta":"bsdiff"}}',
        '{"subscribe":{"channel":"news:a"}}',
        '{"id":1,"nonsense":{}}',
        '{"id":3,"ping":{}}',
        '{"id":1,"connect":{}}',
        '{"id":1,"refresh":{}}',
        "{}",
        '{"id":7,"unsubscribe":{"channel":"news:a"}}\n\n{"id":8,"rpc":{}}',
        "[" * 5000,
        '{"id":1,"subscribe":{"channel":"\\ud800"}}',
    ],
)  # fmt: skip
def test_what_is_not_of_the_protocol_ends_the_connection(
    speaker: SessionClient, garbage: str
) -> None:
    speaker.say(garbage)

    if garbage.startswith('{"id":7'):  # what stood before it counts
        assert speaker.hear() == {"id": 7, "unsubscribe": {}}
    assert speaker.closed() == (3501, "bad request")


@pytest.mark.parametrize("too_early", ['{"id":1,"subscribe":{"channel":"news:a"}}', "{}"])
def test_nothing_comes_before_connect(client: TestClient, too_early: str) -> None:
    with session(client) as speaker:
        speaker.say(too_early)
        assert speaker.closed() == (3501, "bad request")


def test_who_is_nobody_needs_permission_to_be_nobody() -> None:
    with serving(Lastcall()) as client, session(client) as speaker:
        speaker.say({"id": 1, "connect": {}})
        assert speaker.closed() == (3501, "bad request")


def test_token_that_cannot_be_checked_is_refused(client: TestClient) -> None:
    with session(client) as speaker:
        speaker.say({"id": 1, "connect": {"token": "a.b.c"}})
        assert speaker.closed() == (3500, "invalid token")


def test_publications_come_with_offset_and_publisher(
    client: TestClient, speaker: SessionClient
) -> None:
    subscribed = speaker.ask("subscribe", channel="news:a")
    epoch = subscribed.pop("epoch")
    assert subscribed == {"recoverable": True, "positioned": True}
    with connected(client) as other:
        assert other.ask("publish", channel="news:a", data={"n": 1}) == {}

    push = speaker.hear()["push"]
    assert push["channel"] == "news:a"
    assert push["pub"]["data"] == {"n": 1}
    assert push["pub"]["offset"] == 1
    assert set(push["pub"]["info"]) == {"client", "user"}
    assert speaker.ask("history", channel="news:a", limit=0) == {
        "publications": [],
        "offset": 1,
        "epoch": epoch,
    }


def test_line_breaks_inside_a_payload_do_not_break_the_lines(speaker: SessionClient) -> None:
    speaker.ask("subscribe", channel="news:a")
    speaker.say('{"id":9,"publish":{"channel":"news:a","data":{"a":\t1}}}')
    assert {json.dumps(line) for line in (speaker.hear(), speaker.hear())}


def test_unsubscribed_means_silence(client: TestClient, speaker: SessionClient) -> None:
    speaker.ask("subscribe", channel="news:a")
    assert speaker.ask("unsubscribe", channel="news:a") == {}
    assert speaker.ask("unsubscribe", channel="news:a") == {}
    with connected(client) as other:
        other.ask("publish", channel="news:a", data=1)

    assert speaker.ask("subscribe", channel="news:b")


@pytest.mark.parametrize(
    ("method", "fields", "expected"),
    [
        ("subscribe", {"channel": "unknown:a"}, error(102, "unknown channel")),
        ("subscribe", {"channel": "shut:a"}, error(103, "permission denied")),
        ("subscribe", {"channel": "$news:a"}, error(103, "permission denied")),
        ("subscribe", {"channel": "a" * 256}, error(107, "bad request")),
        ("subscribe", {"channel": "news:a", "type": 1}, error(108, "not available")),
        ("subscribe", {"channel": "news:a", "tf": {}}, error(107, "bad request")),
        ("publish", {"channel": "news:a"}, error(107, "bad request")),
        ("publish", {"channel": "shut:a", "data": 1}, error(103, "permission denied")),
        ("history", {"channel": "shut:a"}, error(108, "not available")),
        ("rpc", {"method": "none"}, error(108, "not available")),
    ],
)
def test_one_refused_command_leaves_the_rest_alone(
    speaker: SessionClient, method: str, fields: dict[str, Any], expected: Any
) -> None:
    assert speaker.ask(method, **fields) == expected
    assert speaker.ask("subscribe", channel="news:a")["positioned"]


def test_one_subscription_a_channel_and_so_many_channels(speaker: SessionClient) -> None:
    for name in "abc":
        speaker.ask("subscribe", channel=f"news:{name}")

    assert speaker.ask("subscribe", channel="news:a") == error(105, "already subscribed")
    assert speaker.ask("subscribe", channel="news:d") == error(106, "limit exceeded")


def test_who_comes_back_gets_what_it_missed(client: TestClient) -> None:
    with connected(client) as other:
        with connected(client) as first:
            epoch = first.ask("subscribe", channel="news:a")["epoch"]
        for n in range(3):
            other.ask("publish", channel="news:a", data=n)
        with connected(client) as again:
            result = again.ask("subscribe", channel="news:a", recover=True, offset=1, epoch=epoch)
            other.ask("publish", channel="news:a", data=3)
            live = again.hear()["push"]["pub"]

    assert (result["recovered"], result["was_recovering"], result["offset"]) == (True, True, 1)
    assert [each["data"] for each in result["publications"]] == [1, 2]
    assert (live["data"], live["offset"]) == (3, 4)


@pytest.mark.parametrize("epoch", ["another", None])
def test_who_was_away_too_long_is_told(client: TestClient, epoch: str | None) -> None:
    with connected(client) as speaker:
        for n in range(12):
            speaker.ask("publish", channel="news:a", data=n)
        ours = speaker.ask("history", channel="news:a", limit=0)["epoch"]
        asked = {"channel": "news:a", "recover": True, "offset": 1, "epoch": epoch or ours}
        refused = speaker.ask("subscribe", **asked, flag=3)
        result = speaker.ask("subscribe", **asked)

    assert refused == error(112, "unrecoverable position")
    assert result == {
        "recoverable": True,
        "positioned": True,
        "was_recovering": True,
        "epoch": ours,
        "offset": 12,
    }


def come_back(
    client: TestClient, offset: int = 0, epoch: str = "", *, channel: str = "quote:a"
) -> Any:
    with connected(client) as speaker:
        return speaker.ask("subscribe", channel=channel, recover=True, offset=offset, epoch=epoch)


def test_cache_has_the_latest_publication_for_who_comes_back(client: TestClient) -> None:
    with connected(client) as speaker:
        empty = come_back(client)
        assert empty["was_recovering"]
        assert not {"recovered", "publications", "offset"} & set(empty)
        for n in range(1, 6):
            speaker.ask("publish", channel="quote:a", data=n)
        epoch = empty["epoch"]

        for offset, of in [(1, epoch), (4, epoch), (0, ""), (2, "another")]:
            result = come_back(client, offset, of)
            assert (result["recovered"], result["offset"], result["epoch"]) == (True, 5, epoch)
            assert [each["data"] for each in result["publications"]] == [5]
        result = come_back(client, 5, epoch)
        assert (result["recovered"], result["offset"]) == (True, 5)
        assert "publications" not in result


def test_cache_that_is_empty_by_now_is_told(client: TestClient) -> None:
    with connected(client) as speaker:
        speaker.ask("publish", channel="brief:a", data=1)
        deadline = time.monotonic() + 10
        while speaker.ask("history", channel="brief:a", limit=1)["publications"]:
            assert time.monotonic() < deadline
        result = come_back(client, channel="brief:a")
    assert result["offset"] == 1
    assert "recovered" not in result


def test_cache_goes_on_live(client: TestClient) -> None:
    with connected(client) as speaker, connected(client) as other:
        for n in range(3):
            other.ask("publish", channel="quote:a", data=n)
        speaker.ask("subscribe", channel="quote:a", recover=True)
        other.ask("publish", channel="quote:a", data=3)
        live = speaker.hear()["push"]["pub"]
        assert (live["data"], live["offset"]) == (3, 4)


def test_history_goes_both_ways(speaker: SessionClient) -> None:
    for n in range(1, 6):
        speaker.ask("publish", channel="news:a", data=n)

    def read(**fields: Any) -> list[int]:
        result = speaker.ask("history", channel="news:a", **fields)
        return [each["data"] for each in result["publications"]]

    assert read(limit=-1) == [1, 2, 3, 4, 5]
    assert read(limit=2, reverse=True) == [5, 4]
    assert read(limit=2, since={"offset": 2}) == [3, 4]
    assert read(limit=9, since={"offset": 3}, reverse=True) == [2, 1]
    assert speaker.ask("history", channel="news:a", since={"offset": 1, "epoch": "x"}) == error(
        112, "unrecoverable position"
    )
    assert speaker.ask("history", channel="news:a", since={}, reverse=True) == error(
        107, "bad request"
    )


def test_everybody_is_subscribed_to_the_channel_for_notices() -> None:
    lastcall = Lastcall(
        allow_anonymous=True, shutdown_notice_channel="news:server", namespaces={"news": NEWS}
    )
    with serving(lastcall) as client, session(client) as speaker:
        assert list(speaker.connect()["subs"]) == ["news:server"]
        assert client.portal is not None
        client.portal.call(lastcall.now.worker.connections.notify_all, "bye")
        assert speaker.hear() == {"push": {"message": {"data": "bye"}}}
        assert speaker.hear() == {"push": {"channel": "news:server", "pub": {"data": "bye"}}}


def test_who_asks_too_often_is_told_to_be_patient() -> None:
    lastcall = Lastcall(
        allow_anonymous=True, publish_rate=0.5, rate_burst=4, namespaces={"news": NEWS}
    )
    with serving(lastcall) as client, connected(client) as speaker:
        answers = [speaker.ask("publish", channel="news:a", data=n) for n in range(4)]
        assert answers == [{}, {}] + 2 * [
            {"error": {"code": 111, "message": "too many requests", "temporary": True}}
        ]
        assert speaker.ask("subscribe", channel="news:a")["positioned"] is True
        assert "lastcall_limited_total{" in client.get("/metrics").text
        with connected(client) as another:
            assert another.ask("publish", channel="news:a", data=9) == {}


def test_application_decides_who_may(lastcall: Lastcall) -> None:
    asked: list[tuple[str, ...]] = []

    @lastcall.on_subscribe("asked:*")
    async def may_subscribe(_: Connection, channel: str) -> bool:
        asked.append((channel,))
        return channel != "asked:no"

    @lastcall.on_publish("asked:*")
    def may_publish(_: Connection, channel: str, data: str) -> None:
        asked.append((channel, data))
        if channel == "asked:never":
            raise NotPermitted
        if channel == "asked:full":
            raise Refused(450, "the room is full")

    with serving(lastcall) as client, connected(client) as speaker:
        assert speaker.ask("subscribe", channel="asked:yes") == {}
        assert speaker.ask("subscribe", channel="asked:no") == error(103, "permission denied")
        assert speaker.ask("publish", channel="asked:a", data=[1]) == {}
        assert speaker.ask("publish", channel="asked:never", data=1) == error(
            103, "permission denied"
        )
        assert speaker.ask("publish", channel="asked:full", data=1) == error(
            450, "the room is full"
        )
    assert asked[:3] == [("asked:yes",), ("asked:no",), ("asked:a", "[1]")]


def test_application_answers_calls(lastcall: Lastcall) -> None:
    @lastcall.on_rpc("add")
    def add(_: Connection, data: str) -> int:
        return sum(json.loads(data))

    @lastcall.on_rpc("wait")
    async def wait(connection: Connection, data: str) -> dict[str, str | None]:
        return {"user": connection.user, "data": data}

    @lastcall.on_rpc("break")
    async def broken(_: Connection, __: str) -> None:
        raise RuntimeError("broken on purpose")

    with serving(lastcall) as client, connected(client) as speaker:
        assert speaker.ask("rpc", method="add", data=[1, 2]) == {"data": 3}
        assert speaker.ask("rpc", method="wait") == {"data": {"user": None, "data": "null"}}
        assert speaker.ask("rpc", method="none") == error(104, "method not found")
        assert speaker.ask("rpc", method="break") == {
            "error": {"code": 100, "message": "internal server error", "temporary": True}
        }


def test_messages_reach_who_listens_to_them(lastcall: Lastcall) -> None:
    heard: list[object] = []
    lastcall.on_message(lambda _connection, message: heard.append(message))
    with serving(lastcall) as client, connected(client) as speaker:
        speaker.say({"send": {"data": {"a": 1}}})
        assert speaker.ask("unsubscribe", channel="news:a") == {}
    assert heard == ['{"a": 1}']


def test_message_that_nobody_listens_to_ends_the_connection(speaker: SessionClient) -> None:
    speaker.say({"send": {"data": 1}})
    assert speaker.closed() == (3508, "not available")


def test_application_says_who_it_is_and_what_it_hears(lastcall: Lastcall) -> None:
    app = FastAPI(lifespan=lastcall.lifespan)

    @app.websocket("/mine")
    async def mine(websocket: WebSocket) -> None:
        await lastcall.attach(
            websocket, user="ann", channels=["news:a", "shut:b"], protocol="centrifuge-json"
        )

    with TestClient(app) as client:
        with session(client, "/mine") as speaker:
            result = speaker.connect()
            subs = result["subs"]
            epoch = subs["news:a"]["epoch"]
            assert subs == {
                "news:a": {"recoverable": True, "positioned": True, "epoch": epoch},
                "shut:b": {},
            }
            assert client.portal is not None
            client.portal.call(lastcall.publish, "shut:b", {"to": "ann"})
            assert speaker.hear() == {"push": {"channel": "shut:b", "pub": {"data": {"to": "ann"}}}}
        client.portal.call(lastcall.publish, "news:a", "text")
        with session(client, "/mine") as speaker:
            wanted = {"news:a": {"recover": True, "offset": 0, "epoch": epoch}, "news:b": {}}
            subs = speaker.connect(subs=wanted)["subs"]
            assert subs["news:a"]["publications"] == [{"data": "text", "offset": 1}]
            assert subs["news:a"]["recovered"]
            assert "news:b" in subs


def test_unknown_namespace_in_connect_is_not_of_the_protocol(client: TestClient) -> None:
    with session(client) as speaker:
        speaker.say({"id": 1, "connect": {"subs": {"unknown:a": {}}}})
        assert speaker.closed() == (3501, "bad request")


def test_more_than_so_many_channels_with_connect_is_too_many(client: TestClient) -> None:
    with session(client) as speaker:
        speaker.say({"id": 1, "connect": {"subs": {f"news:{n}": {} for n in range(4)}}})
        assert speaker.closed() == (3505, "channel limit")


def test_who_is_in_a_channel_is_seen_by_who_may_see_it(
    client: TestClient, speaker: SessionClient
) -> None:
    with connected(client) as other:
        assert other.ask("presence", channel="room:a") == error(103, "permission denied")
        other.ask("subscribe", channel="room:a")
        speaker.ask("subscribe", channel="room:a")
        presence = speaker.ask("presence", channel="room:a")["presence"]

        assert len(presence) == 2
        assert all(info == {"client": key, "user": ""} for key, info in presence.items())
        assert speaker.ask("presence_stats", channel="room:a") == {"num_clients": 2, "num_users": 1}
    assert len(speaker.ask("presence", channel="room:a")["presence"]) == 1
    assert speaker.ask("presence", channel="news:a") == error(108, "not available")


def test_who_asks_is_told_who_comes_and_goes(client: TestClient, speaker: SessionClient) -> None:
    speaker.ask("subscribe", channel="room:a", join_leave=True)
    own = speaker.hear()["push"]
    assert own["channel"] == "room:a"
    with connected(client) as other:
        other.ask("subscribe", channel="room:a")
        joined = speaker.hear()["push"]["join"]["info"]
        other.ask("unsubscribe", channel="room:a")
        assert speaker.hear()["push"]["leave"]["info"] == joined
        other.ask("subscribe", channel="room:a")
        assert speaker.hear()["push"]["join"]["info"] == joined
    assert speaker.hear() == {"push": {"channel": "room:a", "leave": {"info": joined}}}
    assert joined != own["join"]["info"]


def test_channel_remembers_as_long_as_its_namespace_says() -> None:
    settings = Settings(
        history_size=50,
        history_ttl=60,
        namespaces={
            "short": ChannelOptions(history_size=5, history_ttl=10),
            "long": ChannelOptions(history_size=5000, history_ttl=86_400),
        },
    )
    retention = ChannelRetention(settings)

    assert retention.of("plain") == HistoryLimits(50, 60)
    assert retention.of("\0answers:a").ttl < 60  # read once, and large perhaps
    assert retention.of("unknown:a") == HistoryLimits(50, 60)
    assert retention.of("short:a") == HistoryLimits(50, 10)
    assert retention.of("long:a") == HistoryLimits(5000, 86_400)
    assert retention.ttl == 86_400
