"""A session's way into a channel: nothing lost, nothing doubled, and the reply before all else.

Listen, hold, read what was missed; then, in one tick, the reply and the live channel behind it.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from lastcall.broker.base import Broker, Publication, StreamPosition
from lastcall.catch_up import CatchUp
from lastcall.connection import Connection
from lastcall.errors import LastcallError, UnrecoverablePosition
from lastcall.hub import Hub
from lastcall.interest import Interest


class Gone(LastcallError):  # noqa: N818  (says what is so)
    """The client left meanwhile: there is nobody to answer."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A channel that is held for a client and waits for `Subscribing.go_live`."""

    catch_up: CatchUp
    missed: Sequence[Publication] | None
    """None: the history does not reach back, or nobody asked."""
    since: StreamPosition | None
    latest_only: bool = False


@dataclass(frozen=True, slots=True)
class Heard:
    """How a client stands in a channel when it is live."""

    position: StreamPosition
    """Where it stands before *publications*; with the latest one only, behind it."""
    publications: Sequence[Publication]
    recovered: bool


class Subscribing:
    """Lets connections into channels and out again."""

    def __init__(self, broker: Broker, hub: Hub, interest: Interest) -> None:
        """Use the parts of this worker."""
        self._broker = broker
        self._hub = hub
        self._interest = interest

    async def enter(
        self,
        connection: Connection,
        channel: str,
        since: StreamPosition | None,
        limit: int,
        *,
        latest_only: bool = False,
    ) -> Entry:
        """Hold *channel* for *connection*, and read at most *limit* of what follows *since*.

        An empty epoch in *since* is that of the stream. With *latest_only* what was missed is the
        latest publication, wherever *since* is, if that is not it. In the tick in which this
        returns, or any later, call `go_live`, or `leave`.

        Raises:
            BrokerUnavailable: nothing is held.
            Gone: the client left; nothing is held.
        """
        await self._listen(connection, channel)
        head = self._head(channel)
        if since is None:
            return Entry(self._hub.hold(connection, channel, head), None, None)
        since = StreamPosition(since.offset, since.epoch or head.epoch)
        if latest_only:
            since = _before_the_latest(head, since)
        catch_up = self._hub.hold(connection, channel, since)
        try:
            missed = await self._missed(catch_up, since, limit)
        except BaseException:
            self.leave(connection, channel)
            raise
        if connection.is_gone:
            raise Gone
        if latest_only and not since.offset and not missed:
            missed = None  # nothing was ever published: there is no latest one
        return Entry(catch_up, missed, since, latest_only)

    def go_live(self, entry: Entry) -> Heard:
        """Let the connection hear the channel from here on; write what it tells before all else."""
        hub, connection, channel = self._hub, entry.catch_up.connection, entry.catch_up.channel
        heard: list[Publication] = []
        if (
            entry.since is not None
            and entry.missed is not None
            and hub.go_live(entry.catch_up, entry.missed, heard.extend)
        ):
            if entry.latest_only:
                return Heard(entry.catch_up.position, heard[-1:], recovered=True)
            return Heard(entry.since, heard, recovered=True)
        # Held anew: what was held until now is before the position that the client is told.
        catch_up = hub.hold(connection, channel, self._head(channel))
        hub.go_live(catch_up)
        return Heard(catch_up.position, (), recovered=False)

    def leave(self, connection: Connection, channel: str) -> None:
        """Let the connection hear the channel no more; unknown ones are ignored."""
        if connection.is_gone or channel not in connection.channels:
            return
        self._hub.leave(connection, channel)
        connection.channels = tuple(each for each in connection.channels if each != channel)
        self._interest.stop_listening([channel])

    async def _listen(self, connection: Connection, channel: str) -> None:
        await self._interest.listen([channel])
        if connection.is_gone:
            self._interest.stop_listening([channel])
            raise Gone
        connection.channels = (*connection.channels, channel)

    def _head(self, channel: str) -> StreamPosition:
        head = self._hub.head(channel)
        assert head is not None  # noqa: S101  (listened to, so it has one)
        return head

    async def _missed(
        self, catch_up: CatchUp, since: StreamPosition, limit: int
    ) -> Sequence[Publication] | None:
        if not catch_up.is_behind:
            return ()
        with suppress(UnrecoverablePosition):
            history = await self._broker.history(catch_up.channel, since, limit + 1)
            if len(history.publications) <= limit:
                return history.publications
        return None


def _before_the_latest(head: StreamPosition, since: StreamPosition) -> StreamPosition:
    if since.epoch == head.epoch and since.offset >= head.offset:
        return since
    return StreamPosition(max(0, head.offset - 1), head.epoch)
