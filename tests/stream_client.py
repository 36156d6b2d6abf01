"""Clients that read streams, over real sockets: a server in the loop of the test."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx
from fastapi import FastAPI

from lastcall import Lastcall
from tests.uvicorn_host import Host, hosting

PATIENCE = 10.0
EVENT_STREAMS = ("sse", "uni_sse")


@dataclass(slots=True)
class Event:
    """One event of a stream, or one line."""

    data: Any = None
    id: str | None = None
    retry: int | None = None


class StreamClient:
    """Reads a stream, and speaks by requests."""

    def __init__(
        self, http: httpx.AsyncClient, response: httpx.Response, *, reads_events: bool
    ) -> None:
        """Read *response*."""
        self.response = response
        self.session: dict[str, str] = {}
        self.last_event_id = ""
        self._http = http
        self._lines = response.aiter_lines()
        self._reads_events = reads_events
        self._last_id = 1

    async def event(self) -> Event:
        """The next event that says anything."""
        with anyio.fail_after(PATIENCE):
            if not self._reads_events:
                return Event(json.loads(await anext(self._lines)))
            event = Event()
            async for line in self._lines:
                name, _, value = line.partition(": ")
                match name:
                    case "data":
                        event.data = json.loads(value)
                    case "id" | "id:":
                        event.id = self.last_event_id = value
                    case "retry":
                        event.retry = int(value)
                    case _:
                        assert line == ""
                        if event != Event():
                            return event
            raise EOFError

    async def hear(self) -> Any:
        """The next thing that is said; a ping, which comes at a random moment, says nothing."""
        while not (event := await self.event()).data:
            pass
        return event.data

    async def hear_ping(self) -> None:
        """A ping, and nothing before it."""
        while (event := await self.event()).data is None:
            pass
        assert event.data == {}, event

    async def connected(self) -> Any:
        """The result of the connect."""
        told = await self.hear()
        assert "connect" in told, told
        result = told["connect"]
        self.session = {name: result[name] for name in ("session", "node") if name in result}
        return result

    async def say(self, *lines: Any, **session: str) -> int:
        """Send *lines* in one request; its status."""
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        body = {**self.session, **session, "data": "\n".join(texts)}
        return (await self._http.post("/emulation", json=body)).status_code

    async def ask(self, method: str, /, **fields: Any) -> Any:
        """The reply to a command; nothing else may come before it."""
        self._last_id += 1
        assert await self.say({"id": self._last_id, method: fields}) == 204
        reply = await self.hear()
        assert reply.pop("id", None) == self._last_id, reply
        return reply.get(method, reply)

    async def is_over(self) -> bool:
        """Whether the stream ends here."""
        with anyio.fail_after(PATIENCE):
            return [line async for line in self._lines if line] == []


@dataclass(slots=True)
class StreamServer:
    """A server with nothing but *lastcall*, and a client of HTTP."""

    lastcall: Lastcall
    host: Host
    http: httpx.AsyncClient
    headers: dict[str, str] = field(default_factory=dict)

    @asynccontextmanager
    async def open(
        self, transport: str, connect: Any, path: str = "", **headers: str
    ) -> AsyncIterator[StreamClient]:
        """A client that has said *connect*: fields, or bytes as they are."""
        path = path or f"/connection/{transport}"
        is_uni, reads_events = transport.startswith("uni"), transport in EVENT_STREAMS
        wrapped = connect if is_uni else {"id": 1, "connect": connect}
        first = connect if isinstance(connect, bytes) else json.dumps(wrapped).encode()
        request = (
            self.http.build_request(
                "GET", path, params={"cf_connect": first.decode()}, headers=headers
            )
            if reads_events
            else self.http.build_request("POST", path, content=first, headers=headers)
        )
        response = await self.http.send(request, stream=True)
        try:
            yield StreamClient(self.http, response, reads_events=reads_events)
        finally:
            await response.aclose()


@asynccontextmanager
async def streaming(lastcall: Lastcall, app: FastAPI | None = None) -> AsyncIterator[StreamServer]:
    """Run *lastcall* in the loop of the test."""
    app = app or FastAPI()
    app.include_router(lastcall.router)
    async with lastcall.run(app), hosting(app) as host:
        url = f"http://127.0.0.1:{host.port}"
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as http:
            yield StreamServer(lastcall, host, http)


async def stream_works(port: int) -> None:
    """Open a stream at *port*, and speak: each request may come to another server there."""
    connect = {"id": 1, "connect": {}}
    async with (
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as http,
        http.stream("POST", "/connection/http_stream", json=connect) as response,
    ):
        client = StreamClient(http, response, reads_events=False)
        await client.connected()
        assert (await client.ask("rpc", method="none"))["error"]["code"] == 108
