"""Who is connected to this worker: connect, disconnect, broadcast, count, close at a pace."""

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import chain, islice
from typing import Protocol

from lastcall.connection import Connection
from lastcall.errors import Disconnect
from lastcall.hub import Hub
from lastcall.transport.base import Frame
from lastcall.wire_format import WireFormat

SPARE_DESCRIPTORS = 100
"""For listeners, logs, databases and whatever else the application opens."""


class Guest(Protocol):
    """A long-lived request of the application's own that takes part in the drain."""

    def notify(self, text: str) -> None:
        """Tell the client of *text*, if its kind of response can."""
        ...

    def disconnect(self, why: Disconnect) -> None:
        """End it with *why*."""
        ...

    def abort(self) -> None:
        """End it without a word."""
        ...


class ConnectionManager:
    """The open connections of this worker, and the application's own guests of the drain."""

    def __init__(self, hub: Hub, changed: Callable[[], object]) -> None:
        """Call *changed* whenever the number of connections does."""
        self._hub = hub
        self._changed = changed
        self._connections: dict[Connection, None] = {}
        self._guests: dict[Guest, None] = {}
        self._not_closed: dict[Connection | Guest, None] = {}
        self._returning: dict[Connection | Guest, None] = {}
        self._spared: list[Connection] = []
        self._on_the_way: set[Connection] = set()
        self._expected = 0
        self.opened = 0
        """How many have ever been connected here, guests and adopted ones included."""

    @property
    def count(self) -> int:
        """How many are connected, guests included."""
        return len(self._connections) + len(self._guests)

    @property
    def not_closed(self) -> int:
        """How many of them `close` has not been called for yet."""
        return len(self._not_closed)

    @property
    def returning(self) -> int:
        """How many of these come back by themselves when they are released."""
        return len(self._returning)

    @property
    def not_closed_guests(self) -> int:
        """How many of these are guests."""
        return sum(1 for guest in self._guests if guest in self._not_closed)

    @property
    def count_with_expected(self) -> int:
        """How many there will be when every handshake under way has succeeded."""
        return self.count + self._expected

    def expect_one(self) -> None:
        """Keep a place for a client whose handshake is under way, until `expected_one`."""
        self._expected += 1

    def expected_one(self) -> None:
        """That handshake has ended, well or not."""
        self._expected -= 1

    @property
    def settled(self) -> list[Connection]:
        """Those that are here, and not on their way to another worker or from one."""
        return [each for each in self._connections if each not in self._on_the_way]

    def sets_out(self, connection: Connection) -> None:
        """*connection* is on its way, until it is counted out or `arrived`."""
        self._on_the_way.add(connection)

    def arrived(self, connection: Connection) -> None:
        """*connection* is here, as others are."""
        self._on_the_way.discard(connection)

    def __contains__(self, connection: Connection) -> bool:
        """Whether *connection* is connected."""
        return connection in self._connections

    def __iter__(self) -> Iterator[Connection]:
        """Those that are connected at this moment."""
        return iter(tuple(self._connections))

    def connect(self, connection: Connection) -> None:
        """Count *connection* in, and deliver its channels to it."""
        self._hub.add(connection)
        self.adopt(connection)

    def adopt(self, connection: Connection) -> None:
        """Count in *connection*, which catches up with its channels by itself."""
        self._connections[connection] = self._not_closed[connection] = None
        if connection.wire_format.protocol.reconnects:
            self._returning[connection] = None
        self.opened += 1
        self._changed()

    def movable(self) -> list[Connection]:
        """Those that another worker could take over."""
        return [each for each in self._connections if each.movable]

    def disconnect(self, connection: Connection) -> None:
        """Count *connection* out; unknown ones are ignored."""
        self._hub.remove(connection)
        self._on_the_way.discard(connection)
        self._not_closed.pop(connection, None)
        self._returning.pop(connection, None)
        if self._connections.pop(connection, self) is None:
            self._changed()

    def welcome(self, guest: Guest) -> None:
        """Count *guest* in."""
        self._guests[guest] = self._not_closed[guest] = None
        self.opened += 1
        self._changed()

    def goodbye(self, guest: Guest) -> None:
        """Count *guest* out; unknown ones are ignored."""
        self._not_closed.pop(guest, None)
        if self._guests.pop(guest, self) is None:
            self._changed()

    def notify_all(self, text: str, *, spare_movable: bool = False) -> int:
        """Tell every client of *text*, after all that was published before; return their number.

        Clients that are being closed are not told any more. With *spare_movable*, those that
        another worker could take are not told before `notify_spared`.
        """
        told = [each for each in self._connections if each.ended_by is None]
        self._spared = []
        if spare_movable:
            self._spared = [each for each in told if each.movable]
            told = [each for each in told if not each.movable]
        self._notify(told, text)
        guests = [each for each in self._guests if each in self._not_closed]
        for guest in guests:
            guest.notify(text)
        return len(told) + len(guests)

    def beat(self, text: str, *, besides: Collection[Connection] = ()) -> None:
        """Tell every connection of *text* that is not among *besides*.

        Not those on their way, who hear it where they arrive; nor guests: they take part in the
        drain, and to be told of something is how they know that it has begun.
        """
        here = (each for each in self.settled if each not in besides)
        self._notify([each for each in here if each.ended_by is None], text)

    def notify_spared(self, text: str) -> int:
        """Tell those of *text* that the last notice spared, and that are still here."""
        spared, self._spared = self._spared, []
        told = [each for each in spared if each in self._connections and each.ended_by is None]
        self._notify(told, text)
        return len(told)

    def _notify(self, connections: list[Connection], text: str) -> None:
        self._hub.flush()
        frames: dict[WireFormat, Frame] = {}
        for connection in connections:
            wire_format = connection.wire_format
            if wire_format not in frames:
                frames[wire_format] = wire_format.notice(text)
            connection.write(frames[wire_format])

    def release(self, count: int, why: Disconnect) -> int:
        """Disconnect *count* of those who come back by themselves, longest connected first."""
        return self._close(list(islice(self._returning, count)), why)

    def close(self, count: int, why: Disconnect) -> int:
        """Disconnect *count* clients that are not being closed yet, longest connected first.

        Those who come back by themselves come last: `release` is for them.
        """
        others = (each for each in self._not_closed if each not in self._returning)
        return self._close(list(islice(chain(others, self._returning), count)), why)

    def _close(self, leaving: Sequence[Connection | Guest], why: Disconnect) -> int:
        self._hub.flush()
        for each in leaving:
            # The end of one may have been the end of another: the application may see to that.
            self._not_closed.pop(each, None)
            self._returning.pop(each, None)
            each.disconnect(why)
        return len(leaving)

    def abort_all(self) -> int:
        """Cut whoever has not answered a close; return their number."""
        remaining = (*self._connections, *self._guests)
        for each in remaining:
            each.abort()
        return len(remaining)


def connection_limit() -> int:
    """How many connections this process's descriptors allow, with some left for everything else."""
    try:
        import resource  # noqa: PLC0415  (Unix only)
    except ImportError:
        return 500  # Windows: what select() takes, less our own
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else max(1, soft - SPARE_DESCRIPTORS)
