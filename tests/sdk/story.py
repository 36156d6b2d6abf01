"""What an SDK has reported, in order, in the one shape that both SDKs are brought to."""

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

PATIENCE = 20.0
"""Seconds that anything may take on a busy machine before a test gives up."""

RECONNECT_DELAY = 0.05
"""Seconds, the least: by default the SDKs take their time, and the tests would too."""
LONGEST_RECONNECT_DELAY = 0.2


@dataclass(frozen=True, slots=True)
class Event:
    """One event of the SDK, or its wish for a token (`token wanted`)."""

    name: str
    channel: str
    """Empty: it is about the connection."""
    fields: dict[str, Any]


class SdkError(Exception):
    """A call that the SDK says has failed."""

    def __init__(self, code: int, message: str) -> None:
        """Take what the SDK says of it."""
        super().__init__(code, message)
        self.code = code
        self.message = message


class Story:
    """The events of one client. Each is taken once; all stay in `events`."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.events: list[Event] = []
        self._fresh: list[Event] = []
        self._news = asyncio.Event()

    def add(self, event: Event) -> None:
        """Tell what has happened."""
        self.events.append(event)
        self._fresh.append(event)
        self._news.set()

    async def next(self, name: str, channel: str = "") -> dict[str, Any]:
        """Take the oldest event of this kind, once it is there; the fields."""
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    for event in self._fresh:
                        if (event.name, event.channel) == (name, channel):
                            self._fresh.remove(event)
                            return event.fields
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"no {name!r} of {channel!r} in {self.events}") from None

    def names(self, channel: str = "") -> list[str]:
        """What has happened so far, without the particulars."""
        return [event.name for event in self.events if event.channel == channel]

    def all(self, name: str, channel: str) -> list[dict[str, Any]]:
        """Every event of this kind so far, taken or not."""
        return [
            event.fields for event in self.events if (event.name, event.channel) == (name, channel)
        ]


class SdkClient(Protocol):
    """A client of an official SDK. Fields and results have the names of the wire format."""

    story: Story

    def give(self, token: str) -> None:
        """Answer all wishes for a token that are open."""
        ...

    async def connect(self) -> None:
        """Begin to connect; the story tells of the rest."""
        ...

    async def disconnect(self) -> None:
        """Leave, until `connect` is called again."""
        ...

    async def subscribe(
        self,
        channel: str,
        *,
        token: str = "",
        asks_for_tokens: bool = False,
        delta: str = "",
        **options: bool,
    ) -> None:
        """Begin to subscribe, with the options of the first time if there was one."""
        ...

    async def unsubscribe(self, channel: str) -> None:
        """Hear a channel no more."""
        ...

    async def publish(self, channel: str, data: Any) -> None:
        """Publish.

        Raises:
            SdkError: like every call from here on.
        """
        ...

    async def history(
        self,
        channel: str,
        *,
        limit: int = 0,
        since: tuple[int, str] | None = None,
        reverse: bool = False,
    ) -> dict[str, Any]:
        """`publications`, `offset`, `epoch`."""
        ...

    async def presence(self, channel: str) -> dict[str, dict[str, Any]]:
        """Who is there, by client."""
        ...

    async def presence_stats(self, channel: str) -> tuple[int, int]:
        """How many clients, and how many users."""
        ...

    async def rpc(self, method: str, data: Any = None) -> Any:
        """What the application answers."""
        ...


class Sdk(Protocol):
    """Makes clients, which are ended with the block."""

    def __call__(
        self, url: str, *, token: str = "", asks_for_tokens: bool = False
    ) -> AbstractAsyncContextManager[SdkClient]:
        """Make a client that has not connected yet."""
        ...
