"""The ready worker's side of a hand-over: what it can take it claims, and serves at once."""

import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.abc

from lastcall.catch_up import Remembered
from lastcall.connection import Connection
from lastcall.errors import BrokerUnavailable, InsufficientState
from lastcall.handover_messages import Done, Hello, Offer, Postscript, Welcome
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
    waiting: dict[int, Moving] = field(default_factory=dict)
    """Who could live here, and is not claimed."""
    served: dict[int, Connection] = field(default_factory=dict)
    replayed: int = 0
    """Messages that these had missed."""


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
                with self._mover.remembering(hello.channels) as remembered:
                    await channel.send(Welcome())
                    await self._take(channel, remembered)
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

    async def _take(self, channel: HandoverChannel, remembered: Mapping[str, Remembered]) -> None:
        message, descriptors = await channel.receive()
        if not isinstance(message, Offer) or len(descriptors) != 2 * len(message.states):
            close_all(descriptors)
            raise ValueError("an offer with a socket and a claim for each was due")
        count = len(message.states)
        offered = _Offered(Claims(descriptors[count:]))
        try:
            self._prepare(offered, message.states, descriptors[:count], remembered)
            # Nobody may stay half-way: whatever happens to this worker now, they end in order.
            with anyio.CancelScope(shield=True):
                await self._serve_all(offered)
            await self._say_what_was_done(channel, offered)
        finally:
            for moving in offered.waiting.values():
                self._mover.forget(moving)
            offered.claims.close()

    def _prepare(
        self,
        offered: _Offered,
        states: Sequence[bytes],
        clients: Sequence[int],
        remembered: Mapping[str, Remembered],
    ) -> None:
        if self._is_leaving():  # it was not when it said welcome
            close_all(clients)
            return
        for place, (state, descriptor) in enumerate(zip(states, clients, strict=True)):
            try:
                offered.waiting[place] = self._mover.prepare(state, descriptor, remembered)
            except ValueError as error:
                close_all([descriptor])
                log_event(
                    "refused",
                    "a connection cannot move here: {why}",
                    level=logging.INFO,
                    why=str(error),
                )

    async def _serve_all(self, offered: _Offered) -> None:
        """Serve those that nobody else has, and that can have all they missed."""
        await self._serve_those_that_lack_nothing(offered)
        if offered.waiting:
            await self._mover.complete(list(offered.waiting.values()), HISTORY_TIME)
            await self._serve_those_that_lack_nothing(offered)

    async def _serve_those_that_lack_nothing(self, offered: _Offered) -> None:
        # Side by side: each waits for a turn of the event loop, and so would all behind it.
        async with anyio.create_task_group() as tasks:
            for place, moving in tuple(offered.waiting.items()):
                if not moving.lacks and offered.claims.take(place):
                    del offered.waiting[place]
                    offered.served[place] = moving.connection
                    tasks.start_soon(self._arrive, offered, moving)

    async def _arrive(self, offered: _Offered, moving: Moving) -> None:
        replayed = await self._mover.arrive(moving)
        offered.replayed += replayed

    async def _say_what_was_done(self, channel: HandoverChannel, offered: _Offered) -> None:
        with suppress(OSError):  # if it is gone, what it said before that counts
            await channel.send(Done(offered.replayed))
        try:
            postscript = await channel.expect(Postscript)
        except (EOFError, OSError):
            postscript = Postscript({})
        for place, late in postscript.late.items():
            if place in offered.served:
                self._mover.add(offered.served[place], late)
        with anyio.CancelScope(shield=True):
            await self._tell_whom_nobody_has(offered)

    async def _tell_whom_nobody_has(self, offered: _Offered) -> None:
        """Of a dead worker: what these missed is gone, and nobody else is left to say so."""
        for place, moving in tuple(offered.waiting.items()):
            if offered.claims.take(place):
                del offered.waiting[place]
                await self._mover.arrive(moving)
                moving.connection.disconnect(InsufficientState())
