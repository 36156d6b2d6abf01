"""The leaving worker's side of a hand-over: who moves, where to, and what if nobody takes them."""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from lastcall.connection import Connection, Paused
from lastcall.handover_messages import Abort, Commit, Done, Hello, Offer, Prepared, Welcome
from lastcall.logs import log_event
from lastcall.moving import Mover, Moving
from lastcall.moving_out import HandOver
from lastcall.process_identity import ProcessIdentity
from lastcall.socket_handover import BATCH, HandoverChannel, reach, socket_path
from lastcall.worker import Worker
from lastcall.worker_coordinator import WorkerRecord

HELLO_TIME = 0.5
"""Seconds to answer before anything is frozen: a stopped worker must not delay the notice."""
PREPARE_TIME = 1.0
"""Seconds to answer an offer, while the clients of the batch are served by nobody."""
DONE_TIME = 5.0
"""Seconds after which who said that it would go on with them is taken for dead."""
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
        self.moved = 0
        self.longest_pause = 0.0
        self._worker = worker
        self._mover = mover
        self._run_dir = run_dir
        itself = ProcessIdentity.of(os.getpid())
        self._started = itself.started if itself else 0
        self._avoided: dict[int, float] = {}
        self._unaborted: list[HandoverChannel] = []

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
                if channel not in self._unaborted:
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
        try:
            with anyio.fail_after(PREPARE_TIME):
                states = [each.state.encode() for each in frozen]
                await channel.send(Offer(states), [each.descriptor for each in frozen])
                prepared = await channel.expect(Prepared)
                refused = _chosen(frozen, prepared.refused)
        except Exception as error:  # whatever it is, nobody may stay frozen
            await self._take_back(frozen)
            await self._abort(channel)
            self._avoided[target.pid] = anyio.current_time() + AVOID_TIME
            raise NotTakenError(str(error) or "no answer to an offer") from error
        await self._commit(channel, frozen, refused)
        self.longest_pause = max(self.longest_pause, anyio.current_time() - since)
        if refused:
            raise NotTakenError(f"{len(refused)} of {len(frozen)} were refused")

    async def _commit(
        self, channel: HandoverChannel, frozen: Sequence[Moving], refused: Sequence[Moving]
    ) -> None:
        leaving = [each for each in frozen if each not in refused]
        places = {place: each for place, each in enumerate(frozen) if each in leaving}
        written = {n: each.late for n, each in places.items() if each.has_late}
        try:
            with anyio.fail_after(DONE_TIME):
                await channel.send(Commit(written))
                await channel.expect(Done)
        except (OSError, EOFError, ValueError) as error:
            if channel.has_sent_nothing:
                # It died before it could know that they are its own.
                await self._take_back(leaving)
            else:
                await self._mover.lose(leaving)
            raise NotTakenError("it died while it took them") from error
        finally:
            await self._take_back(refused)
        for moving in leaving:
            self._mover.departed(moving)
        self.moved += len(leaving)

    async def _take_back(self, frozen: Sequence[Moving]) -> None:
        for moving in frozen:
            await self._mover.take_back(moving)

    async def _abort(self, channel: HandoverChannel) -> None:
        if channel.is_inside_message:
            return  # half an offer is none
        try:
            with anyio.fail_after(HELLO_TIME):
                await channel.send(Abort())
        except TimeoutError:
            # It is stopped, and its end of the stream is full. A stream that ended here would tell
            # it that we are dead and the connections its own, so this one must not end.
            self._unaborted.append(channel)
        except OSError:
            pass  # it is dead


def _batches(connections: Sequence[Connection]) -> list[Sequence[Connection]]:
    quick = [each for each in connections if each.backlog < LARGE_BACKLOG]
    slow = [each for each in connections if each.backlog >= LARGE_BACKLOG]
    whole = [quick[start : start + BATCH] for start in range(0, len(quick), BATCH)]
    return [*whole, *([each] for each in slow)]


def _chosen(frozen: Sequence[Moving], places: Sequence[int]) -> list[Moving]:
    if not all(0 <= place < len(frozen) for place in places):
        raise ValueError("it refuses what was not offered")
    return [frozen[place] for place in sorted(set(places))]


if TYPE_CHECKING:
    _: type[HandOver] = HandoverSender
