"""What this worker's clients want to hear, and the broker subscribed to just that."""

from collections.abc import Iterable

from lastcall.broker.base import Broker
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
        try:
            for channel in channels:
                # Once is enough: with a head, it is delivered here until the last has left.
                if self._hub.head(channel) is None:
                    self._hub.subscribed(channel, await self._broker.subscribe(channel))
        except BaseException:
            self.stop_listening(channels)
            raise

    def stop_listening(self, channels: Iterable[str]) -> None:
        """Take `listen` back."""
        for channel in channels:
            if self._hub.release(channel):
                self._broker.unsubscribe(channel)
