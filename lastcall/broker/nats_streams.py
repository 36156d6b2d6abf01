"""The channels' streams in NATS: where they stand, what can be read, and how they forget."""

import asyncio
import secrets
from collections.abc import Callable

from lastcall.broker.base import History, Retention, StreamPosition
from lastcall.broker.following import Page
from lastcall.broker.heard_channels import PAGE
from lastcall.broker.nats_api import KEY_SECONDS, Ack, Wish, ack, get, get_last, got, purge
from lastcall.broker.nats_line import NatsLine
from lastcall.broker.nats_messages import Kept, Stored, encode
from lastcall.broker.nats_names import Names
from lastcall.broker.nats_pages import Mark, Reading, forgetting, mark
from lastcall.broker.nats_wire import Message, headers
from lastcall.errors import BrokerUnavailable, UnrecoverablePosition

IDLE_SECONDS = 3600
"""How long a channel without publications and subscribers keeps its position past its ttl."""


class NatsStreams:
    """Asks what lies in a stream; who appends publications to it is `nats_appender`."""

    def __init__(
        self,
        line: NatsLine,
        names: Names,
        limits: Retention,
        clock: Callable[[], float],
    ) -> None:
        """Ask by *line*."""
        self._line = line
        self._names = names
        self._limits = limits
        self._clock = clock
        self._seconds = max(limits.ttl, KEY_SECONDS) + IDLE_SECONDS

    def wish(self, replicas: int) -> Wish:
        """How the stream has to be."""
        return Wish(self._limits.size, self._seconds, replicas)

    def now(self) -> int:
        """The time in milliseconds."""
        return int(self._clock() * 1000)

    async def last(self, channel: str) -> Kept | None:
        """The channel's last message, if there is one."""
        subject = self._names.subject(channel)
        return await self._get(subject, get_last(subject))

    async def message(self, channel: str, sequence: int) -> Kept | None:
        """A message of the channel, if it is still there."""
        return await self._get(self._names.subject(channel), get(sequence))

    async def append(
        self,
        channel: str,
        stored: Stored,
        expected: int,
        *,
        message_id: str = "",
        until: float | None = None,
    ) -> Ack:
        """Append a message, if the channel's last one has the sequence *expected*.

        Raises:
            NobodyAnswers: it was not appended.
            BrokerUnavailable: it is not known what became of it.
        """
        pairs = [("Nats-Expected-Last-Subject-Sequence", str(expected))]
        if message_id:
            pairs.append(("Nats-Msg-Id", message_id))
        subject = self._names.subject(channel)
        answer = await self._line.ask(subject, encode(stored), headers(pairs), until=until)
        return _readable(ack, answer.payload)

    async def read(
        self,
        channel: str,
        since: StreamPosition | None,
        limit: int = PAGE,
        *,
        was_there: bool = False,
    ) -> Page:
        """Read what follows *since*, or everything, and where the channel stands.

        Who has heard the publication at *since* itself says so by *was_there*: if the stream does
        not reach that far any more, it begins anew, in another epoch.
        """
        last = await self._marked(channel, since if was_there else None)
        limits = self._limits.of(channel)
        reading = Reading(channel, last, since, limit, limits, now=self.now())
        while wanted := reading.wanted:
            subject = self._names.subject(channel)
            answers = await asyncio.gather(*(self._ask(get(sequence)) for sequence in wanted))
            reading.take([_readable(got, answer.payload, subject) for answer in answers])
        return reading.page()

    async def history(
        self, channel: str, since: StreamPosition | None, limit: int | None
    ) -> History:
        """See `Broker.history`."""
        size = self._limits.of(channel).size if limit is None else max(limit, 0)
        here = await self.read(channel, since, size)
        if since is not None and not here.is_reached:
            raise UnrecoverablePosition(
                f"{channel!r} does not reach back to {since.offset} of epoch {since.epoch!r}"
            )
        return History(here.publications, here.top)

    async def clear(self, channel: str) -> None:
        """See `Broker.clear`; a message says where the channel goes on, and all before it goes."""
        while (last := await self.last(channel)) is not None:
            said = forgetting(last, self.now())
            done = await self.append(channel, said.stored, said.expected)
            if done.error is None:
                subject = f"$JS.API.STREAM.PURGE.{self._names.stream}"
                question = purge(self._names.subject(channel), done.seq)
                done = _readable(ack, (await self._line.ask(subject, question)).payload)
                if done.error is None:
                    return
            if not done.error.is_overtaken:
                raise BrokerUnavailable(f"NATS refused: {done.error.description}")

    async def _marked(self, channel: str, heard: StreamPosition | None) -> Kept:
        """The channel's last message, after what has to be said about it."""
        while True:
            last = await self.last(channel)
            said = self._mark(last, heard)
            if said is None and last is not None:
                return last
            assert said is not None  # noqa: S101  (of an empty channel there is something to say)
            done = await self.append(channel, said.stored, said.expected)
            if done.error is not None and not done.error.is_overtaken:
                if last is not None and not said.is_necessary:
                    return last  # what is full can still be read
                raise BrokerUnavailable(f"NATS refused: {done.error.description}")

    def _mark(self, last: Kept | None, heard: StreamPosition | None) -> Mark | None:
        renew = int(self._seconds * 500)
        return mark(last, heard, now=self.now(), renew=renew, new_epoch=new_epoch())

    async def _get(self, subject: str, question: bytes) -> Kept | None:
        return _readable(got, (await self._ask(question)).payload, subject)

    def _ask(self, question: bytes) -> "asyncio.Future[Message]":
        return self._line.ask(f"$JS.API.STREAM.MSG.GET.{self._names.stream}", question)


def new_epoch() -> str:
    """An epoch that there has not been yet."""
    return secrets.token_urlsafe(9)


def _readable[**Rest, Answer](
    read: Callable[Rest, Answer], *args: Rest.args, **kwargs: Rest.kwargs
) -> Answer:
    try:
        return read(*args, **kwargs)
    except ValueError as error:
        raise BrokerUnavailable(f"what lies in NATS cannot be read: {error}") from error
