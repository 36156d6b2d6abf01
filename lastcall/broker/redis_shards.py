"""The servers of a cluster that own slots, as this worker uses them: who has what, by whom."""

from collections.abc import Callable

from lastcall.broker.redis_address import Place
from lastcall.broker.redis_node import RedisNode
from lastcall.broker.redis_slots import SlotMap


class Shards:
    """Where each slot is, and the node that is there."""

    def __init__(self, look_again: Callable[[], object]) -> None:
        """Begin without knowing any; *look_again* when the map turns out to be wrong."""
        self.map = SlotMap()
        self.nodes: dict[Place, RedisNode] = {}
        self.look_again = look_again
        self._needed: dict[Place, float] = {}

    def owner(self, slot: int) -> RedisNode | None:
        """Whom to ask about a slot; None where nobody is known."""
        place = self.map.owner(slot)
        return None if place is None else self.nodes.get(place)

    def need(self, place: Place, until: float) -> None:
        """A server is needed that owns no slot yet."""
        self._needed[place] = until
        self.look_again()

    def needed(self, now: float) -> set[Place]:
        """The servers that are needed although they own nothing."""
        self._needed = {place: until for place, until in self._needed.items() if until > now}
        return set(self._needed)

    def moved(self, slot: int, place: Place) -> None:
        """A server has said where this slot is now."""
        self.map.moved(slot, place)
        self.look_again()
