"""The leaving worker's side of a hand-over: who moves, where to, and what if nobody takes them."""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from lastcall.connection import Connection, Paused
from lastcall.handover_messages import Commit, Done, Hello, Offer, Prepared, Welcome
from lastcall.logs import log_event
from lastcall.moving import Mover, Moving
from lastcall.moving_out import HandOver
from lastcall.process_identity import ProcessIdentity
from lastcall.socket_handover import BATCH, Claims, HandoverChannel, reach, socket_path
from lastcall.worker import Worker
from lastcall.worker_record import WorkerRecord

HELLO_TIME = 0.5
"""Seconds to answer before anything is frozen: a stopped worker must not delay the notice."""
PAUSE_TIME = 0.9
"""Seconds for which the clients of a batch may be served by nobody; then it is taken back."""
BUSY_TIME = 0.05
"""Seconds for which clients are not read from, so that what they asked for can be done."""
AVOID_TIME = 2.0
"""Seconds before a worker is asked again that did not answer."""
LARGE_BACKLOG = 262_144
"""Bytes; a client with more unread travels alone, so that it makes nobody else wait."""


class NotTakenError(Exception):
    """The other worker does not take them; says why."""


@dataclass(slots=True)
class Target:
    """A worker that may take connections, and how many it will have."""

    pid: int
    is_older: bool
    connections: int


class HandoverSender:
    """Hands the connections of this worker over to its siblings, batch by batch."""

    def __init__(self, worker: Worker, mover: Mover, run_dir: Path) -> None:
        """Find the siblings' sockets in *run_dir*."""
        self.moved = self.lost = self.replayed = 0
        self.longest_pause = 0.0
        self._worker = worker
        self._mover = mover
        self._run_dir = run_dir
        itself = ProcessIdentity.of(os.getpid())
        self._started = itself.started if itself else 0
        self._avoided: dict[int, float] = {}

    async def round(self, siblings: Sequence[WorkerRecord]) -> None:
        """See `HandOver.round`."""
        targets = self._targets(siblings)
        taken: Counter[int] = Counter()
        for batch in _batches(self._worker.connections.movable()):
            await self._move_somewhere(batch, targets, taken)
        for pid, count in taken.items():
            log_event(
                "handed_over",
                "handed {count} clients over to worker {pid}",
                count=count,
                pid=pid,
            )

    async def _move_somewhere(
        self, batch: Sequence[Connection], targets: list[Target], taken: Counter[int]
    ) -> None:
        while targets:
            # The new generation first, else the connections would move again and again.
            target = min(targets, key=lambda each: (each.is_older, each.connections))
            before = self.moved
            try:
                await self._move(batch, target)
            except NotTakenError as error:
                targets.remove(target)
                log_event(
                    "not_handed_over",
                    "worker {pid} does not take connections: {why}",
                    level=logging.DEBUG,
                    pid=target.pid,
                    why=str(error),
                )
            else:
                return
            finally:
                if moved := self.moved - before:
                    target.connections += moved
                    taken[target.pid] += moved

    def _targets(self, siblings: Sequence[WorkerRecord]) -> list[Target]:
        now = anyio.current_time()
        return [
            Target(each.pid, each.started <= self._started, each.connections)
            for each in siblings
            if self._avoided.get(each.pid, now) <= now
        ]

    async def _move(self, batch: Sequence[Connection], target: Target) -> None:
        try:
            with anyio.fail_after(HELLO_TIME):
                channel = await self._say_hello(batch, target)
        except (OSError, EOFError, ValueError) as error:
            self._avoided[target.pid] = anyio.current_time() + AVOID_TIME
            raise NotTakenError(str(error) or "no answer") from error
        # From the freeze on nobody else has the clients: the drain's end waits for ours.
        with anyio.CancelScope(shield=True):
            try:
                frozen = await self._freeze(batch)
                if frozen:
                    await self._offer(channel, frozen, target)
            finally:
                channel.close()

    async def _say_hello(self, batch: Sequence[Connection], target: Target) -> HandoverChannel:
        channel = await reach(socket_path(self._run_dir, target.pid))
        try:
            channels = {name for connection in batch for name in connection.channels}
            await channel.send(Hello(len(batch), sorted(channels)))
            welcome = await channel.expect(Welcome)
        except BaseException:
            channel.close()
            raise
        if welcome.refusal:
            channel.close()
            raise NotTakenError(welcome.refusal)
        return channel

    async def _freeze(self, batch: Sequence[Connection]) -> list[Moving]:
        has_done_all = self._worker.commands.has_done_all
        busy = [each for each in batch if not has_done_all(each)]
        for connection in busy:
            connection.pause(Paused.MOVE)
        with anyio.move_on_after(BUSY_TIME):
            while not all(map(has_done_all, busy)):  # noqa: ASYNC110  (hooks have no event)
                await anyio.sleep(0.002)
        frozen = self._mover.freeze(batch)
        for connection in busy:
            connection.resume(Paused.MOVE)
        return frozen

    async def _offer(
        self, channel: HandoverChannel, frozen: Sequence[Moving], target: Target
    ) -> None:
        since = anyio.current_time()
        failure: Exception | None = None
        batch = _Batch(frozen)
        try:
            batch.claims = Claims.of(len(frozen))
            with anyio.fail_after(PAUSE_TIME):
                await self._converse(channel, batch)
        except Exception as error:  # noqa: BLE001  (whatever it is, nobody may stay frozen)
            failure = error
            self._avoided[target.pid] = anyio.current_time() + AVOID_TIME
        # Now it is decided, whatever the other one does, or does when it wakes up.
        left, taken = batch.divide()
        for moving in left:
            await self._mover.take_back(moving)
        if failure is None or isinstance(failure, TimeoutError):
            self._departed(taken)
        else:
            self.lost += len(taken)
            await self._mover.lose(taken)
        self.longest_pause = max(self.longest_pause, anyio.current_time() - since)
        if failure is not None:
            raise NotTakenError(str(failure) or "it did not take them in time") from failure
        if left:
            raise NotTakenError(f"{len(left)} of {len(frozen)} were refused")

    async def _converse(self, channel: HandoverChannel, batch: "_Batch") -> None:
        # Whoever announces our clients as gone after our death must not count these: from the next
        # line on the other worker has them then.
        self._worker.record()
        states = [each.state.encode() for each in batch.frozen]
        await channel.send(Offer(states), batch.descriptors)
        prepared = await channel.expect(Prepared)
        batch.refuse(prepared.refused)
        late = {place: each.late for place, each in enumerate(batch.frozen) if each.has_late}
        await channel.send(Commit(late))
        done = await channel.expect(Done)
        self.replayed += done.replayed

    def _departed(self, taken: Sequence[Moving]) -> None:
        for moving in taken:
            self._mover.departed(moving)
        self.moved += len(taken)


