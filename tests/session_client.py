"""A client of the Centrifuge protocol that shows each line, over Starlette's TestClient."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI
from starlette.testclient import TestClient, WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from lastcall import Lastcall

PATH = "/connection/websocket"


class SessionClient:
    """Speaks in lines, as the SDKs do."""

    def __init__(self, websocket: WebSocketTestSession) -> None:
        self._websocket = websocket
        self._lines: list[Any] = []
        self._last_id = 0
        self.id = ""

    def say(self, *lines: Any) -> None:
        """Send *lines* in one message; what is not a string as JSON."""
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        self._websocket.send_text("\n".join(texts))

    def hear(self) -> Any:
        """The next line."""
        while not self._lines:
            self._lines = [json.loads(line) for line in self._websocket.receive_text().split("\n")]
        return self._lines.pop(0)

    def ask(self, method: str, /, **fields: Any) -> Any:
        """The reply to a command; nothing else may come before it."""
        self._last_id += 1
        self.say({"id": self._last_id, method: fields})
        reply = self.hear()
        assert reply.pop("id") == self._last_id
        return reply.get(method, reply)

    def connect(self, **fields: Any) -> Any:
        """Connect, and return the result."""
        return self.ask("connect", **fields)

    def closed(self) -> tuple[int, str]:
        """The code and reason of the close that comes next."""
        try:
            line = self.hear()
        except WebSocketDisconnect as end:
            return end.code, end.reason
        raise AssertionError(f"not closed but told: {line}")


@contextmanager
def serving(lastcall: Lastcall) -> Iterator[TestClient]:
    """Run an application with nothing but *lastcall*."""
    app = FastAPI(lifespan=lastcall.lifespan)
    app.include_router(lastcall.router)
    with TestClient(app) as client:
        yield client


@contextmanager
def session(client: TestClient, path: str = PATH) -> Iterator[SessionClient]:
    """A client that has not said anything yet."""
    with client.websocket_connect(path) as websocket:
        yield SessionClient(websocket)


@contextmanager
def connected(client: TestClient, path: str = PATH) -> Iterator[SessionClient]:
    """A client that is connected, without a token."""
    with session(client, path) as speaker:
        assert speaker.connect()["client"]
        yield speaker
