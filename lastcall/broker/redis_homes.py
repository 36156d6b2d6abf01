"""Which server of a cluster tells this worker what: each name by the one that owns its slot."""

from collections.abc import Callable, Iterable, Iterator

from lastcall.broker.redis_address import Place
from lastcall.broker.redis_node import RedisNode
from lastcall.broker.redis_shards import Shards
from lastcall.broker.redis_slots import slot_of

type Deaf = Callable[[Iterable[bytes]], object]
"""Takes names: nothing is heard under them until they are confirmed again."""


class Homes:
    """Keeps every name at its server, through all moves of slots."""

    def __init__(self, shards: Shards, deaf: Deaf) -> None:
        """Listen to these servers."""
        self._shards = shards
        self._deaf = deaf
        self._names: dict[int, set[bytes]] = {}
        self._homes: dict[int, Place] = {}
        """Where a slot's names are heard, or are going to be."""
        self._astray: set[int] = set()
        """Slots whose server has sent us away."""

    def want(self, name: bytes, *, yes: bool) -> None:
        """Hear *name* from now on, or no more."""
        slot = slot_of(name)
        names = self._names.setdefault(slot, set())
        if yes:
            names.add(name)
            self._homes.setdefault(slot, self._shards.map.owner(slot) or _NOWHERE)
        else:
            names.discard(name)
        if node := self._shards.nodes.get(self._homes.get(slot, _NOWHERE)):
            node.want(name, yes=yes)
        if not names:
            del self._names[slot]
            self._homes.pop(slot, None)

    def names_at(self, place: Place) -> Iterator[bytes]:
        """What is to be heard from the server at *place*."""
        for slot, names in self._names.items():
            if self._homes[slot] == place:
                yield from names

    def left(self, place: Place, name: bytes) -> None:
        """Nothing is told under *name* at *place* any more."""
        slot = slot_of(name)
        if name in self._names.get(slot, ()) and self._homes[slot] == place:
            self._deaf((name,))
            self._astray.add(slot)
            self._shards.look_again()

    def moved(self, slot: int, place: Place) -> None:
        """The server that was asked for a name of this slot has said where it is."""
        self._shards.moved(slot, place)
        if slot in self._names:
            self._astray.add(slot)

    def settle(self) -> None:
        """Hear each name from whoever owns its slot by now."""
        astray, self._astray = self._astray, set()
        for slot, home in list(self._homes.items()):
            owner = self._shards.map.owner(slot)
            node = self._shards.nodes.get(owner) if owner else None
            if node is not None and owner is not None and (owner != home or slot in astray):
                self._move(slot, owner, node)
            elif slot in astray:
                self._astray.add(slot)

    def _move(self, slot: int, owner: Place, node: RedisNode) -> None:
        names, before = self._names[slot], self._shards.nodes.get(self._homes[slot])
        self._homes[slot] = owner
        self._deaf(names)
        for name in names:
            if before is not None and before is not node:
                before.ear.leave(name)
            node.want(name, yes=True)


_NOWHERE: Place = ("", 0)
"""The home of names that nobody is known for yet."""