@dataclass(slots=True)
class _Batch:
    """Connections that are offered."""

    frozen: Sequence[Moving]
    claims: Claims | None = None
    """None: this worker is short of descriptors, and all stay."""
    refused: set[int] = field(default_factory=set)

    @property
    def descriptors(self) -> list[int]:
        """What goes with the offer."""
        claims = [] if self.claims is None else [self.claims.descriptor]
        return [*claims, *(each.descriptor for each in self.frozen)]

    def refuse(self, places: Sequence[int]) -> None:
        """The other worker will not serve those at *places*.

        Raises:
            ValueError: they were not offered.
        """
        if not all(0 <= place < len(self.frozen) for place in places):
            raise ValueError("it refuses what was not offered")
        self.refused.update(places)

    def divide(self) -> tuple[list[Moving], list[Moving]]:
        """Those that stay here from now on, and those that the other worker has claimed."""
        left = set(range(len(self.frozen)))
        if self.claims is not None:
            left = self.claims.rest() | self.refused
            self.claims.close()
        places = list(enumerate(self.frozen))
        return (
            [each for place, each in places if place in left],
            [each for place, each in places if place not in left],
        )


def _batches(connections: Sequence[Connection]) -> list[Sequence[Connection]]:
    quick = [each for each in connections if each.backlog < LARGE_BACKLOG]
    slow = [each for each in connections if each.backlog >= LARGE_BACKLOG]
    whole = [quick[start : start + BATCH] for start in range(0, len(quick), BATCH)]
    return [*whole, *([each] for each in slow)]


if TYPE_CHECKING:
    _: type[HandOver] = HandoverSender
