"""A Redis of several servers that share the channels among them: a cluster.

Its own words are a bit of everything: who owns which slots is asked now and then, told by servers
that were asked for what they do not have, and forgotten by those that were cut off. Whoever owns a
slot answers for it, so nothing depends on the map being right: a wrong one costs a detour.
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
from redis.exceptions import MovedError, RedisError

from lastcall.broker.reconnecting import Complaints
from lastcall.broker.redis_address import Place, shown
from lastcall.broker.redis_ear import Listener, RedisEar
from lastcall.broker.redis_homes import Homes
from lastcall.broker.redis_line import RedisLine
from lastcall.broker.redis_node import RedisNode
from lastcall.broker.redis_question import Question
from lastcall.broker.redis_routes import Routes
from lastcall.broker.redis_server import RedisServer
from lastcall.broker.redis_shards import Shards
from lastcall.broker.redis_slots import SlotMap
from lastcall.broker.redis_topology import found, kin_of, look

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

LOOK_SECONDS = 10.0
"""Between two looks at who owns what, if nobody asks for one."""
LEAST_SECONDS = 0.1
"""Between two looks, whoever asks."""
NEW_SECONDS = 2.0
"""A server that has joined may take so long to be connected to, before that is called a problem."""


class RedisCluster:
    """Keeps a node for each server that owns slots, and tells each what is its own."""

    def __init__(
        self,
        servers: RedisServer,
        seeds: tuple[Place, ...],
        listener: Listener,
        deaf: Callable[[Iterable[bytes]], object],
        changed: Callable[[], object],
    ) -> None:
        """Find the servers by asking the *seeds*; the *listener* is told what all of them tell."""
        self._servers = servers
        self._seeds = seeds
        self._listener = listener
        self._deaf = deaf
        self._changed = changed
        self._shards = Shards(self._look_again)
        self._routes = Routes(self._shards)
        self._homes = Homes(self._shards, deaf)
        self._scopes: dict[RedisNode, anyio.CancelScope] = {}
        self._missed_from: dict[Place, float] = {}
        self._leaving: set[RedisNode] = set()
        self._is_looked_for = anyio.Event()
        self._complaints = Complaints()

    @property
    def name(self) -> str:
        """What may be shown of it: no user and no password."""
        return f"redis cluster at {', '.join(map(shown, self._seeds))}"

    @property
    def is_available(self) -> bool:
        """Whether each slot has a server, and each of these is connected to."""
        return self._shards.map.is_whole and not self._missing()

    @property
    def problem(self) -> str:
        """Why something is missing."""
        for place in self._missing():
            return f"{shown(place)}: {self._shards.nodes[place].problem}"
        return self._complaints.last or "no server of the cluster was reached yet"

    def put(self, question: Question) -> None:
        """Ask; a plain call, so that the order of calls is the order of a channel's answers."""
        self._routes.put(question)

    def want(self, name: bytes, *, yes: bool) -> None:
        """Hear *name* from now on, or no more."""
        self._homes.want(name, yes=yes)

    async def run(self) -> None:
        """Keep all connections up until cancelled."""
        async with anyio.create_task_group() as tasks:
            while True:
                self._is_looked_for = anyio.Event()
                pause = LEAST_SECONDS
                try:
                    known = self._shards.nodes
                    self._adopt(await look(self._servers, known, self._seeds), tasks)
                except (RedisError, OSError) as problem:
                    self._complaints.tell(f"the cluster cannot be seen: {problem}")
                    pause = 1.0
                else:
                    self._complaints.settled()
                    with anyio.move_on_after(LOOK_SECONDS):
                        await self._is_looked_for.wait()
                await anyio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311  (no secret)

    def tick(self, now: float) -> None:
        """Give up what does not answer, and let go of whom nobody waits for any more."""
        for node in list(self._scopes):
            node.tick(now)
            if node in self._leaving and not node.line.has_questions:
                self._leaving.discard(node)
                self._scopes.pop(node).cancel()
        self._routes.expire(now)

    def close(self, reason: str) -> None:
        """Fail all that waits for an answer."""
        self._routes.close(reason)
        for node in self._scopes:
            node.close(reason)

    def _adopt(self, told: SlotMap, tasks: "TaskGroup") -> None:
        shards, now = self._shards, anyio.current_time()
        is_known = set(told.masters.values()) == set(shards.map.masters.values())
        # Whoever joins is waited for quietly, while nothing is missing.
        patience = NEW_SECONDS if self.is_available else 0
        shards.map = told
        places = told.masters.keys() | shards.needed(now)
        for place in places - shards.nodes.keys():
            node = self._node(place)
            self._missed_from[place] = now + patience
            shards.nodes[place], self._scopes[node] = node, anyio.CancelScope()
            tasks.start_soon(self._serve, node)
        self._routes.reroute()
        for place in shards.nodes.keys() - places:
            self._leaving.add(shards.nodes.pop(place))
        self._homes.settle()
        for place, node in () if is_known else shards.nodes.items():
            self._renew(place, node)
        self._changed()

    def _renew(self, place: Place, node: RedisNode) -> None:
        """Let the scripts of a server know whom it may take slots over from now."""

        def told(answer: Any) -> None:
            kin = kin_of(SlotMap(answer, place), node.standing.reign)
            if node.standing.reign and kin != node.standing.kin:
                node.renew(replace(node.standing, kin=kin))

        node.ask_for_itself((b"CLUSTER", b"SLOTS"), told)

    async def _serve(self, node: RedisNode) -> None:
        with self._scopes[node]:
            await node.run()

    def _node(self, place: Place) -> RedisNode:
        line = RedisLine(partial(self._routes.is_passed_on, place), self._routes.settled)
        listener = Listener(
            self._listener.message,
            self._listener.confirmed,
            lambda: self._deaf(self._homes.names_at(place)),
            partial(self._homes.left, place),
            partial(self._moved, place),
        )
        return RedisNode(
            partial(found, self._servers, place),
            line,
            RedisEar(listener),
            partial(self._homes.names_at, place),
            self._node_changed,
        )

    def _moved(self, place: Place, error: MovedError) -> None:
        self._homes.moved(error.slot_id, (error.host or place[0], error.port))

    def _node_changed(self) -> None:
        if self._missing():
            self._look_again()
        self._changed()

    def _missing(self) -> list[Place]:
        now, nodes = anyio.current_time(), self._shards.nodes
        return [
            place
            for place in self._shards.map.masters
            if not nodes[place].is_available and now >= self._missed_from[place]
        ]

    def _look_again(self) -> None:
        self._is_looked_for.set()
