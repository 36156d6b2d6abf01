"""Clients that number what they say, and can tell whether anything went missing on its way."""

import asyncio
from collections import defaultdict

from tests.clients import Client
from tests.server_process import ServerProcess, wait_until


class NumberedTalk:
    """Every client says numbers, one after the other; all of them hear all of it."""

    def __init__(self, talking: list[Client], pause: float = 0.02) -> None:
        """Let *talking* speak from now on, each with a *pause* between its messages."""
        self._talking = talking
        self._pause = pause
        self._said: dict[int, int] = defaultdict(int)
        self._is_over = asyncio.Event()
        self._tasks = [asyncio.create_task(self._talk(number)) for number in range(len(talking))]

    async def end(self, hearing: list[Client]) -> None:
        """Stop; every client of *hearing* has heard all, once, and all the same story."""
        self._is_over.set()
        await asyncio.gather(*self._tasks)
        for number, client in enumerate(self._talking):
            await client.send(f"{number}:end")
        for client in hearing:
            for number in range(len(self._talking)):
                await client.hear(f"{number}:end")
        stories = [[each for each in client.heard if ":" in str(each)] for client in hearing]
        for story in stories:
            assert story == stories[0], difference(story, stories[0])
        for number, said in self._said.items():
            own = [each for each in stories[0] if str(each).startswith(f"{number}:")]
            assert own == [*(f"{number}:{count}" for count in range(said)), f"{number}:end"]

    async def _talk(self, number: int) -> None:
        while not self._is_over.is_set():
            await self._talking[number].send(f"{number}:{self._said[number]}")
            self._said[number] += 1
            await asyncio.sleep(self._pause)


def difference(story: list[str | bytes], other: list[str | bytes]) -> str:
    """Where two stories part."""
    for place, (one, two) in enumerate(zip(story, other, strict=False)):
        if one != two:
            return f"at {place}: {story[place - 3 : place + 5]}, {other[place - 3 : place + 5]}"
    return f"{len(story)} and {len(other)} messages"


async def gone(server: ServerProcess, pid: int, timeout: float = 30) -> None:
    """Wait until worker *pid* has left; the clients of the test go on meanwhile."""
    await until(lambda: pid not in {*server.records(), *server.records("DONE")}, server, timeout)


async def until(condition, server: ServerProcess, timeout: float = 30) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Wait in a thread for something in another process."""
    await asyncio.to_thread(wait_until, condition, timeout, server.describe)


def clients_of(server: ServerProcess) -> dict[int, int]:
    """How many connections each worker says it has."""
    return {pid: int(str(each["connections"])) for pid, each in server.records().items()}
