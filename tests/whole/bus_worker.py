"""A worker process of the host bus, for `test_bus_kill.py`: told by lines, answers by lines.

In: `publish <first> <count>`, `history`, `fork`, `block <seconds>`. Out: `ready <epoch>`,
`delivered <offset> <epoch> <data>`, `reset <offset> <epoch>`, `accepted <n> <offset>`,
`failed <n> <why>`, `history <epoch> <data>…`, `forked <pid>`, `blocked`.
"""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import anyio

from lastcall.broker.base import HistoryLimits, Publication, StreamPosition
from lastcall.broker.unix_socket import UnixSocketBroker
from lastcall.errors import BrokerUnavailable

CHANNEL = "news"
WINDOW = 200
"""Publications in flight, as a server with many clients would have."""


class Printer:
    """The hub of this worker."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, *words: object) -> None:
        if not self.lines:
            asyncio.get_running_loop().call_soon(self.flush)
        self.lines.append(" ".join(map(str, words)))

    def flush(self) -> None:
        os.write(1, ("\n".join(self.lines) + "\n").encode())
        self.lines.clear()

    def deliver(self, publication: Publication, /) -> None:
        self.say("delivered", publication.offset, publication.epoch, publication.data.decode())

    def reset(self, channel: str, position: StreamPosition, /) -> None:
        assert channel == CHANNEL
        self.say("reset", position.offset, position.epoch)

    def available(self, yes: bool, /) -> None:  # noqa: FBT001  (the seam has it so)
        self.say("available", int(yes))


async def publish(broker: UnixSocketBroker, printer: Printer, first: int, count: int) -> None:
    window = asyncio.Semaphore(WINDOW)

    def answered(number: int, future: "asyncio.Future[StreamPosition]") -> None:
        window.release()
        try:
            printer.say("accepted", number, future.result().offset)
        except BrokerUnavailable as error:
            printer.say("failed", number, error)

    for number in range(first, first + count):
        await window.acquire()
        future = broker.publish(CHANNEL, str(number).encode())
        future.add_done_callback(lambda future, number=number: answered(number, future))  # type: ignore[misc]


async def obey(broker: UnixSocketBroker, printer: Printer) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    async with anyio.create_task_group() as tasks:
        while line := (await reader.readline()).decode().split():
            if line[0] == "publish":
                tasks.start_soon(publish, broker, printer, int(line[1]), int(line[2]))
            elif line[0] == "history":
                history = await broker.history(CHANNEL)
                data = [p.data.decode() for p in history.publications]
                printer.say("history", history.top.epoch, *data)
            elif line[0] == "block":
                # As a handler does that waits where it should not.
                time.sleep(float(line[1]))  # noqa: ASYNC251  (on purpose)
                printer.say("blocked")
            elif line[0] == "fork":
                # As a pool does it: a child that lives on with all it inherited.
                if (child := os.fork()) == 0:
                    os.closerange(0, 3)  # the test reads these to their end
                    signal.pause()
                printer.say("forked", child)


async def main(run_dir: str, state_dir: str, boot: str) -> None:
    printer = Printer()
    limits = HistoryLimits(size=100_000, ttl=300)
    broker = UnixSocketBroker(Path(run_dir), Path(state_dir), limits, boot=boot or None)
    async with anyio.create_task_group() as tasks:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, tasks.cancel_scope.cancel)
        await tasks.start(broker.run, printer)
        printer.say("ready", (await broker.subscribe(CHANNEL)).epoch)
        await obey(broker, printer)
        # The test is gone.
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    _, loop, run, state, boot_id = sys.argv
    anyio.run(main, run, state, boot_id, backend_options={"use_uvloop": loop == "uvloop"})
