"""`centrifuge` from npm, in a process of its own under node; `driver.mjs` is its other end."""

import asyncio
import json
import os
import shutil
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.sdk.story import (
    LONGEST_RECONNECT_DELAY,
    PATIENCE,
    RECONNECT_DELAY,
    Event,
    Sdk,
    SdkClient,
    SdkError,
    Story,
)

FOLDER = Path(__file__).parent
LINE_LIMIT = 2**22
"""Bytes in one line of the driver's."""


def node() -> str:
    """Node's command; without it or its packages the test is skipped, or fails where CI is set."""
    found = shutil.which("node")
    if found and (FOLDER / "node_modules" / "centrifuge").exists():
        return found
    missing = "the JavaScript SDK is missing: run `scripts/install sdk` (needs node and npm)"
    if os.environ.get("CI"):
        pytest.fail(missing, pytrace=False)
    pytest.skip(missing)


class NodeClient:
    """See `SdkClient`."""

    def __init__(self, process: Process) -> None:
        self.story = Story()
        self._process = process
        self._numbers = count(1)
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._reader = asyncio.create_task(self._read())

    def give(self, token: str) -> None:
        self._write({"give": token})

    async def connect(self) -> None:
        await self._call("connect")

    async def disconnect(self) -> None:
        await self._call("disconnect")

    async def subscribe(
        self,
        channel: str,
        *,
        token: str = "",
        asks_for_tokens: bool = False,
        delta: str = "",
        **options: bool,
    ) -> None:
        named: dict[str, Any] = {_camel_case(name): value for name, value in options.items()}
        if delta:
            named["delta"] = delta
        await self._call(
            "subscribe",
            channel=channel,
            asks=asks_for_tokens,
            options={"token": token, "minResubscribeDelay": RECONNECT_DELAY * 1000, **named},
        )

    async def unsubscribe(self, channel: str) -> None:
        await self._call("unsubscribe", channel=channel)

    async def publish(self, channel: str, data: Any) -> None:
        await self._call("publish", channel=channel, data=data)

    async def history(
        self,
        channel: str,
        *,
        limit: int = 0,
        since: tuple[int, str] | None = None,
        reverse: bool = False,
    ) -> dict[str, Any]:
        position = {} if since is None else {"since": {"offset": since[0], "epoch": since[1]}}
        page: dict[str, Any] = await self._call(
            "history", channel=channel, options={"limit": limit, "reverse": reverse, **position}
        )
        return page

    async def presence(self, channel: str) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = (await self._call("presence", channel=channel))[
            "clients"
        ]
        return found

    async def presence_stats(self, channel: str) -> tuple[int, int]:
        stats = await self._call("presenceStats", channel=channel)
        return stats["num_clients"], stats["num_users"]

    async def rpc(self, method: str, data: Any = None) -> Any:
        return (await self._call("rpc", method=method, data=data))["data"]

    async def deltas(self, channel: str) -> int:
        """How many publications came as deltas; only this SDK counts them."""
        count: int = (await self._call("deltaStats", channel=channel))["num_delta_payloads"]
        return count

    async def send(self, data: Any) -> None:
        """A message without an answer: only this SDK has them."""
        await self._call("send", data=data)

    def freeze(self) -> None:
        """Stop it where it is, like a laptop that is shut."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    async def end(self) -> None:
        """Leave for good."""
        self.thaw()
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), PATIENCE)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._reader

    async def _call(self, what: str, **arguments: Any) -> Any:
        number = next(self._numbers)
        answer = self._calls[number] = asyncio.get_running_loop().create_future()
        self._write({"call": number, "do": what, **arguments})
        reply = await asyncio.wait_for(answer, PATIENCE)
        if "error" in reply:
            raise SdkError(reply["error"]["code"], reply["error"]["message"])
        return reply.get("result")

    def _write(self, line: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(line).encode() + b"\n")

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for text in self._process.stdout:
            line = json.loads(text)
            if "on" in line:
                self.story.add(Event(line["on"], line["channel"], line["fields"]))
            else:
                self._calls.pop(line["call"]).set_result(line)


def _camel_case(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


@asynccontextmanager
async def node_sdk(
    url: str,
    *,
    token: str = "",
    asks_for_tokens: bool = False,
    transport: str = "",
    requests_anew: bool = False,
    use_protobuf: bool = False,
) -> AsyncIterator[NodeClient]:
    """See `Sdk`; with a *transport* that takes the place of the WebSocket at *url*.

    With *requests_anew* every request has a connection of its own.
    """
    parts = urlsplit(url)
    base = f"http://{parts.netloc}"
    path = f"{parts.path.removesuffix('/websocket')}/{transport}"
    options = {
        "token": token,
        "emulationEndpoint": f"{base}/emulation",
        "timeout": PATIENCE * 1000,
        "minReconnectDelay": RECONNECT_DELAY * 1000,
        "maxReconnectDelay": LONGEST_RECONNECT_DELAY * 1000,
    }
    endpoint = [{"transport": transport, "endpoint": base + path}] if transport else url
    asked = {"asks": asks_for_tokens, "anew": requests_anew, "binary": use_protobuf}
    line = json.dumps({"endpoint": endpoint, "options": options, **asked})
    process = await asyncio.create_subprocess_exec(
        node(), FOLDER / "driver.mjs", line, stdin=PIPE, stdout=PIPE, limit=LINE_LIMIT
    )
    client = NodeClient(process)
    try:
        yield client
    finally:
        await client.end()


node_protobuf_sdk = partial(node_sdk, use_protobuf=True)
sse_sdk = partial(node_sdk, transport="sse")
http_stream_sdk = partial(node_sdk, transport="http_stream")
http_stream_protobuf_sdk = partial(node_sdk, transport="http_stream", use_protobuf=True)


if TYPE_CHECKING:
    _: Sdk = node_sdk
    __: type[SdkClient] = NodeClient
