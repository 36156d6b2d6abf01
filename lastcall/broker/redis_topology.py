"""What the servers of a cluster say of themselves and of each other."""

import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError, ResponseError

from lastcall.broker.redis_address import Place, shown
from lastcall.broker.redis_scripts import Standing
from lastcall.broker.redis_server import RedisServer, ask, require_master
from lastcall.broker.redis_slots import SlotMap

ID_LENGTH = 16
"""Of an id as it is written beside a channel's position; they are random."""


async def look(servers: RedisServer, known: Iterable[Place], seeds: Iterable[Place]) -> SlotMap:
    """Who owns what, as somebody at random says who is not cut off, if there is one.

    Raises:
        redis.RedisError, OSError: nobody answers.
    """
    problem: Exception = ConnectionError("nobody answers")
    doubtful: SlotMap | None = None
    shuffled = sorted(known, key=lambda _: random.random())  # noqa: S311  (no secret)
    for place in dict.fromkeys((*shuffled, *seeds)):
        try:
            async with servers.connected(place) as connection:
                state = await ask(connection, "CLUSTER", "INFO")
                told = SlotMap(await ask(connection, "CLUSTER", "SLOTS"), place)
        except (RedisError, OSError) as error:
            problem = ConnectionError(f"{shown(place)}: {error}")
            continue
        if b"cluster_state:ok" in state:
            return told
        doubtful = doubtful or told
    if doubtful is None:
        raise problem
    return doubtful


@asynccontextmanager
async def found(
    servers: RedisServer, place: Place
) -> AsyncIterator[tuple[AbstractConnection, Standing]]:
    """Connect to the server at *place*, if it is a master; see `RedisNode`."""
    async with servers.connected(place) as connection:
        await require_master(connection, place)
        own = (await ask(connection, "CLUSTER", "MYID")).decode()[:ID_LENGTH]
        kin = kin_of(SlotMap(await ask(connection, "CLUSTER", "SLOTS"), place), own)
        tell = "SPUBLISH" if await _can_tell_by_slot(connection) else "PUBLISH"
        yield connection, Standing(own, kin, tell)


def kin_of(told: SlotMap, own: str) -> frozenset[str]:
    """Whose slots a server may take over whole: masters that own some, as it says itself.

    A master that it was promoted for has none any more.
    """
    return frozenset(node[:ID_LENGTH] for node in told.masters.values()) - {own}


async def _can_tell_by_slot(connection: AbstractConnection) -> bool:
    try:
        found = await ask(connection, "COMMAND", "INFO", "SPUBLISH")
    except ResponseError:
        return False  # we may not ask: what every server can do is enough
    return bool(found and found[0])
