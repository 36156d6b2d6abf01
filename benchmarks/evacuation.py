"""`scripts/bench evacuation`: stop a server with many clients, and watch them come back.

Two servers stand for two hosts. The clients connect to the first, which is told to stop; who is
closed connects to the second at once, which no real client does as soon, and the second's load is
what is measured. `--plain` takes clients that are left alone until the time is over.
"""

import argparse
import asyncio
import os
import resource
import signal
import struct
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.processes import Server, free_port, serving
from benchmarks.table import grid

CONNECTS_AT_ONCE = 100
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
CONNECT, SIGN_OF_LIFE = b'{"id":1,"connect":{}}', b"{}"
"""What clients of the Centrifuge protocol say first, and answer when they hear it."""
RETURNING, PLAIN = "/returning", "/plain"
PATIENCE = 30.0
"""Seconds beyond the deadline after which the run has failed."""


@dataclass(slots=True)
class Outcome:
    """What the clients saw. Times in seconds since the signal."""

    clients: int
    seconds: float
    closes: list[float] = field(default_factory=list)
    codes: Counter[int] = field(default_factory=Counter)
    returns: list[float] = field(default_factory=list)
    ended: float = 0
    """When the process had ended."""

    @property
    def even_rate(self) -> float:
        """Clients a second, if the whole time were used evenly."""
        return self.clients / self.seconds

    @property
    def peak(self) -> int:
        """How many came back within one second, whichever it was."""
        times = sorted(self.returns)
        first, most = 0, 0
        for index, at in enumerate(times):
            while at - times[first] >= 1:
                first += 1
            most = max(most, index - first + 1)
        return most


async def evacuate(ports: tuple[int, int], server: Server, clients: int, path: str) -> Outcome:
    """Connect *clients* to the first port, stop *server*, and follow them to the second."""
    seconds = float(os.environ["LASTCALL_SHUTDOWN_TIMEOUT"])
    outcome = Outcome(clients, seconds)
    gate = asyncio.Semaphore(CONNECTS_AT_ONCE)

    async def arrive() -> asyncio.StreamReader:
        async with gate:
            return await _connect(ports[0], path)

    async def follow(reader: asyncio.StreamReader) -> None:
        outcome.codes[await _close_code(reader)] += 1
        outcome.closes.append(time.monotonic() - stopped)
        readers.append(await _connect(ports[1], path))
        outcome.returns.append(time.monotonic() - stopped)

    readers = list(await asyncio.gather(*(arrive() for _ in range(clients))))
    first = list(readers)
    stopped = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(seconds + PATIENCE):
        await asyncio.gather(*map(follow, first))
        await asyncio.to_thread(server.process.wait)
    outcome.ended = time.monotonic() - stopped
    return outcome


async def _connect(port: int, path: str) -> asyncio.StreamReader:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    answer = await reader.readuntil(b"\r\n\r\n")
    if b" 101 " not in answer.splitlines()[0]:
        raise RuntimeError(f"no WebSocket: {answer!r}")
    _WRITERS[reader] = writer
    if path == RETURNING:
        writer.write(_frame(TEXT, CONNECT))
    return reader


_WRITERS: dict[asyncio.StreamReader, asyncio.StreamWriter] = {}


async def _close_code(reader: asyncio.StreamReader) -> int:
    """Answer pings until the server closes, and that."""
    writer = _WRITERS.pop(reader)
    try:
        while True:
            first, size = await reader.readexactly(2)
            if size == 126:
                (size,) = struct.unpack("!H", await reader.readexactly(2))
            payload = await reader.readexactly(size)
            if first & 0x0F == CLOSE:
                writer.write(_frame(CLOSE, payload[:2]))
                return int.from_bytes(payload[:2])
            if first & 0x0F == PING:
                writer.write(_frame(PONG, payload))
            elif payload == SIGN_OF_LIFE:
                writer.write(_frame(TEXT, payload))
    except (asyncio.IncompleteReadError, ConnectionError):
        return 1006
    finally:
        writer.close()


def _frame(opcode: int, payload: bytes) -> bytes:
    """A client's frame, with a mask that changes nothing."""
    return bytes((0x80 | opcode, 0x80 | len(payload))) + bytes(4) + payload


def measure(clients: int, seconds: float, *, path: str = RETURNING, **more: str) -> Outcome:
    """Run it all; *more* are further settings of the servers, in lower case."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.environ["LASTCALL_SHUTDOWN_TIMEOUT"] = str(seconds)
    settings = {f"LASTCALL_{name.upper()}": value for name, value in more.items()}
    with tempfile.TemporaryDirectory(prefix="lce-") as directory, ExitStack() as stack:
        servers = []
        for name in ("first", "second"):
            port = free_port()
            command = [sys.executable, "-m", "uvicorn", "benchmarks.returning_app:app"]
            command += ["--port", str(port)]
            home = Path(directory, name)
            own = {"LASTCALL_RUN_DIR": str(home), "LASTCALL_STATE_DIR": str(home), **settings}
            log = Path(directory, f"{name}.log")
            servers.append(stack.enter_context(serving(command, port, own, log)))
        ports = (servers[0].port, servers[1].port)
        return asyncio.run(evacuate(ports, servers[0], clients, path))


def row(outcome: Outcome, kind: str) -> list[str]:
    """The outcome as a line of the table."""
    codes = ", ".join(f"{code}: {number:,}" for code, number in sorted(outcome.codes.items()))
    return [
        f"{outcome.clients:,} {kind} clients, {outcome.seconds:g} s",
        f"{outcome.even_rate:.1f}",
        f"{outcome.peak} ({outcome.peak / outcome.even_rate:.2f} of it)",
        f"{min(outcome.closes):.2f} s",
        f"{max(outcome.closes):.2f} s",
        f"{outcome.ended:.2f} s",
        codes,
    ]


HEAD = ["what", "even rate", "reconnects in the busiest second"]
HEAD += ["first closed after", "last", "process gone", "codes"]


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="scripts/bench evacuation", description=__doc__)
    parser.add_argument("--clients", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--plain", action="store_true", help="clients that do not come back")
    asked = parser.parse_args()
    path, kind = (PLAIN, "plain") if asked.plain else (RETURNING, "returning")
    print(grid(HEAD, [row(measure(asked.clients, asked.seconds, path=path), kind)]))


if __name__ == "__main__":
    main()
