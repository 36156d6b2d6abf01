"""Asks all workers of a server without being one of them: for commands, which come and go."""

import secrets
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import anyio
import msgspec

from lastcall.broker.base import Broker, BrokerEvents, Kind, Publication, StreamPosition
from lastcall.channels import ANSWERS
from lastcall.errors import BrokerUnavailable
from lastcall.everyone import ORDERS, PATIENCE, Order, Reply

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

CONNECT_PATIENCE = 5.0
"""Seconds until the broker has to be reached."""

type Answers = Mapping[str, bytes]
"""What workers said, by their names, see `Peers`."""


class Outsider:
    """Hears the answers to one question. Workers do not hear of who asked."""

    def __init__(self, broker: Broker) -> None:
        """Ask over *broker*, which does not run yet."""
        self._broker = broker
        self._name = secrets.token_hex(8)
        self._answers: dict[str, bytes] = {}
        self._news = anyio.Event()

    async def ask(self, what: str, is_complete: Callable[[Answers], bool]) -> Answers:
        """Ask all workers; return what they said once it *is_complete*, or time is over.

        Raises:
            BrokerUnavailable: nobody could be asked.
        """
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:
            try:
                with anyio.fail_after(CONNECT_PATIENCE):
                    await tasks.start(self._run)
                await self._put_question(what)
                with anyio.move_on_after(PATIENCE):
                    while not is_complete(self._answers):
                        self._news = anyio.Event()
                        await self._news.wait()
            except (BrokerUnavailable, TimeoutError) as error:
                failure = error  # raised here it would come out as a group
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise BrokerUnavailable(str(failure) or "the broker cannot be reached") from failure
        return self._answers

    async def _put_question(self, what: str) -> None:
        await self._broker.subscribe(ANSWERS + self._name)
        order = msgspec.msgpack.encode(Order(what, b"", self._name, 1))
        await self._broker.publish(ORDERS, order, kind=Kind.BINARY)

    async def _run(self, *, task_status: "TaskStatus[None]") -> None:
        await self._broker.run(self, task_status=task_status)

    def deliver(self, publication: Publication, /) -> None:
        """See `BrokerEvents.deliver`: an answer."""
        reply = msgspec.msgpack.decode(publication.data, type=Reply)
        self._answers[reply.name] = reply.body
        self._news.set()

    def reset(self, channel: str, position: StreamPosition, /) -> None:
        """See `BrokerEvents.reset`: an answer may be lost, and its worker is silent then."""

    def available(self, yes: bool, /) -> None:  # noqa: FBT001  (one fact, one argument)
        """See `BrokerEvents.available`: who waits has a limit of its own."""


if TYPE_CHECKING:
    _: type[BrokerEvents] = Outsider
