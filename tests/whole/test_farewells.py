"""Who leaves a worker that leaves is missed by those who stay on the others."""

import asyncio
import os
import re
import signal
from functools import partial

import pytest

from lastcall.settings import SHUTDOWN_NOTICE
from tests.clients import Client, clients
from tests.server_process import ServerProcess, run_server, wait_until
from tests.whole.served import is_gone

pytestmark = [pytest.mark.anyio, pytest.mark.whole]


async def one_with_many(server: ServerProcess, connected: list[Client]) -> int:
    """Connect until each worker has somebody, and one has more than are announced one by one."""

    def counts() -> dict[int, int]:
        return {pid: int(str(it["connections"])) for pid, it in server.records().items()}

    while True:
        wait_until(lambda: sum(counts().values()) == len(connected), 5, server.describe)
        least, most = sorted(counts().values())
        if least and most > 5:
            return max(counts(), key=lambda pid: counts()[pid])
        assert len(connected) < 200, server.describe()
        connected.append(await Client.connect(server.websocket_url))


def missed(client: Client) -> int:
    """How many *client* was told have left."""
    lines = [str(heard) for heard in client.heard if str(heard).endswith(" disconnected.")]
    summaries = [re.fullmatch(r"(\d+) clients? disconnected\.", line) for line in lines]
    return sum(1 if summary is None else int(summary[1]) for summary in summaries)


async def test_all_who_leave_upon_the_notice_are_announced_though_their_worker_ends() -> None:
    with run_server(
        workers=2,
        shutdown_timeout=60,
        handover="off",
        announcement_rate=2,
        heartbeat_interval=0,
    ) as server:
        async with clients(server.websocket_url, 8) as connected:
            leaving = await one_with_many(server, connected)
            count = int(str(server.records()[leaving]["connections"]))
            os.kill(leaving, signal.SIGTERM)

            def told() -> list[Client]:
                return [client for client in connected if SHUTDOWN_NOTICE in client.heard]

            await asyncio.to_thread(wait_until, lambda: len(told()) == count, 5, server.describe)
            going = told()
            staying = [client for client in connected if client not in going]
            await asyncio.gather(*(client.close() for client in going))
            # The last words of a worker come when it is done already, at the end of its lifespan.
            for client in staying:
                await client.hear(partial(has_missed, client, count))
            await asyncio.to_thread(wait_until, lambda: is_gone(leaving), 10, server.describe)
            await staying[0].send("the end")
            for client in staying:
                await client.hear("the end")
                assert missed(client) == count, client.heard


def has_missed(client: Client, count: int, _heard: str | bytes) -> bool:
    """Whether *client* was told of so many at least."""
    return missed(client) >= count
