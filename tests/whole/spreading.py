"""Clients on every worker, and all of them known."""

import asyncio

from tests.clients import Client
from tests.server_process import ServerProcess, wait_until


async def spread(server: ServerProcess, connected: list[Client]) -> None:
    """All have heard of the last one, and the workers have said so."""
    for client in connected:
        await client.hear(f"{connected[-1].name} connected.")
    recorded(server, len(connected))


async def fill(server: ServerProcess, connected: list[Client]) -> None:
    """Connect more until every worker has somebody: on an idle machine one may take them all."""
    while not all(record.get("connections") for record in server.records().values()):
        assert len(connected) < 200, server.describe()
        # At the same time, so that one worker is not there for all; who of them hears of whom is
        # then a matter of chance.
        newcomers = await asyncio.gather(*(Client.connect(server.websocket_url) for _ in range(4)))
        for newcomer in newcomers:
            for client in (newcomer, *connected):
                await client.hear(f"{newcomer.name} connected.")
        connected += newcomers
        recorded(server, len(connected))


def recorded(server: ServerProcess, number: int) -> None:
    """Return when the workers have said that they have so many clients."""

    def count() -> int:
        return sum(int(str(record.get("connections"))) for record in server.records().values())

    # A storm of records is written in one go, a moment later.
    wait_until(lambda: count() == number, 5, server.describe)
