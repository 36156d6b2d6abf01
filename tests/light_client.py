"""A client of the Centrifuge protocol as light as it can be, which comes back as the SDKs do.

It notes what it heard of each channel, and complains about what must never happen: an offset
that comes twice, out of order, or after a gap of which it was not told.
"""

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

TERMINAL = range(3500, 4000)


@dataclass(slots=True)
class Heard:
    """What one client knows of one channel."""

    epoch: str = ""
    offset: int = 0
    data: list[Any] = field(default_factory=list)
    gaps: int = 0
    """How often it was told that publications are gone."""


class Stories:
    """What a whole crowd was told: the same by the same offset, or somebody was told wrong."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str, int], Any] = {}
        self._places: dict[tuple[str, Any], tuple[str, int]] = {}

    def tell(self, channel: str, epoch: str, offset: int, data: Any) -> Any:
        """What was told first at that place."""
        known = self._told.setdefault((channel, epoch, offset), data)
        if known is data:
            self._places[channel, data] = (epoch, offset)
        return known

    def place(self, channel: str, data: Any) -> tuple[str, int] | None:
        """Where *data* was told last; None if nobody has heard it."""
        return self._places.get((channel, data))

    def __len__(self) -> int:
        """How many publications there were."""
        return len(self._told)


class LightClient:
    """Stays connected until it is stopped."""

    def __init__(
        self, url: str, channels: list[str], seed: int, stories: Stories | None = None
    ) -> None:
        self.heard = {channel: Heard() for channel in channels}
        self.complaints: list[str] = []
        self.attempts = 0
        self.connects = 0
        self.acknowledged: list[tuple[str, Any]] = []
        self._stories = stories
        self._url = url
        self._chance = random.Random(seed)  # noqa: S311  (a schedule, not a secret)
        self._websocket: ClientConnection | None = None
        self._asked: dict[int, tuple[str, Any]] = {}
        self._id = 0
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Connect again and again, with the delays of the SDKs."""
        attempt = 0
        while True:
            self.attempts += 1
            with contextlib.suppress(OSError, TimeoutError, InvalidHandshake, ConnectionClosed):
                async with connect(self._url, compression=None, ping_interval=None) as websocket:
                    await self._begin(websocket)
                    attempt = 0
                    await self._listen(websocket)
            self._websocket = None
            self._asked.clear()
            await asyncio.sleep(0.1 + self._chance.uniform(0, min(2.0, 0.1 * 2**attempt)))
            attempt += 1

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run until the block is left."""
        task = asyncio.create_task(self.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def go_to(self, url: str) -> None:
        """Come back to *url* after the next cut, as a balancer would have it."""
        self._url = url

    @property
    def is_connected(self) -> bool:
        """Whether it can publish now."""
        return self._websocket is not None

    async def publish(self, channel: str, data: Any) -> None:
        """Send it; whether it was stored shows in `acknowledged`."""
        if self._websocket is None:
            return
        with contextlib.suppress(ConnectionClosed):
            number = self._next_id()
            self._asked[number] = (channel, data)
            await self._say(
                self._websocket, {"id": number, "publish": {"channel": channel, "data": data}}
            )

    async def until_subscribed(self) -> None:
        """Return when it hears all its channels."""
        while not all(heard.epoch for heard in self.heard.values()):
            await self._news.wait()
            self._news.clear()

    async def until_like(self, channel: str, text: str) -> None:
        """Return when something with *text* in it was heard in *channel*."""
        while not self.has_heard(channel, text):
            await self._news.wait()
            self._news.clear()

    def has_heard(self, channel: str, text: str) -> bool:
        """Whether something with *text* in it was heard in *channel*."""
        return any(text in str(data) for data in reversed(self.heard[channel].data))

    async def _begin(self, websocket: ClientConnection) -> None:
        await self._say(websocket, {"id": self._next_id(), "connect": {}})
        for channel in self.heard:
            await self._subscribe(websocket, channel)

    async def _subscribe(self, websocket: ClientConnection, channel: str) -> None:
        heard = self.heard[channel]
        wish: dict[str, Any] = {"channel": channel}
        if heard.epoch:
            wish |= {"recover": True, "epoch": heard.epoch, "offset": heard.offset}
        number = self._next_id()
        self._asked[number] = (channel, None)
        await self._say(websocket, {"id": number, "subscribe": wish})

    async def _listen(self, websocket: ClientConnection) -> None:
        async for message in websocket:
            for line in str(message).split("\n"):
                await self._take(websocket, json.loads(line))
        if (websocket.close_code or 0) in TERMINAL:
            self.complaints.append(f"closed for good: {websocket.close_code}")

    async def _take(self, websocket: ClientConnection, line: dict[str, Any]) -> None:
        if not line:
            await self._say(websocket, {})
        elif "push" in line:
            push = line["push"]
            if "pub" in push:
                self._note(push["channel"], push["pub"])
            elif "unsubscribe" in push:
                await self._subscribe(websocket, push["channel"])
        elif "error" in line:
            await self._refused(websocket, line)
        elif "connect" in line:
            self.connects += 1
            self._websocket = websocket
        elif "subscribe" in line:
            self._subscribed(*self._asked.pop(line["id"])[:1], line["subscribe"])
        elif "publish" in line:
            self.acknowledged.append(self._asked.pop(line["id"]))

    async def _refused(self, websocket: ClientConnection, line: dict[str, Any]) -> None:
        _, data = self._asked.pop(line["id"], (None, None))
        if not line["error"].get("temporary"):
            self.complaints.append(f"an error: {line}")
        if data is None:
            # What was not published is the publisher's concern; what a client needs in order to
            # hear is tried again, by coming back.
            await websocket.close()

    def _subscribed(self, channel: str, result: dict[str, Any]) -> None:
        heard = self.heard[channel]
        if result.get("recovered"):
            for publication in result.get("publications", []):
                self._note(channel, publication)
            return
        heard.gaps += bool(heard.epoch)
        heard.epoch, heard.offset = result["epoch"], result.get("offset", 0)
        self._news.set()

    def _note(self, channel: str, publication: dict[str, Any]) -> None:
        heard = self.heard[channel]
        if publication["offset"] != heard.offset + 1:
            self.complaints.append(
                f"{channel}: {publication['offset']} came after {heard.offset}: {publication}"
            )
        heard.offset = publication["offset"]
        data = publication["data"]
        if self._stories is not None:
            data = self._stories.tell(channel, heard.epoch, heard.offset, data)
            if data != publication["data"]:
                self.complaints.append(f"{channel}: others heard {data} instead of {publication}")
        heard.data.append(data)
        self._news.set()

    async def _say(self, websocket: ClientConnection, line: dict[str, Any]) -> None:
        await websocket.send(json.dumps(line))

    def _next_id(self) -> int:
        self._id += 1
        return self._id
