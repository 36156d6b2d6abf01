"""Which server of a cluster has which channel: slots, and who owns them. Pure."""

from binascii import crc_hqx
from collections.abc import Iterable
from typing import Any

from lastcall.broker.redis_address import Place

SLOTS = 16384


def slot_of(name: bytes) -> int:
    """The slot of a key, or of a name of sharded pub/sub: that of what is between its braces."""
    start = name.index(b"{") + 1
    return crc_hqx(name[start : name.index(b"}", start)], 0) % SLOTS


class SlotMap:
    """Who owns which slots, as one server of the cluster has told it."""

    def __init__(self, told: Iterable[Any] = (), by: Place = ("", 0)) -> None:
        """Take what the server *by* answers to `CLUSTER SLOTS`."""
        self._owners: list[Place | None] = [None] * SLOTS
        self.masters: dict[Place, str] = {}
        """Where each master is that owns slots, and its id."""
        for first, last, master, *_ in told:
            host, port, node = master[0], master[1], master[2]
            # Who does not know its own name is where it was asked.
            place = (host.decode() if host else by[0], port or by[1])
            self.masters[place] = node.decode()
            self._owners[first : last + 1] = [place] * (last + 1 - first)

    @property
    def is_whole(self) -> bool:
        """Whether each slot has an owner."""
        return None not in self._owners

    def owner(self, slot: int) -> Place | None:
        """Where the slot is; None where nobody has told us."""
        return self._owners[slot]

    def moved(self, slot: int, place: Place) -> None:
        """A server has said where this slot is now."""
        self._owners[slot] = place
