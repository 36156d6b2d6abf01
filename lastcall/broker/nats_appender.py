"""Appends publications to channels: each channel's in order, many channels at the same time."""

import asyncio
import random
from collections.abc import Iterable

import anyio
from anyio.abc import TaskGroup

from lastcall.broker.base import Kind, StreamPosition
from lastcall.broker.heard_channels import ANSWER_SECONDS, fail
from lastcall.broker.nats_api import KEY_SECONDS
from lastcall.broker.nats_appends import Append, Appends, Waiting
from lastcall.broker.nats_line import ConnectionLost, NatsLine, NobodyAnswers
from lastcall.broker.nats_messages import Entry, Head, Kept, head_of
from lastcall.broker.nats_names import message_id
from lastcall.broker.nats_streams import NatsStreams, new_epoch
from lastcall.errors import BrokerUnavailable

MAX_BYTES = 16 * 2**20
"""What may wait to be appended; more is refused at once."""
OVERHEAD = 512
"""About what a waiting publication takes beside its bytes."""
MESSAGE_BYTES = 128 * 1024
"""What leaves together in one message; a larger publication leaves alone."""
MESSAGE_OVERHEAD = 4096
"""Bytes of a message that are not its publications'."""
KNOWN_CHANNELS = 10_000
"""Of so many it is remembered where they stand; the others are looked at again."""
RIVALRY_SECONDS = 1.0
"""Who was overtaken lets others go first for so long, now and then; or the quickest goes always."""

FORGOTTEN = "it was published before, and so much since that its position is forgotten"

type Ticket = "asyncio.Future[StreamPosition]"


