"""What one client has heard in a fire, whatever it is made of."""

from collections import defaultdict
from typing import Any

from tests.light_client import LightClient
from tests.sdk.story import SdkClient


class Listener:
    """A client of an official SDK that hears one channel."""

    def __init__(self, name: str, client: SdkClient, channel: str) -> None:
        """Judge by what *client* tells."""
        self.channel = channel
        self._name = name
        self._client = client

    async def begin(self) -> None:
        """Connect and subscribe."""
        await self._client.connect()
        await self._client.story.next("connected")
        await self._client.subscribe(self.channel)
        await self._client.story.next("subscribed", self.channel)

    async def until_like(self, word: str) -> None:
        """Return when *word* was heard."""
        while word not in str((await self._client.story.next("publication", self.channel))["data"]):
            pass

    def heard(self) -> "Heard":
        """What became of it all."""
        offset, found = 0, Heard(self._client.story.names().count("connected") - 1)
        for event in self._client.story.events:
            match event.name, event.fields:
                case "subscribed", {"recovered": False, "stream_position": position, **told}:
                    found.gaps += bool(told["was_recovering"])
                    offset = position["offset"]
                case "publication", {"offset": came, "data": data}:
                    if came != offset + 1:
                        found.complaints.append(f"{self._name}: {came} came after {offset}")
                    offset = came
                    found.data[self.channel].append(data)
                case "disconnected" | "unsubscribed", fields:
                    found.complaints.append(f"{self._name}: {event.name}: {fields}")
        return found


class Heard:
    """What one client has heard, and how it was."""

    def __init__(self, returns: int) -> None:
        """It came back *returns* times."""
        self.returns = returns
        self.gaps = 0
        """How often it was told that it was not recovered."""
        self.complaints: list[str] = []
        """Offsets that came twice, out of order or after a gap that it was not told of."""
        self.data: dict[str, list[Any]] = defaultdict(list)

    @classmethod
    def of(cls, client: LightClient) -> "Heard":
        """What a light client has heard."""
        found = cls(client.connects - 1)
        found.gaps = sum(heard.gaps for heard in client.heard.values())
        found.complaints = client.complaints
        found.data.update({channel: heard.data for channel, heard in client.heard.items()})
        return found
