"""What this worker's clients want to hear, and the broker subscribed to just that."""

from collections.abc import Iterable, Sequence

import anyio

from lastcall.broker.base import Broker
from lastcall.errors import BrokerUnavailable
from lastcall.hub import Hub


class Interest:
    """Channels that somebody on this worker hears, or is about to."""

    def __init__(self, broker: Broker, hub: Hub) -> None:
        """Subscribe *hub* with *broker*."""
        self._broker = broker
        self._hub = hub

    async def listen(self, channels: Iterable[str]) -> None:
        """Make sure that the broker delivers *channels* to this worker; counted, so call in pairs.

        Raises:
            BrokerUnavailable: it does not; nothing is held.
        """
        channels = tuple(channels)
        for channel in channels:
            self._hub.retain(channel)
        # Once is enough: with a head, it is delivered here until the last has left.
        unheard = [channel for channel in channels if self._hub.head(channel) is None]
        try:
            if len(unheard) > 1:
                await self._subscribe_all(unheard)
            elif unheard:
                await self._subscribe(unheard[0])
        except BaseException:
            self.stop_listening(channels)
            raise

    async def _subscribe(self, channel: str) -> None:
        self._hub.subscribed(channel, await self._broker.subscribe(channel))

    async def _subscribe_all(self, channels: Sequence[str]) -> None:
        """Side by side: whoever brings a hundred channels waits as long as for one."""
        failures: list[BrokerUnavailable] = []

        async def subscribe(channel: str) -> None:
            try:
                await self._subscribe(channel)
            except BrokerUnavailable as error:
                failures.append(error)

        async with anyio.create_task_group() as tasks:
            for channel in channels:
                tasks.start_soon(subscribe, channel)
        if failures:
            raise failures[0]

    def stop_listening(self, channels: Iterable[str]) -> None:
        """Take `listen` back."""
        for channel in channels:
            if self._hub.release(channel):
                self._broker.unsubscribe(channel)
