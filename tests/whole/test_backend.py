"""A stand-alone server that asks a backend about its clients: real processes on both sides."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from anyio.to_thread import run_sync
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.sdk.node_client import node_sdk
from tests.sdk.python_client import python_sdk
from tests.sdk.story import PATIENCE, Sdk
from tests.server_process import ROOT, ServerProcess, free_port, run_server, wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.whole]

SECRET = "Bearer of-the-server"  # noqa: S105  (of these tests)
EVENTS = ("connect", "refresh", "subscribe", "publish", "rpc")
COMMAND = (sys.executable, "-m", "uvicorn", "tests.whole.backend_app:app")
SDKS = pytest.mark.parametrize("sdk", [python_sdk, node_sdk], ids=["python", "node"])


class BackendProcess:
    """A backend that can be stopped, and started again where it was."""

    def __init__(self) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [*COMMAND, "--port", str(self.port)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
        )
        wait_until(self._is_up, 30)

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(10)
            self._process = None

    def asked(self, event: str = "") -> list[Any]:
        return [each for each in self._ask()["asked"] if each["path"].endswith(event)]

    def most_at_once(self) -> int:
        return int(self._ask()["most"])

    def settings(self) -> dict[str, str]:
        return {f"proxy_{event}_url": f"http://127.0.0.1:{self.port}/{event}" for event in EVENTS}

    def _ask(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/asked", timeout=5) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def _is_up(self) -> bool:
        with contextlib.suppress(OSError):
            self._ask()
            return True
        return False


@pytest.fixture(scope="module")
def backend() -> Iterator[BackendProcess]:
    backend = BackendProcess()
    backend.start()
    try:
        yield backend
    finally:
        backend.stop()


ROOM = {
    "subscribe_proxy_enabled": True,
    "publish_proxy_enabled": True,
    "presence": True,
    "allow_presence_for_subscriber": True,
}


@contextlib.contextmanager
def serving(backend: BackendProcess, **settings: Any) -> Iterator[ServerProcess]:
    """The stand-alone server, which asks *backend* everything."""
    all_settings: dict[str, Any] = {
        **backend.settings(),
        "namespaces": json.dumps({"room": ROOM, "hall": {"allow_subscribe_for_client": True}}),
        "proxy_headers": "Cookie, X-Request-Id",
        "proxy_emulated_headers": "X-Device, X-Request-Id",
        "proxy_authorization": SECRET,
        "proxy_meta": "true",
        "proxy_timeout": "1s",
        "proxy_concurrency": 5,
        "expired_delay": 1,
        "heartbeat_interval": 0,
        "log_format": "json",
    }
    command = (sys.executable, "-m", "lastcall", "serve")
    with run_server(command=command, **{**all_settings, **settings}) as server:
        yield server


@pytest.fixture(scope="module")
def server(backend: BackendProcess) -> Iterator[ServerProcess]:
    with serving(backend) as server:
        yield server
        assert "Traceback" not in server.log
        assert SECRET not in server.log
        assert "secret-cookie" not in server.log


class Speaker:
    """A client that speaks in lines."""

    def __init__(self, websocket: ClientConnection) -> None:
        self._websocket = websocket
        self._lines: list[Any] = []
        self._last_id = 0

    def hear(self) -> Any:
        while not self._lines:
            text = self._websocket.recv(10)
            self._lines = [json.loads(line) for line in str(text).split("\n")]
        line = self._lines.pop(0)
        if line == {}:  # a ping
            self._websocket.send("{}")
            return self.hear()
        return line

    def say(self, method: str, /, **fields: Any) -> int:
        self._last_id += 1
        self._websocket.send(json.dumps({"id": self._last_id, method: fields}))
        return self._last_id

    def ask(self, method: str, /, **fields: Any) -> Any:
        number = self.say(method, **fields)
        while (reply := self.hear()).get("id") != number:
            pass
        return reply.get(method, reply)

    def closed(self) -> tuple[int, str]:
        with pytest.raises(ConnectionClosed) as end:
            self.hear()
        assert end.value.rcvd is not None
        return end.value.rcvd.code, end.value.rcvd.reason


@contextlib.contextmanager
def client(server: ServerProcess, **headers: str) -> Iterator[Speaker]:
    url = f"ws://127.0.0.1:{server.port}/connection/websocket"
    with connect(url, additional_headers=headers, proxy=None) as websocket:
        yield Speaker(websocket)


def test_backend_says_who_a_client_is(server: ServerProcess, backend: BackendProcess) -> None:
    with client(server, Cookie="id=secret-cookie", **{"X-Other": "no"}) as ann:
        result = ann.ask("connect", data="ann", headers={"X-Device": "phone", "Cookie": "made up"})
        assert result["data"] == {"hello": "ann"}
        assert result["subs"] == {"room:lobby": {}, "room:own": {"data": {"first": True}}}
        (info,) = ann.ask("presence", channel="room:own")["presence"].values()
        assert info == {"client": result["client"], "user": "ann", "conn_info": {"name": "ann"}}

        question = backend.asked("connect")[-1]
        assert question["body"] == {
            "client": result["client"],
            "transport": "websocket",
            "protocol": "json",
            "encoding": "json",
            "user": "",
            "data": "ann",
        }
        headers = question["headers"]
        assert headers["cookie"] == "id=secret-cookie"
        assert headers["x-device"] == "phone"
        assert headers["authorization"] == SECRET
        assert "x-other" not in headers


def test_clients_cannot_break_into_the_headers(
    server: ServerProcess, backend: BackendProcess
) -> None:
    evil = {"X-Device": "a\r\nX-Evil: 1", "Authorization": "mine", "x-request-id": "7"}
    with client(server) as ann:
        assert ann.ask("connect", data="ann", headers=evil)["client"]
    headers = backend.asked("connect")[-1]["headers"]
    assert not {"x-device", "x-evil"} & set(headers)
    assert headers["authorization"] == SECRET
    assert headers["x-request-id"] == "7"


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ("strange", {"code": 441, "message": "who are you?"}),
        ("broken", {"code": 100, "message": "internal server error", "temporary": True}),
        ("odd", {"code": 100, "message": "internal server error", "temporary": True}),
        ("endless", {"code": 100, "message": "internal server error", "temporary": True}),
        ("slow", {"code": 100, "message": "internal server error", "temporary": True}),
    ],
)
def test_client_that_is_not_let_in_is_told_why(
    server: ServerProcess, data: str, error: dict[str, Any]
) -> None:
    started = time.monotonic()
    with client(server) as stranger:
        assert stranger.ask("connect", data=data) == {"id": 1, "error": error}
    assert time.monotonic() - started < 10


def test_backend_sends_clients_away(server: ServerProcess) -> None:
    with client(server) as banned:
        banned.say("connect", data="banned")
        assert banned.closed() == (4501, "banned")
    with client(server) as nobody:
        nobody.say("connect")
        assert nobody.closed() == (3501, "bad request")


def test_backend_says_who_may_do_what(server: ServerProcess, backend: BackendProcess) -> None:
    with client(server) as ann:
        ann.ask("connect", data="ann")
        assert ann.ask("subscribe", channel="room:a", data={"from": 1}) == {"data": {"from": 1}}
        assert ann.ask("subscribe", channel="hall:a") == {}
        refusal = ann.ask("subscribe", channel="room:closed")
        assert refusal["error"] == {"code": 403, "message": "closed"}
        body = backend.asked("subscribe")[0]["body"]
        assert (body["user"], body["channel"], body["meta"]) == ("ann", "room:a", {"tenant": 7})
        assert {each["body"]["channel"] for each in backend.asked("subscribe")} == {
            "room:a",
            "room:closed",
        }

        number = ann.say("publish", channel="room:a", data="hello")
        lines = [ann.hear(), ann.hear()]
        assert {"id": number, "publish": {}} in lines
        (told,) = (line["push"]["pub"] for line in lines if "push" in line)
        assert (told["data"], told["tags"]) == ("HELLO", {"by": "ann"})
        assert ann.ask("publish", channel="hall:a", data="hello")["error"]["code"] == 103

        assert ann.ask("rpc", method="echo", data=[1, 2]) == {"data": {"echo": [1, 2]}}
        assert ann.ask("rpc", method="nothing", data=1) == {"data": None}


def test_backend_is_asked_when_the_time_is_over(
    server: ServerProcess, backend: BackendProcess
) -> None:
    with client(server) as brief:
        assert "expires" not in brief.ask("connect", data="brief")
        assert brief.closed() == (3005, "connection expired")
    assert [each["body"]["user"] for each in backend.asked("refresh")] == ["brief", "brief"]


def test_questions_at_once_are_bounded(server: ServerProcess, backend: BackendProcess) -> None:
    with contextlib.ExitStack() as stack:
        speakers = [stack.enter_context(client(server)) for _ in range(20)]
        for number, speaker in enumerate(speakers):
            speaker.say("connect", data=f"u{number}")
        for speaker in speakers:
            assert speaker.hear()["connect"]["client"]
        for speaker in speakers:
            speaker.say("subscribe", channel="room:slow")
        for speaker in speakers:
            assert "subscribe" in speaker.hear()
    assert 1 < backend.most_at_once() <= 5


def events_in(log: str, event: str) -> list[Any]:
    lines = (json.loads(line) for line in log.splitlines() if line.startswith("{"))
    return [line for line in lines if line["event"] == event]


@SDKS
async def test_sdk_comes_in_when_the_backend_is_back(sdk: Sdk) -> None:
    backend = BackendProcess()
    with serving(backend, proxy_connect_url="", allow_anonymous="true") as server:
        url = f"ws://127.0.0.1:{server.port}/connection/websocket"
        async with sdk(url) as speaker:
            await speaker.connect()
            await speaker.story.next("connected")
            await speaker.subscribe("room:a")
            # An error that is temporary: the SDK tries again by itself, and says nothing.
            await run_sync(
                wait_until, lambda: bool(events_in(server.log, "backend failed")), PATIENCE
            )
            assert "subscribed" not in speaker.story.names("room:a")
            await run_sync(backend.start)
            try:
                await speaker.story.next("subscribed", "room:a")
                assert await speaker.rpc("echo", 1) == {"echo": 1}
            finally:
                backend.stop()
        # Not one line for each question of each client.
        assert len(events_in(server.log, "backend failed")) <= 3
