"""The ready worker's side of a hand-over: what it takes, and when it is sure that it is its own."""

import logging
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.abc

from lastcall.errors import BrokerUnavailable, InsufficientState
from lastcall.handover_messages import (
    Commit,
    Done,
    Hello,
    Late,
    Offer,
    Prepared,
    Welcome,
)
from lastcall.logs import log_event
from lastcall.moving import Mover, Moving
from lastcall.socket_handover import (
    Claims,
    HandoverChannel,
    accept,
    close_all,
    listening,
)
from lastcall.worker import Worker

HELLO_TIME = 5.0
"""Seconds in which who connects has to say something."""
SUBSCRIBE_TIME = 0.4
"""Seconds until the channels are there; the other waits half a second."""
HISTORY_TIME = 0.5
"""Seconds until what was missed is there; the other waits one."""
RETRY_TIME = 0.2


@dataclass(slots=True)
class _Offered:
    """A batch, by the places that the other knows it by."""

    claims: Claims
    arriving: dict[int, Moving]
    incomplete: dict[int, Moving]
    """Clients whose history is gone: taken only if their worker is gone, too."""
    refused: list[int]


class HandoverReceiver:
    """Takes connections over from siblings that leave, as long as this worker does not."""

    def __init__(
        self, worker: Worker, mover: Mover, path: Path, is_leaving: Callable[[], bool]
    ) -> None:
        """Listen at *path*; refuse when *is_leaving*."""
        self._worker = worker
        self._mover = mover
        self._path = path
        self._is_leaving = is_leaving

    async def run(self) -> None:
        """Take connections over until cancelled; without a socket, none, and the log says so."""
        try:
            async with listening(self._path) as listener, anyio.create_task_group() as tasks:
                await self._accept(listener, tasks)
        except OSError as error:
            log_event(
                "no_handover",
                "no connection can be handed over to this worker: {why}",
                level=logging.WARNING,
                why=str(error),
            )
            await anyio.sleep_forever()

    async def _accept(self, listener: socket.socket, tasks: anyio.abc.TaskGroup) -> None:
        while True:
            try:
                channel = await accept(listener)
            except OSError:
                await anyio.sleep(RETRY_TIME)  # out of descriptors; the other waits, or goes
                continue
            if channel is not None:
                tasks.start_soon(self._serve, channel)

    async def _serve(self, channel: HandoverChannel) -> None:
        try:
            with anyio.fail_after(HELLO_TIME):
                hello = await channel.expect(Hello)
            refusal = self._refusal(hello) or await self._listen(hello)
            if refusal:
                await channel.send(Welcome(refusal))
                return
            try:
                await channel.send(Welcome())
                await self._take(channel)
            finally:
                self._worker.interest.stop_listening(hello.channels)
        except (OSError, EOFError, ValueError) as error:
            log_event(
                "handover_broken",
                "a hand-over ended early: {why}",
                level=logging.DEBUG,
                why=str(error),
            )
        finally:
            channel.close()

    def _refusal(self, hello: Hello) -> str:
        if self._is_leaving():
            return "it is leaving itself"
        room = self._worker.max_connections - self._worker.connections.count_with_expected
        return "" if hello.count <= room else "it is full"

    async def _listen(self, hello: Hello) -> str:
        # Before anything is frozen: the broker may be without a sequencer for a moment.
        try:
            with anyio.fail_after(SUBSCRIBE_TIME):
                await self._worker.interest.listen(hello.channels)
        except (BrokerUnavailable, TimeoutError):
            return "its broker does not answer"
        return ""

    async def _take(self, channel: HandoverChannel) -> None:
        message, descriptors = await channel.receive()
        if not isinstance(message, Offer) or len(descriptors) != len(message.states) + 1:
            close_all(descriptors)
            raise ValueError("an offer with as many sockets was due")
        offered = self._prepare(message.states, descriptors)
        try:
            await self._complete(offered)
            commit = await self._answer(channel, offered)
            replayed = 0
            # Nobody may stay half-way: whatever happens to this worker now, they end in order.
            with anyio.CancelScope(shield=True):
                replayed = await self._claim(offered, commit)
            if commit is not None:
                await channel.send(Done(replayed))
        finally:
            for moving in (*offered.arriving.values(), *offered.incomplete.values()):
                self._mover.forget(moving)
            offered.claims.close()

    def _prepare(self, states: Sequence[bytes], descriptors: Sequence[int]) -> _Offered:
        claims, *clients = descriptors
        offered = _Offered(Claims(claims), {}, {}, [])
        if self._is_leaving():  # it was not when it said welcome
            close_all(clients)
            offered.refused += range(len(states))
            return offered
        for place, (state, descriptor) in enumerate(zip(states, clients, strict=True)):
            try:
                offered.arriving[place] = self._mover.prepare(state, descriptor)
            except ValueError as error:
                close_all([descriptor])
                offered.refused.append(place)
                log_event(
                    "refused",
                    "a connection cannot move here: {why}",
                    level=logging.INFO,
                    why=str(error),
                )
        return offered

    async def _complete(self, offered: _Offered) -> None:
        await self._mover.complete(list(offered.arriving.values()), HISTORY_TIME)
        for place, moving in tuple(offered.arriving.items()):
            if moving.is_incomplete:
                offered.incomplete[place] = offered.arriving.pop(place)
                offered.refused.append(place)

    async def _answer(self, channel: HandoverChannel, offered: _Offered) -> Commit | None:
        """What the other has to say; None: it is dead, or has taken them back."""
        with suppress(OSError):  # if it is gone, what it said before that counts
            await channel.send(Prepared(offered.refused))
        try:
            return await channel.expect(Commit)
        except (EOFError, OSError):
            return None

    async def _claim(self, offered: _Offered, commit: Commit | None) -> int:
        """Serve those that nobody else has; return how many messages they had missed."""
        late, replayed = {} if commit is None else commit.late, 0
        while (place := offered.claims.next()) is not None:
            if place in offered.arriving:
                moving = offered.arriving.pop(place)
                replayed += await self._mover.arrive(moving, late.get(place, Late()))
            elif commit is None and place in offered.incomplete:
                # What they missed is gone. They have to be told, and nobody else is left to do it.
                moving = offered.incomplete.pop(place)
                await self._mover.arrive(moving, Late())
                moving.connection.disconnect(InsufficientState())
        return replayed