class NatsAppender:
    """Numbers what is published, and does it again where another worker was first."""

    def __init__(self, line: NatsLine, streams: NatsStreams) -> None:
        """Append by *streams*."""
        self._line = line
        self._streams = streams
        self._tasks: TaskGroup | None = None
        self._channels: dict[str, Appends[Ticket]] = {}
        self._busy: dict[str, Appends[Ticket]] = {}
        self._bytes = 0
        self._max_data = self._room = 0

    def open(self, tasks: TaskGroup) -> None:
        """Begin; what is appended is appended by *tasks*."""
        self._tasks = tasks

    def connected(self, max_payload: int) -> None:
        """Go on at a server whose messages have *max_payload* bytes at most."""
        self._max_data = max(0, max_payload - MESSAGE_OVERHEAD)
        self._room = min(MESSAGE_BYTES, self._max_data)
        # It may be another stream by now.
        for appends in self._channels.values():
            appends.head = None

    def expire(self, now: float) -> None:
        """Fail what has waited too long."""
        for appends in self._busy.values():
            self._fail(appends.expire(now), self._line.problem)

    def close(self, reason: str) -> None:
        """Fail all that waits."""
        self._tasks = None
        for appends in self._busy.values():
            self._fail(appends.abandon(), reason)
        self._busy.clear()
        self._channels.clear()

    def saw(self, channel: str, kept: Kept) -> None:
        """This is the last message of *channel* now."""
        if appends := self._channels.get(channel):
            appends.saw(head_of(kept))

    def publish(
        self, channel: str, data: bytes, *, kind: Kind, about: bytes, key: str
    ) -> "asyncio.Future[StreamPosition]":
        """See `Broker.publish`."""
        answer: Ticket = asyncio.get_running_loop().create_future()
        size = len(data) + len(about)
        if self._max_data and size > self._max_data:
            fail(answer, f"more than the {self._max_data} bytes that this NATS takes (max_payload)")
        elif self._bytes + size + OVERHEAD > MAX_BYTES:
            fail(answer, f"too much waits for NATS: {self._line.problem}")
        else:
            self._bytes += size + OVERHEAD
            until = anyio.current_time() + ANSWER_SECONDS
            entry = Entry(data, kind, about)
            known_by = message_id(channel, key) if key else ""
            self._appends(channel).add(Waiting(entry, size + OVERHEAD, until, known_by, answer))
        return answer

    def _appends(self, channel: str) -> Appends[Ticket]:
        """Those of *channel*, with somebody who works on them."""
        appends = self._busy.get(channel)
        if appends is None:
            assert self._tasks is not None  # noqa: S101  (nobody publishes before `open`)
            # Put behind the others, so that the first is the one that was not used for longest.
            appends = self._channels.pop(channel, None) or Appends()
            self._channels[channel] = self._busy[channel] = appends
            self._tasks.start_soon(self._work, channel, appends)
            self._forget_one()
        return appends

    def _forget_one(self) -> None:
        if len(self._channels) > KNOWN_CHANNELS:
            first = next(iter(self._channels))
            oldest = self._channels.pop(first)
            if first in self._busy:
                self._channels[first] = oldest

    async def _work(self, channel: str, appends: Appends[Ticket]) -> None:
        rivals_until = 0.0
        while not appends.is_empty:
            await self._line.opened()
            if appends.head is None:
                await self._look(channel, appends)
            elif (append := appends.leave(self._streams.now(), self._room)) is not None:
                sent = anyio.current_time()
                if await self._append(channel, appends, append):
                    rivals_until = anyio.current_time() + RIVALRY_SECONDS
                elif (now := anyio.current_time()) < rivals_until:
                    # Time enough for another to look, and to send.
                    await anyio.sleep((now - sent) * random.uniform(1, 4))  # noqa: S311
        del self._busy[channel]

    async def _look(self, channel: str, appends: Appends[Ticket]) -> None:
        try:
            last = await self._streams.last(channel)
        except (ConnectionLost, NobodyAnswers):
            return  # there may be another connection soon enough
        except BrokerUnavailable as problem:
            self._fail(appends.abandon(), str(problem))
        else:
            nothing = Head(StreamPosition(0, new_epoch()), ())
            appends.saw(nothing if last is None else head_of(last))

    async def _append(self, channel: str, appends: Appends[Ticket], append: Append) -> bool:
        """Send a message and see what becomes of it; return whether somebody else was first."""
        try:
            done = await self._streams.append(
                channel,
                append.stored,
                append.expected,
                message_id=append.message_id,
                until=append.until,
            )
        except NobodyAnswers:
            appends.refused()
            return False
        except BrokerUnavailable as problem:
            self._fail(appends.lost(), str(problem))
            return False
        if done.error is not None and done.error.is_overtaken:
            appends.refused()
            return True
        if done.error is not None:
            self._fail(appends.lost(), f"NATS refused: {done.error.description}")
        elif done.duplicate:
            await self._find(channel, appends, done.seq)
        else:
            for waiting, position in appends.stored(done.seq):
                self._settle(waiting, position)
        return False

    async def _find(self, channel: str, appends: Appends[Ticket], sequence: int) -> None:
        """What is under way was published before, by the message of this *sequence*."""
        try:
            kept = await self._streams.message(channel, sequence)
        except BrokerUnavailable as problem:
            self._fail(appends.lost(), str(problem))
            return
        if kept is None:
            self._fail(appends.lost(), FORGOTTEN)
        elif kept.stored.at <= self._streams.now() - KEY_SECONDS * 1000:
            appends.publish_again(sequence)
        else:
            position = StreamPosition(kept.stored.first, kept.stored.epoch)
            for waiting in appends.lost():
                self._settle(waiting, position)

    def _settle(self, waiting: Waiting[Ticket], position: StreamPosition) -> None:
        self._bytes -= waiting.size
        if not waiting.ticket.done():
            waiting.ticket.set_result(position)

    def _fail(self, failed: Iterable[Waiting[Ticket]], reason: str) -> None:
        for waiting in failed:
            self._bytes -= waiting.size
            fail(waiting.ticket, reason)
