"""A crowd of clients that check every message: tells `crowd.c` what to do, reads what came."""

import contextlib
import json
import math
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.load import build

TIMEOUT = 120.0
"""Seconds that any one command may take; a server that hangs must not hang us."""
CUT = 1006
"""The code of an end without a word."""


@dataclass(frozen=True, slots=True)
class End:
    """One client's connection that ended, and that did not ask for it."""

    port: int
    """The client's own."""
    code: int
    """Of the close; `CUT` if there was none."""
    at: float
    """Seconds since the crowd began."""


@dataclass(frozen=True, slots=True)
class Report:
    """What has happened to the crowd since the report before."""

    clients: int
    said: int
    heard: int
    lost: int
    doubled: int
    out_of_order: int
    other_stories: int
    """Clients that heard the messages of their room in another order than the first of it."""
    told: int
    """How many heard a shutdown notice."""
    ends: Sequence[End]
    returns: Sequence[float]
    """When clients that had been closed were back, in seconds since the crowd began."""
    newcomers: int
    newcomers_waiting: int
    failures: Sequence[str]
    """Why connections could not be made, or newcomers were not served."""
    pauses: Sequence[float]
    """Of each client: seconds without a message, at most, less the time between two messages."""
    now: float

    @property
    def is_flawless(self) -> bool:
        """Nothing lost, doubled or in another order, and nobody disconnected."""
        return not (self.ends or self.failures or self.lost or self.mistakes)

    @property
    def mistakes(self) -> int:
        """What no client may ever see, whatever dies."""
        return self.doubled + self.out_of_order + self.other_stories

    @property
    def codes(self) -> Counter[int]:
        """With which codes connections ended, and how many."""
        return Counter(end.code for end in self.ends)

    def pause(self, share: float) -> float:
        """The pause that *share* of the clients did not exceed, in seconds."""
        return quantile(self.pauses, share)

    def __str__(self) -> str:
        """In one line, without the long lists."""
        return (
            f"{self.clients} clients, {self.said} said, {self.heard} heard, {self.lost} lost, "
            f"{self.doubled} doubled, {self.out_of_order} out of order, {self.other_stories} other "
            f"stories, {self.told} told, ends {dict(self.codes)}, {self.newcomers} newcomers, "
            f"failures {dict(Counter(self.failures))}, "
            f"p99 pause {self.pause(0.99) * 1e3:.1f} ms, longest {self.pause(1) * 1e3:.1f} ms"
        )


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest of *values* that *share* of them do not exceed; 0 if there are none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


class Crowd:
    """Clients of one server, in a process of their own. Use `crowd_on`."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        """Speak to *process*."""
        self._process = process

    def connect(self, number: int) -> None:
        """Open *number* more clients, while everybody else is silent.

        Raises:
            RuntimeError: not all of them could connect.
        """
        opened = self._tell(f"connect {number}")["opened"]
        if opened != number:
            raise RuntimeError(f"{opened} of {number} clients could connect: {self.report()}")

    def talk(self, rate: float) -> None:
        """Say *rate* messages a second from now on, each client in its turn; 0: be silent."""
        self._tell(f"talk {rate}")

    def newcomers(self, rate: float) -> None:
        """Let *rate* clients a second come, hear one message and leave."""
        self._tell(f"newcomers {rate}")

    def return_to(self, port: int) -> None:
        """Let who is closed from now on come back at once, to *port*; 0: they stay away."""
        self._tell(f"return {port}")

    def settle(self) -> int:
        """Wait until everybody has heard everything; how many messages never came to somebody."""
        return int(self._tell("settle")["missing"])

    def report(self) -> Report:
        """What has happened since the report before."""
        said = self._tell("report")
        ends = [End(port, code, at / 1e3) for port, code, at in said.pop("ends")]
        returns = [at / 1e3 for at in said.pop("returns")]
        pauses = [pause / 1e6 for pause in said.pop("pauses_us")]
        now = said.pop("now") / 1e3
        return Report(ends=ends, returns=returns, pauses=pauses, now=now, **said)

    def leave(self) -> None:
        """Close every client in order."""
        self._tell("leave")

    def _tell(self, command: str) -> dict[str, Any]:
        process = self._process
        timer = threading.Timer(TIMEOUT, process.kill)
        timer.start()
        try:
            if process.stdin is None or process.stdout is None:
                raise RuntimeError("the crowd was started without pipes")
            process.stdin.write(command + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        finally:
            timer.cancel()
        if not line:
            raise RuntimeError(f"the crowd ended at {command!r}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def build_crowd(directory: Path) -> Path:
    """Compile the crowd into *directory*."""
    return build("deploys/crowd", directory)


@contextlib.contextmanager
def crowd_on(program: Path, port: int, path: str = "/ws", rooms: int = 1) -> Iterator[Crowd]:
    """Run a crowd for the server on *port* until the block is left.

    With several *rooms*, client i uses `<path>/<i modulo rooms>`, and who shares a path hears each
    other.
    """
    process = subprocess.Popen(
        [program, str(port), path, str(rooms)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Crowd(process)
    finally:
        process.kill()
        process.communicate()
