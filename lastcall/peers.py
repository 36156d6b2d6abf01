"""The other workers of this server: of this host by its files, of others by their signs.

Every worker has a name that no other has, on whatever host: its machine's and its pid.
"""

import hashlib
import os
import platform
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from lastcall.roster import Roster, Sign
from lastcall.worker_coordinator import Coordinator
from lastcall.worker_record import WorkerRecord


class Peers:
    """Who else is here, and how they are called."""

    def __init__(
        self,
        coordinator: Coordinator,
        machine: str = "",
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Ask *coordinator*; where the server has several hosts, this one is called *machine*."""
        self._coordinator = coordinator
        self._machine = machine
        self._clock = clock
        self._roster = Roster()

    @property
    def coordinator(self) -> Coordinator:
        """Who knows the workers of this host."""
        return self._coordinator

    @property
    def spans_hosts(self) -> bool:
        """Whether there may be workers on other hosts."""
        return bool(self._machine)

    @property
    def name(self) -> str:
        """This worker's own."""
        return self.name_of(os.getpid())

    @property
    def node(self) -> str:
        """How clients name this worker, once it has arrived."""
        return node_of(self._coordinator.known()[0], self._machine)

    def name_of(self, pid: int) -> str:
        """The name of a worker of this host."""
        return f"{self._machine}/{pid}"

    def sign(self, announced: Mapping[str, int] | None = None) -> Sign:
        """What the workers of other hosts are to know of this one."""
        state = self._coordinator.known()[0].state
        return Sign(self.name, self.node, state, announced or {})

    def heard(self, sign: Sign) -> None:
        """Take the sign of a worker of another host; this one's own may come as well."""
        if sign.name != self.name:
            self._roster.heard(sign, self._clock())

    def buried(self, pid: int) -> Sign:
        """Forget a worker of this host that has died; what the others are to be told of it."""
        name = self.name_of(pid)
        self._roster.forget(name)
        return Sign(name, "", "done")

    def excuse(self) -> None:
        """Nothing can be heard here now: that says nothing about the others."""
        self._roster.excuse(self._clock())

    def fallen(self) -> list[Sign]:
        """Workers of other hosts that must have died, each once."""
        here = self._here()
        return [each for each in self._roster.fallen(self._clock()) if each.name not in here]

    def answering(self) -> set[str]:
        """The names of the others that answer questions."""
        return self._here("ready", "draining") | {s.name for s in self._elsewhere() if s.answers}

    def staying(self) -> set[str]:
        """The names of the others that do not leave."""
        here = [each for each in self._coordinator.siblings() if each.state != "draining"]
        elsewhere = {sign.name for sign in self._elsewhere() if sign.state != "draining"}
        return {self.name_of(each.pid) for each in here} | elsewhere

    def leaving(self) -> int:
        """How many of the others leave, on whatever host."""
        elsewhere = sum(sign.state == "draining" for sign in self._elsewhere())
        return len(self._here("draining")) + elsewhere

    def knows(self, node: str) -> bool:
        """Whether clients name another worker so."""
        siblings = self._coordinator.siblings()
        return any(node == node_of(each, self._machine) for each in siblings) or any(
            node == sign.node for sign in self._elsewhere()
        )

    def _here(self, *states: str) -> set[str]:
        siblings = self._coordinator.siblings()
        return {self.name_of(each.pid) for each in siblings if not states or each.state in states}

    def _elsewhere(self) -> list[Sign]:
        # Of workers of this host the files say more, and at once.
        here = self._here() if self._machine else set()
        return [sign for sign in self._roster.present(self._clock()) if sign.name not in here]


def node_of(record: WorkerRecord, machine: str = "") -> str:
    """How clients name a worker: it tells nothing, and the next with its pid has another."""
    process = f"{machine} {record.pid} {record.started}".strip().encode()
    return hashlib.blake2b(process, digest_size=8).hexdigest()


def machine_name() -> str:
    """A name of this machine that no other has; of this container, where pids are its own.

    Reads small files of the system.
    """
    parts = [platform.node()]
    try:
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    except OSError:  # no Linux
        parts.append(str(uuid.getnode()))
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=6).hexdigest()
