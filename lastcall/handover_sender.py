"""The leaving worker's side of a hand-over: who moves, where to, and what if nobody takes them."""

import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from lastcall.batch_size import BatchSize
from lastcall.connection import Connection, Paused
from lastcall.handover_messages import Done, Hello, Offer, Postscript, Welcome
from lastcall.logs import log_event
from lastcall.moving import Mover, Moving
from lastcall.moving_out import HandOver
from lastcall.moving_turn import Turn
from lastcall.process_identity import ProcessIdentity
from lastcall.socket_handover import Claims, HandoverChannel, reach, socket_path
from lastcall.worker import Worker
from lastcall.worker_record import WorkerRecord

HELLO_TIME = 0.5
"""Seconds to answer before anything is frozen: a stopped worker must not delay the notice."""
PAUSE_TIME = 0.9
"""Seconds for which the clients of a batch may be served by nobody; then it is taken back."""
BUSY_TIME = 0.05
"""Seconds for which clients are not read from, so that what they asked for can be done."""
LAST_WORD_TIME = 0.1
"""Seconds to say what comes after the rest, to a worker that may be stopped."""
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

    @property
    def rank(self) -> tuple[bool, int, int]:
        """Who comes first is asked first.

        The new generation, else the connections would move again and again; then who has few. Where
        that does not decide, those who leave together do not all ask the same one.
        """
        return self.is_older, self.connections, self.pid ^ os.getpid()


class HandoverSender:
    """Hands the connections of this worker over to its siblings, batch by batch."""

    def __init__(self, worker: Worker, mover: Mover, run_dir: Path) -> None:
        """Find the siblings' sockets in *run_dir*."""
        self.signs = self.moved = self.lost = self.replayed = 0
        self.longest_pause = 0.0
        self._worker = worker
        self._mover = mover
        self._run_dir = run_dir
        itself = ProcessIdentity.of(os.getpid())
        self._started = itself.started if itself else 0
        self._avoided: dict[int, float] = {}
        self._batch_size = BatchSize()
        self._turn = Turn(run_dir / "moving.lock")

    async def round(self, siblings: Sequence[WorkerRecord]) -> None:
        """See `HandOver.round`."""
        targets = self._targets(siblings)
        taken: Counter[int] = Counter()
        for batch in self._batches(self._worker.connections.movable()):
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
            target = min(targets, key=lambda each: each.rank)
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

    def _batches(self, connections: Sequence[Connection]) -> Iterator[Sequence[Connection]]:
        quick = [each for each in connections if each.backlog < LARGE_BACKLOG]
        slow = [each for each in connections if each.backlog >= LARGE_BACKLOG]
        while quick:
            size = self._batch_size.next
            yield quick[:size]
            quick = quick[size:]
        for each in slow:
            yield [each]

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
                await self._let_finish(batch)
                async with self._turn.taken():
                    frozen = self._mover.freeze(batch)
                    for connection in batch:
                        connection.resume(Paused.MOVE)
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
        self.signs += 1
        return channel

    async def _let_finish(self, batch: Sequence[Connection]) -> None:
        """Wait a moment for what the application is doing for some of them."""
        has_done_all = self._worker.commands.has_done_all
        busy = [each for each in batch if not has_done_all(each)]
        for connection in busy:
            connection.pause(Paused.MOVE)
        with anyio.move_on_after(BUSY_TIME):
            while not all(map(has_done_all, busy)):  # noqa: ASYNC110  (hooks have no event)
                await anyio.sleep(0.002)

    async def _offer(
        self, channel: HandoverChannel, frozen: Sequence[Moving], target: Target
    ) -> None:
        since = anyio.current_time()
        failure: Exception | None = None
        claims = Claims([])
        try:
            claims = Claims.of(len(frozen))
            with anyio.fail_after(PAUSE_TIME):
                await self._converse(channel, frozen, claims)
        except Exception as error:  # noqa: BLE001  (whatever it is, nobody may stay frozen)
            failure = error
            self._avoided[target.pid] = anyio.current_time() + AVOID_TIME
        # Now it is decided, whatever the other one does, or does when it wakes up.
        left = claims.rest() if claims.descriptors else {*range(len(frozen))}
        claims.close()
        async with anyio.create_task_group() as tasks:
            for place in left:
                tasks.start_soon(self._mover.take_back, frozen[place])
        taken = {place: each for place, each in enumerate(frozen) if place not in left}
        if failure is None or isinstance(failure, TimeoutError):
            await self._depart(channel, taken)
        else:
            self.lost += len(taken)
            await self._mover.lose(list(taken.values()))
        self._note_pause(anyio.current_time() - since)
        if failure is not None:
            raise NotTakenError(str(failure) or "it did not take them in time") from failure
        if left:
            raise NotTakenError(f"{len(left)} of {len(frozen)} were refused")

    async def _converse(
        self, channel: HandoverChannel, frozen: Sequence[Moving], claims: Claims
    ) -> None:
        # Whoever announces our clients as gone after our death must not count these: from the next
        # line on the other worker has them then.
        self._worker.record()
        states = [each.state.encode() for each in frozen]
        clients = [each.descriptor for each in frozen]
        await channel.send(Offer(states), clients + claims.descriptors)
        done = await channel.expect(Done)
        self.replayed += done.replayed

    async def _depart(self, channel: HandoverChannel, taken: Mapping[int, Moving]) -> None:
        """Forget who is the other worker's, and pass on what it cannot know."""
        late = {place: each.late for place, each in taken.items() if each.late is not None}
        for moving in taken.values():
            self._mover.departed(moving)
        self.moved += len(taken)
        self.signs += 1
        if late:
            with suppress(OSError), anyio.move_on_after(LAST_WORD_TIME):
                await channel.send(Postscript(late))

    def _note_pause(self, pause: float) -> None:
        self.longest_pause = max(self.longest_pause, pause)
        self._batch_size.took(pause)


if TYPE_CHECKING:
    _: type[HandOver] = HandoverSender
