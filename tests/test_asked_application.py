"""What the application answers when it is asked about a client, and what follows from it."""

import time
from collections.abc import Iterator

import msgspec
import pytest
from fastapi import FastAPI, WebSocket
from starlette.testclient import TestClient

from lastcall import Connection, Edited, Identity, Lastcall, Permit, Refused
from lastcall.channel_options import ChannelOptions, Override, Switch
from lastcall.errors import ClosedByApplication
from lastcall.tokens import make_token
from tests.session_client import SessionClient, connected, serving, session
from tests.test_session_tokens import Clock

pytestmark = pytest.mark.usefixtures("run_dir")

SECRET = "a secret of more than thirty-two bytes"  # noqa: S105  (of this test)
NIGHT = ClosedByApplication(4001, "not at night")
SEEN = ChannelOptions(presence=True, allow_presence_for_subscriber=True)


def soon(seconds: float = 3600) -> int:
    return int(time.time() + seconds)


@pytest.fixture
def lastcall() -> Lastcall:
    lastcall = Lastcall(
        token_secret=SECRET,
        namespaces={"room": SEEN},
        ping_interval=100_000,
        expired_delay=0,
    )

    @lastcall.on_authenticate
    async def who(_connection: Connection, data: str) -> Identity | None:
        name = msgspec.json.decode(data)
        if name == "sleepy":
            raise NIGHT
        if name == "strange":
            raise Refused(441, "who are you?")
        if name != "ann":
            return None
        return Identity(
            user="ann",
            info={"name": "Ann"},
            data={"hello": "Ann"},
            channels={"room:own": Permit(info={"seat": 1}, data={"first": True})},
        )

    return lastcall


@pytest.fixture
def client(lastcall: Lastcall) -> Iterator[TestClient]:
    with serving(lastcall) as client:
        yield client


def test_application_says_who_a_client_is(client: TestClient) -> None:
    with session(client) as speaker:
        result = speaker.connect(data="ann")
        assert result["data"] == {"hello": "Ann"}
        assert result["subs"] == {"room:own": {"data": {"first": True}}}
        assert speaker.ask("presence", channel="room:own")["presence"] == {
            result["client"]: {
                "client": result["client"],
                "user": "ann",
                "conn_info": {"name": "Ann"},
                "chan_info": {"seat": 1},
            }
        }


@pytest.mark.parametrize(
    ("data", "close"), [("sleepy", (4001, "not at night")), ("bob", (3501, "bad request"))]
)
def test_application_sends_clients_away(
    client: TestClient, data: str, close: tuple[int, str]
) -> None:
    with session(client) as speaker:
        speaker.say({"id": 1, "connect": {"data": data}})
        assert speaker.closed() == close


def test_application_refuses_clients(client: TestClient) -> None:
    with session(client) as speaker:
        assert speaker.connect(data="strange") == {
            "error": {"code": 441, "message": "who are you?"}
        }


def test_token_is_not_asked_about(client: TestClient) -> None:
    with session(client) as speaker:
        token = make_token(SECRET, {"sub": "tim"})
        assert "data" not in speaker.connect(token=token, data="sleepy")


def test_endpoint_that_knows_the_user_is_not_asked_about(lastcall: Lastcall) -> None:
    app = FastAPI(lifespan=lastcall.lifespan)

    @app.websocket("/mine")
    async def mine(websocket: WebSocket) -> None:
        await lastcall.attach(websocket, user="tim", protocol="centrifuge-json")

    with TestClient(app) as client, session(client, "/mine") as speaker:
        assert "data" not in speaker.connect(data="sleepy")


def test_who_is_nobody_may_be_anonymous() -> None:
    lastcall = Lastcall(allow_anonymous=True)
    asked: list[str] = []
    lastcall.on_authenticate(lambda _connection, data: asked.append(data))
    with serving(lastcall) as client, connected(client):
        assert asked == ["null"]


class Landlord:
    """Says who may stay."""

    def __init__(self) -> None:
        self.answer: Identity | Exception | None = None
        self.asked: list[str | None] = []

    def __call__(self, connection: Connection) -> Identity | None:
        self.asked.append(connection.user)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def landlord(lastcall: Lastcall) -> Landlord:
    landlord = Landlord()
    lastcall.on_refresh(landlord)
    return landlord


@pytest.fixture
def tenant(client: TestClient, landlord: Landlord) -> Iterator[SessionClient]:
    """A client whose time is over in two seconds."""
    assert not landlord.asked
    with session(client) as speaker:
        result = speaker.connect(token=make_token(SECRET, {"sub": "ann", "exp": soon(2)}))
        # It is not for the client to bring a fresh token.
        assert not {"expires", "ttl"} & set(result)
        yield speaker


def is_served(speaker: SessionClient) -> bool:
    return bool(speaker.ask("unsubscribe", channel="room:never") == {})


