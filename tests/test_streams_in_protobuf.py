"""Streams to SDKs in their Protobuf mode, read with the classes of Google's compiler."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import centrifuge.protocol.client_pb2 as compiled
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict

from lastcall import Lastcall
from lastcall.channel_options import ChannelOptions
from lastcall.protocol.protobuf_wire import delimited, messages_in
from tests.stream_client import PATIENCE, StreamServer, streaming

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("run_dir")]

# What is in it is made when it is imported: no checker of types can know.
schema: Any = compiled
STREAM = "/connection/http_stream"
BINARY = {"content-type": "application/octet-stream"}
ROOM = ChannelOptions(history_size=10, force_recovery=True)


def command(**fields: Any) -> bytes:
    encoded: bytes = ParseDict(fields, schema.Command()).SerializeToString()
    return delimited(encoded)


class Reader:
    """Reads replies, and speaks by requests."""

    def __init__(self, server: StreamServer, response: Any) -> None:
        self.type: str = response.headers["content-type"]
        self.session: dict[str, str] = {}
        self._server = server
        self._chunks = response.aiter_bytes()
        self._heard: list[bytes] = []

    async def hear(self) -> dict[str, Any]:
        """The next reply; one that is empty is a ping, and says nothing."""
        with anyio.fail_after(PATIENCE):
            while True:
                while self._heard:
                    if data := self._heard.pop(0):
                        reply = schema.Reply.FromString(data)
                        said: dict[str, Any]
                        said = MessageToDict(reply, preserving_proto_field_name=True)
                        return said
                self._heard = list(messages_in(await anext(self._chunks)))

    async def connected(self) -> dict[str, Any]:
        result: dict[str, Any] = (await self.hear())["connect"]
        self.session = {name: result[name] for name in ("session", "node")}
        return result

    async def say(self, data: bytes, **session: str) -> int:
        request = schema.EmulationRequest(data=data, **self.session | session)
        return await self.post(request.SerializeToString())

    async def post(self, body: bytes) -> int:
        response = await self._server.http.post("/emulation", content=body, headers=BINARY)
        return response.status_code


@asynccontextmanager
async def opened(
    server: StreamServer, first: bytes | None = None, content_type: str = BINARY["content-type"]
) -> AsyncIterator[Reader]:
    said = command(id=1, connect={}) if first is None else first
    headers = {"content-type": content_type}
    async with server.http.stream("POST", STREAM, content=said, headers=headers) as response:
        yield Reader(server, response)


@pytest.fixture
def lastcall() -> Lastcall:
    return Lastcall(insecure=True, namespaces={"room": ROOM}, max_message_size=4000)


async def test_a_client_is_answered_down_its_stream(lastcall: Lastcall) -> None:
    async with streaming(lastcall) as server, opened(server) as client:
        assert client.type == "application/octet-stream"
        assert (await client.connected())["pong"] is True
        assert await client.say(command(id=2, subscribe={"channel": "room:a"})) == 204
        assert (await client.hear())["subscribe"]["recoverable"] is True
        lastcall.publish("room:a", b"\0\xff")
        published = (await client.hear())["push"]["pub"]
        assert (published["data"], published["offset"]) == ("AP8=", "1")
        both = command(id=3, rpc={"method": "none"}) + command(id=4, presence={"channel": "room:a"})
        assert await client.say(both) == 204
        assert [(await client.hear())["error"]["code"] for _ in range(2)] == [108, 108]


async def test_the_connect_may_come_with_other_commands(lastcall: Lastcall) -> None:
    first = command(id=1, connect={}) + command(id=2, subscribe={"channel": "room:a"})
    async with streaming(lastcall) as server, opened(server, first) as client:
        await client.connected()
        assert (await client.hear())["id"] == 2


async def test_the_type_may_have_parameters(lastcall: Lastcall) -> None:
    kind = "Application/Octet-Stream; charset=binary"
    async with streaming(lastcall) as server, opened(server, content_type=kind) as client:
        await client.connected()


@pytest.mark.parametrize("first", [b"nonsense", b'{"id":1,"connect":{}}', b"\xff"])
async def test_what_is_no_protobuf_ends_it_in_words_of_protobuf(
    lastcall: Lastcall, first: bytes
) -> None:
    async with streaming(lastcall) as server, opened(server, first) as client:
        end = {"disconnect": {"code": 3501, "reason": "bad request"}}
        assert await client.hear() == {"push": end}


async def test_what_is_said_has_to_be_of_a_client(lastcall: Lastcall) -> None:
    rpc = command(id=2, rpc={"method": "none"})
    async with streaming(lastcall) as server, opened(server) as client:
        await client.connected()
        assert await client.say(rpc, node="another") == 404
        assert await client.say(rpc, session="guessed") == 204
        assert await client.post(b"\xff") == 400
        assert await client.post(b"\x08\x01") == 400  # a number where the name of a worker is
        assert await client.post(4001 * b"\0") == 413
        assert await client.say(rpc) == 204
        assert (await client.hear())["error"]["code"] == 108


async def test_who_reads_protobuf_says_no_json(lastcall: Lastcall) -> None:
    async with streaming(lastcall) as server, opened(server) as client:
        await client.connected()
        body = json.dumps({**client.session, "data": '{"id":2,"rpc":{"method":"none"}}'})
        assert (await server.http.post("/emulation", content=body)).status_code == 204
        end = {"disconnect": {"code": 3501, "reason": "bad request"}}
        assert await client.hear() == {"push": end}


async def test_a_worker_that_is_full_asks_to_come_back() -> None:
    lastcall = Lastcall(insecure=True, max_connections=1)
    async with (
        streaming(lastcall) as server,
        opened(server) as first,
        opened(server) as second,
    ):
        await first.connected()
        error = {"code": 111, "message": "too many requests", "temporary": True}
        assert await second.hear() == {"id": 1, "error": error}
        end = {"disconnect": {"code": 3013, "reason": "too many requests"}}
        assert await second.hear() == {"push": end}
