"""The server API as its callers meet it: keys, bodies, statuses, every method and every error."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from lastcall import Lastcall, create_app
from lastcall.server_api import MAX_COMMANDS, METHODS
from lastcall.settings import ServerSettings
from tests.api_caller import KEY, NAMESPACES, Caller
from tests.session_client import SessionClient, connected, serving, session

pytestmark = pytest.mark.usefixtures("run_dir")


@pytest.fixture
def lastcall() -> Lastcall:
    return Lastcall(
        api_key=KEY,
        allow_anonymous=True,
        namespaces=NAMESPACES,
        max_api_body=10_000,
        max_channels=3,
    )


@pytest.fixture
def client(lastcall: Lastcall) -> Iterator[TestClient]:
    with serving(lastcall) as client:
        yield client


@pytest.fixture
def api(client: TestClient) -> Caller:
    return Caller(client)


def subscribed(client: SessionClient, channel: str) -> SessionClient:
    assert "error" not in client.ask("subscribe", channel=channel)
    return client


# --- who may call, and what with


@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        ({"X-API-Key": KEY}, "", 200),
        ({"Authorization": f"apikey {KEY}"}, "", 200),
        ({"Authorization": f"ApiKey {KEY}"}, "", 200),
        ({}, "?api_key=the%20key", 200),
        ({}, "", 401),
        ({"X-API-Key": ""}, "", 401),
        ({"X-API-Key": "another"}, "", 401),
        ({"X-API-Key": "the keyring"}, "", 401),
        ({"X-API-Key": "schlüssel".encode()}, "", 401),
        ({"X-API-Key": "another"}, "?api_key=the%20key", 401),
        ({"Authorization": f"Bearer {KEY}"}, "", 401),
        ({"Authorization": "apikey"}, "", 401),
        ({}, "?api_key=schl%C3%BCssel", 401),
    ],
)
@pytest.mark.parametrize("method", ["info", "batch"])
def test_key_opens_the_api(
    client: TestClient, method: str, headers: dict[str, str], query: str, status: int
) -> None:
    response = client.post(f"/api/{method}{query}", content="{}", headers=headers)

    assert response.status_code == status
    if status == 401:
        assert response.content == b""


@pytest.mark.parametrize("given", [{}, {"X-API-Key": ""}, {"X-API-Key": KEY}])
def test_api_without_a_key_is_closed(given: dict[str, str]) -> None:
    with serving(Lastcall()) as client:
        assert client.post("/api/info", content="{}", headers=given).status_code == 401
        assert not [path for path in client.get("/openapi.json").json()["paths"] if "api" in path]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"7",
        b'{"channel":5}',
        b'{"channel":"news:a","data":}',
        b'{"channel":"news:a","data":1.}',
        b'{"channel":"\\ud800","data":1}',
        b'{"channel":"news:a","data":"\xff"}',
        b'{"channel":"news:a","data":1,"tags":{"a":1}}',
        b'{"channel":"news:a","data":1,"skip_history":"yes"}',
        b'{"channel":"news:a","data":1,"version":-1}',
        b'{"channel":"news:a","data":1,"version":9223372036854775808}',
        b'{"channel":"news:a","data":' + b"[" * 4000,
    ],
)
def test_what_is_no_request_is_refused(api: Caller, body: bytes) -> None:
    response = api.post("publish", body)

    assert response.status_code == 400
    assert response.json()["error"]["code"] == 107
    assert response.json()["error"]["message"].startswith("bad request: ")


def test_body_is_bounded(api: Caller) -> None:
    fits = json.dumps({"channel": "plain:a", "data": ""}).encode()
    text = b"x" * (10_000 - len(fits))
    fits = fits.replace(b'""', b'"' + text + b'"')

    assert api.post("publish", fits).status_code == 200
    refused = api.post("publish", fits + b" ")
    assert refused.status_code == 413
    assert refused.json()["error"]["code"] == 107


def test_other_methods_do_not_exist(client: TestClient, api: Caller) -> None:
    assert api.post("nonsense", {}).status_code == 404
    assert api.post("connections", {}).status_code == 404
    for verb in ("GET", "PUT", "DELETE", "PATCH", "HEAD"):
        assert client.request(verb, "/api/publish").status_code == 405


@pytest.mark.parametrize(
    ("method", "body", "status", "code"),
    [
        ("publish", {"channel": "nosuch:a", "data": 1}, 404, 102),
        ("rpc", {"method": "a"}, 404, 104),
        ("publish", {"data": 1}, 400, 107),
        ("history", {"channel": "plain:a"}, 400, 108),
        ("history", {"channel": "news:a", "since": {"epoch": "another"}}, 416, 112),
    ],
)
def test_errors_become_statuses_where_that_is_wanted(
    api: Caller, method: str, body: object, status: int, code: int
) -> None:
    asked = api.post(method, body, X_Centrifugo_Error_Mode="transport")
    usual = api.post(method, body)

    assert (asked.status_code, asked.json()["code"]) == (status, code)
    assert usual.status_code == 200
    assert usual.json() == {"error": asked.json()}


# --- publish


def test_publication_reaches_its_subscribers_as_it_came(client: TestClient, api: Caller) -> None:
    with connected(client) as one, connected(client) as other:
        subscribed(one, "news:a")
        subscribed(other, "plain:a")
        result = api.call("publish", channel="news:a", data={"a": [1, None]}, tags={"k": "v"})
        assert one.hear() == {
            "push": {
                "channel": "news:a",
                "pub": {"data": {"a": [1, None]}, "offset": 1, "tags": {"k": "v"}},
            }
        }
        assert (result["offset"], len(result)) == (1, 2)
        assert result["epoch"]
        assert api.call("publish", channel="plain:a", data=None) == {}
        assert other.hear() == {"push": {"channel": "plain:a", "pub": {"data": None}}}


def test_line_breaks_in_data_do_not_reach_lines(client: TestClient, api: Caller) -> None:
    with connected(client) as speaker:
        subscribed(speaker, "plain:a")
        api.post("publish", b'{"channel":"plain:a","data":{\r\n"a":\r1}}')
        assert speaker.hear()["push"]["pub"] == {"data": {"a": 1}}


@pytest.mark.parametrize(
    ("raw", "heard"),
    [
        (b'{"a":1}', {"a": 1}),
        (b"\x00\xff", {"b64data": "AP8="}),
        (b"[" * 3000, {"b64data": base64.b64encode(b"[" * 3000).decode()}),
        (b'{\n"a":1}', {"a": 1}),
    ],
)
def test_base64_stands_for_bytes(
    client: TestClient, api: Caller, raw: bytes, heard: object
) -> None:
    with connected(client) as speaker:
        subscribed(speaker, "plain:a")
        assert api.call("publish", channel="plain:a", b64data=base64.b64encode(raw).decode()) == {}
        assert speaker.hear()["push"]["pub"] == {"data": heard}


def test_same_key_publishes_once(api: Caller) -> None:
    first = api.call("publish", channel="news:a", data=1, idempotency_key="k")

    assert api.call("publish", channel="news:a", data=2, idempotency_key="k") == first
    assert api.call("publish", channel="news:b", data=3, idempotency_key="k")["offset"] == 1
    assert api.call("publish", channel="news:a", data=4)["offset"] == 2


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"data": 1}, 107),
        ({"channel": "", "data": 1}, 107),
        ({"channel": "plain:a"}, 107),
        ({"channel": "a\nb", "data": 1}, 107),
        ({"channel": "a" * 256, "data": 1}, 107),
        ({"channel": "plain:a", "b64data": "!"}, 107),
        ({"channel": "nosuch:a", "data": 1}, 102),
        ({"channel": "news:a", "data": 1, "version": 5}, 108),
    ],
)
def test_publication_that_cannot_be_is_refused(
    api: Caller, fields: dict[str, Any], code: int
) -> None:
    assert api.call("publish", **fields) == code


def test_version_means_nothing_without_a_history(api: Caller) -> None:
    assert api.call("publish", channel="plain:a", data=1, version=5, version_epoch="e") == {}


def test_broadcast_answers_for_each_channel(client: TestClient, api: Caller) -> None:
    with connected(client) as speaker:
        subscribed(speaker, "plain:a")
        answer = api.call("broadcast", channels=["news:a", "nosuch:a", "plain:a", ""], data=1)
        assert speaker.hear()["push"]["pub"] == {"data": 1}

    news, nosuch, plain, empty = answer["responses"]
    assert news["result"]["offset"] == 1
    assert nosuch == {"error": {"code": 102, "message": "unknown channel"}}
    assert plain == {"result": {}}
    assert empty["error"]["code"] == 107


@pytest.mark.parametrize("fields", [{"data": 1}, {"channels": ["plain:a"]}])
def test_broadcast_of_nothing_or_to_nobody_is_refused(api: Caller, fields: dict[str, Any]) -> None:
    assert api.call("broadcast", **fields) == 107


# --- presence, history


def test_presence_says_who_is_there(client: TestClient, api: Caller) -> None:
    with session(client) as one, session(client) as other:
        ids = {one.connect()["client"], other.connect()["client"]}
        subscribed(one, "room:a")
        subscribed(other, "room:a")
        presence = api.call("presence", channel="room:a")["presence"]
        assert {info["client"] for info in presence.values()} == set(presence) == ids
        counts = api.call("presence_stats", channel="room:a")
        assert counts == {"num_clients": 2, "num_users": 1}


@pytest.mark.parametrize("method", ["presence", "presence_stats"])
@pytest.mark.parametrize(("channel", "code"), [("", 107), ("nosuch:a", 102), ("plain:a", 108)])
def test_presence_that_is_not_there(api: Caller, method: str, channel: str, code: int) -> None:
    assert api.call(method, channel=channel) == code


def history(api: Caller, **fields: Any) -> list[int]:
    """What is left of a history of ten, by its data."""
    answer = api.call("history", channel="news:a", **fields)
    assert answer["offset"] == 12
    return [publication["data"] for publication in answer["publications"]]


def test_history_is_read_as_asked(api: Caller) -> None:
    for number in range(1, 12):
        api.call("publish", channel="news:a", data=number)
    epoch = api.call("publish", channel="news:a", data=12, tags={"n": "12"})["epoch"]

    answer = api.call("history", channel="news:a", limit=1, reverse=True)
    assert answer == {
        "publications": [{"data": 12, "offset": 12, "tags": {"n": "12"}}],
        "offset": 12,
        "epoch": epoch,
    }
    assert history(api) == []
    assert history(api, limit=-1) == list(range(3, 13))
    assert history(api, limit=2) == [3, 4]
    assert history(api, limit=2, since={"offset": 5, "epoch": epoch}) == [6, 7]
    assert history(api, limit=-1, since={"offset": 11}) == [12]
    assert history(api, limit=-1, since={"offset": 5}, reverse=True) == [4, 3]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, 107),
        ({"channel": "nosuch:a"}, 102),
        ({"channel": "plain:a"}, 108),
        ({"channel": "news:a", "since": {"offset": 0, "epoch": "another"}}, 112),
        ({"channel": "news:a", "limit": 1, "since": {"offset": 0}, "reverse": True}, 107),
    ],
)
def test_history_that_is_not_there(api: Caller, fields: dict[str, Any], code: int) -> None:
    assert api.call("history", **fields) == code


def test_history_is_removed_and_goes_on_where_it_was(api: Caller) -> None:
    first = api.call("publish", channel="news:a", data="secret")
    assert api.call("history_remove", channel="news:a") == {}
    left = api.call("history", channel="news:a", limit=-1)
    assert left == {"publications": [], "offset": 1, "epoch": first["epoch"]}
    api.call("publish", channel="news:a", data="new")
    (new,) = api.call("history", channel="news:a", limit=-1)["publications"]
    assert new == {"data": "new", "offset": 2}
    assert api.call("history_remove", channel="news:never") == {}


@pytest.mark.parametrize(("channel", "code"), [("", 107), ("nosuch:a", 102), ("plain:a", 108)])
def test_history_that_cannot_be_removed(api: Caller, channel: str, code: int) -> None:
    assert api.call("history_remove", channel=channel) == code


# --- channels, info, rpc


def test_channels_lists_those_that_somebody_hears(client: TestClient, api: Caller) -> None:
    assert api.call("channels") == {"channels": {}}
    with connected(client) as one, connected(client) as other:
        subscribed(one, "plain:a")
        subscribed(other, "plain:a")
        subscribed(other, "room:b")
        everything = {"plain:a": {"num_clients": 2}, "room:b": {"num_clients": 1}}
        assert api.call("channels") == {"channels": everything}
        assert api.call("channels", pattern="*") == {"channels": everything}
        assert list(api.call("channels", pattern="r?om:*")["channels"]) == ["room:b"]
        assert api.call("channels", pattern="chat*") == {"channels": {}}


def test_info_describes_the_workers(client: TestClient, api: Caller) -> None:
    with connected(client) as speaker:
        subscribed(subscribed(speaker, "plain:a"), "room:b")
        (node,) = api.call("info")["nodes"]

    assert node.pop("uid")
    assert node.pop("name")
    assert node.pop("version")
    assert node.pop("uptime") >= 0
    assert node == {"num_clients": 1, "num_users": 1, "num_channels": 2, "num_subs": 2}


def test_plain_clients_count_as_well() -> None:
    app = create_app(ServerSettings(api_key=SecretStr(KEY)))
    with TestClient(app) as client, client.websocket_connect("/ws"):
        api = Caller(client)
        assert api.call("channels") == {"channels": {"ws": {"num_clients": 1}}}
        assert api.call("info")["nodes"][0]["num_clients"] == 1


def test_rpc_finds_nothing(api: Caller) -> None:
    assert api.call("rpc", method="anything", params={"a": 1}) == 104


# --- batch


@pytest.mark.parametrize("parallel", [False, True])
def test_batch_answers_in_order(api: Caller, parallel: bool) -> None:  # noqa: FBT001  (a case)
    commands = [
        {"publish": {"channel": "news:a", "data": 1}},
        {"publish": {"channel": "nosuch:a", "data": 1}},
        {"nonsense": {}},
        None,
        {"publish": None},
        {},
        {"broadcast": {"channels": ["plain:a"], "data": 1}},
        {"channels": {}},
    ]
    answer = api.post("batch", {"commands": commands, "parallel": parallel})

    assert list(answer.json()) == ["replies"]
    replies = answer.json()["replies"]
    assert replies[0]["publish"]["offset"] == 1
    codes = [reply["error"]["code"] for reply in replies[1:6]]
    assert codes == [102, 104, 107, 107, 104]
    assert replies[6] == {"broadcast": {"responses": [{"result": {}}]}}
    assert replies[7] == {"channels": {"channels": {}}}


def test_batch_that_is_none_is_refused(api: Caller) -> None:
    assert api.post("batch", {}).json() == {"replies": []}
    assert api.post("batch", {"commands": [{"publish": {"channel": 5}}]}).status_code == 400
    too_many = {"commands": [None] * (MAX_COMMANDS + 1)}
    assert api.post("batch", too_many).status_code == 400


# --- at the start


def test_insecure_mode_is_said_aloud(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "lastcall")
    with serving(Lastcall(insecure=True)):
        pass
    with serving(Lastcall()):
        pass

    warnings = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert [line.partition(":")[0] for line in warnings] == ["LASTCALL_INSECURE IS ON"]


# --- its page


def test_page_lists_every_method(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]

    assert {f"/api/{name}" for name in (*METHODS, "batch")} <= set(paths)
    publish = paths["/api/publish"]["post"]
    fields = publish["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert fields["channel"] == {"type": "string", "default": ""}
    assert publish["security"] == [{"APIKeyHeader": []}]
    assert "$ref" not in json.dumps({path: paths[path] for path in paths if "/api/" in path})