def test_application_lets_a_client_stay(
    lastcall: Lastcall, client: TestClient, landlord: Landlord, tenant: SessionClient
) -> None:
    landlord.answer = Identity(user="ann", expire_at=soon(600), info={"name": "Anna"}, meta=1)
    clock = Clock(lastcall)
    clock.pass_seconds(client, 4)
    assert is_served(tenant)
    clock.pass_seconds(client, 500)
    assert is_served(tenant)
    assert landlord.asked == ["ann"]

    landlord.answer = Identity(user="ann")
    clock.pass_seconds(client, 100)
    clock.pass_seconds(client, 100_000)
    assert tenant.hear() == {}
    assert landlord.asked == ["ann", "ann"]


@pytest.mark.parametrize(
    "ending",
    [
        (None, (3005, "connection expired")),
        (Identity(user="bob"), (3005, "connection expired")),
        (Identity(user="ann", expire_at=1), (3005, "connection expired")),
        (NIGHT, (4001, "not at night")),
    ],
)
def test_application_lets_a_client_go(
    lastcall: Lastcall,
    client: TestClient,
    landlord: Landlord,
    tenant: SessionClient,
    ending: tuple[Identity | Exception | None, tuple[int, str]],
) -> None:
    landlord.answer, close = ending
    Clock(lastcall).pass_seconds(client, 4)
    assert tenant.closed() == close


def test_application_that_fails_is_asked_again_in_a_minute(
    lastcall: Lastcall, client: TestClient, landlord: Landlord, tenant: SessionClient
) -> None:
    landlord.answer = RuntimeError("broken on purpose")
    clock = Clock(lastcall)
    clock.pass_seconds(client, 4)
    assert is_served(tenant)
    clock.pass_seconds(client, 40)
    assert is_served(tenant)
    assert len(landlord.asked) == 1

    landlord.answer = None
    clock.pass_seconds(client, 30)
    assert tenant.closed() == (3005, "connection expired")


def test_client_that_is_asked_about_brings_no_token(tenant: SessionClient) -> None:
    tenant.say({"id": 9, "refresh": {"token": make_token(SECRET, {"sub": "ann"})}})
    assert tenant.closed() == (3501, "bad request")


def test_application_says_what_goes_with_a_subscription(
    lastcall: Lastcall, client: TestClient
) -> None:
    @lastcall.on_subscribe("room:*")
    def may_enter(_connection: Connection, channel: str) -> Permit | bool:
        if channel.endswith("closed"):
            return False
        no_presence = Override(presence=Switch(value=False))
        return Permit(
            info={"seat": 4},
            data={"welcome": channel},
            expire_at=soon(60),
            override=no_presence if channel.endswith("dark") else Override(),
        )

    with session(client) as speaker:
        speaker.connect(data="ann")
        result = speaker.ask("subscribe", channel="room:a")
        assert result["data"] == {"welcome": "room:a"}
        assert result["expires"]
        assert 50 < result["ttl"] <= 60
        (info,) = speaker.ask("presence", channel="room:a")["presence"].values()
        assert info["chan_info"] == {"seat": 4}
        speaker.ask("subscribe", channel="room:dark")
        assert speaker.ask("presence", channel="room:dark")["presence"] == {}
        assert speaker.ask("subscribe", channel="room:closed")["error"]["code"] == 103


def test_application_edits_what_is_published(lastcall: Lastcall, client: TestClient) -> None:
    lastcall.on_subscribe("room:*")(lambda _connection, _channel: True)

    @lastcall.on_publish("room:*")
    def edit(_connection: Connection, channel: str, data: str) -> Edited:
        if channel.endswith("same"):
            return Edited(idempotency_key="one", data=msgspec.Raw(b"[1,\n 2]"))
        return Edited(data={"said": msgspec.json.decode(data)}, tags={"by": "ann"})

    with session(client) as speaker:
        speaker.connect(data="ann")
        for channel in ("room:a", "room:same"):
            speaker.ask("subscribe", channel=channel)
        speaker.say({"id": 20, "publish": {"channel": "room:a", "data": "hi"}})
        lines = [speaker.hear(), speaker.hear()]
        assert {"id": 20, "publish": {}} in lines
        (told,) = (line["push"]["pub"] for line in lines if "push" in line)
        assert told["data"] == {"said": "hi"}
        assert told["tags"] == {"by": "ann"}
        assert told["info"]["user"] == "ann"

        for _ in range(2):
            speaker.say({"id": 21, "publish": {"channel": "room:same", "data": 1}})
        lines = [speaker.hear() for _ in range(3)]
        assert [line["push"]["pub"]["data"] for line in lines if "push" in line] == [[1, 2]]


def test_none_is_an_answer_to_a_call(lastcall: Lastcall, client: TestClient) -> None:
    lastcall.on_rpc("nothing")(lambda _connection, _data: None)
    with session(client) as speaker:
        speaker.connect(data="ann")
        assert speaker.ask("rpc", method="nothing") == {"data": None}
        assert speaker.ask("rpc", method="else")["error"]["code"] == 104
