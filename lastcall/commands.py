"""Runs what clients ask for through the application's hooks, each connection's in order.

No task exists while nothing waits: a plain function is done when it returns, a publication is a
future that counts until it is stored, and only a coroutine needs a task. A client that asks for
more than is done is not read from until it is.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, cast

from lastcall.connection import Connection, Paused
from lastcall.errors import BrokerUnavailable
from lastcall.hooks import Endpoints
from lastcall.protocol.base import Message, Send

MAX_WAITING = 64
"""Commands of one connection that may wait or be under way before reading from it pauses."""

UNDELIVERED = "Your message could not be delivered, please send it again later."

type Start = Callable[[Coroutine[Any, Any, None]], object]
"""Runs a coroutine in a task that somebody owns."""

type Report = Callable[[Connection, BaseException], object]
"""Hears of an error in the application's code."""

type Outcome = Callable[[Awaitable[object]], Awaitable[object]]
"""Awaits what a hook returned; raises an `Exception` for whatever went wrong there.

Only the end of the task that awaits it passes as it is: the application may cancel things of its
own, and that must not look like an order to us.
"""

type Call = Callable[[], Awaitable[object] | None]


class Future(Protocol):
    """What a publication is until it is stored: as much of asyncio's future as matters here."""

    def add_done_callback(self, callback: Callable[[Any], object], /) -> object:
        """Call *callback* with this when it is done."""
        ...

    def exception(self) -> BaseException | None:
        """Why it failed; None if it did not."""
        ...

    def cancelled(self) -> bool:
        """Whether it was given up."""
        ...


class Commands:
    """What the clients of this worker asked for and is not done yet."""

    def __init__(
        self,
        endpoints: Endpoints,
        start: Start,
        report: Report,
        rate: float = 0,
        outcome: Outcome = lambda result: result,
    ) -> None:
        """Call the hooks of *endpoints*.

        Args:
            endpoints: where a connection's hooks are found.
            start: owns the tasks of coroutines.
            report: hears what a hook raised; its connection lives on.
            rate: messages a second that are read from each client, 0 for any number.
            outcome: awaits what hooks returned.
        """
        self._endpoints = endpoints
        self._start = start
        self._report = report
        self._rate = rate
        self._outcome = outcome
        self._received: dict[Connection, int] = {}
        self._waiting: dict[Connection, deque[Call]] = {}
        self._under_way: dict[Connection, int] = {}

    @property
    def is_idle(self) -> bool:
        """Whether every command is done."""
        return not self._waiting and not self._under_way

    def received(self, connection: Connection, command: Send) -> None:
        """Do, or put in line, what a client asks for."""
        hook = self._endpoints[connection.endpoint].on_message
        if hook is not None:
            message = _as_python(command.message)
            self.call(connection, lambda: hook(connection, message))

    def call(self, connection: Connection, call: Call) -> None:
        """Run a hook for *connection* after those that came before it."""
        waiting = self._waiting.get(connection)
        if waiting is None:
            self._run(connection, call)
            return
        waiting.append(call)
        self._pause_if_many(connection)

    def has_done_all(self, connection: Connection) -> bool:
        """Whether nothing that *connection* asked for is still under way."""
        return connection not in self._waiting and connection not in self._under_way

    def used_rate(self, connection: Connection) -> int:
        """How many messages of *connection* were received in this second."""
        return self._received.get(connection, 0)

    def adopt(self, connection: Connection, used_rate: int) -> None:
        """Go on counting where another worker stopped."""
        if self._rate and used_rate:
            self._received[connection] = used_rate
            if used_rate >= self._rate:
                connection.pause(Paused.RATE)

    def next_second(self) -> None:
        """A second is over: whoever used up its rate is read from again."""
        received, self._received = self._received, {}
        for connection in received:
            connection.resume(Paused.RATE)

    def forget(self, connection: Connection) -> None:
        """Drop the count of a client that left; what it asked for is still done."""
        self._received.pop(connection, None)

    def limit_rate(self, connection: Connection) -> None:
        """Count one command; who has used up its rate is not read from for the rest of a second."""
        if not self._rate:
            return
        count = self._received.get(connection, 0) + 1
        self._received[connection] = count
        if count >= self._rate:
            connection.pause(Paused.RATE)

    def _pause_if_many(self, connection: Connection) -> None:
        if self._not_done(connection) >= MAX_WAITING:
            connection.pause(Paused.COMMANDS)

    def _resume_if_few(self, connection: Connection) -> None:
        if self._not_done(connection) < MAX_WAITING // 2:
            connection.resume(Paused.COMMANDS)

    def _not_done(self, connection: Connection) -> int:
        return self._under_way.get(connection, 0) + len(self._waiting.get(connection, ()))

    def _run(self, connection: Connection, call: Call) -> None:
        result = self._result(connection, call)
        if result is None:
            return
        if hasattr(result, "add_done_callback"):
            self._count_until_done(connection, cast("Future", result))
            return
        self._waiting[connection] = deque()
        self._start(self._drain_line(connection, result))

    def _count_until_done(self, connection: Connection, future: Future) -> None:
        self._under_way[connection] = self._under_way.get(connection, 0) + 1
        self._pause_if_many(connection)

        def done(future: Future) -> None:
            left = self._under_way[connection] - 1
            if left:
                self._under_way[connection] = left
            else:
                del self._under_way[connection]
            self._resume_if_few(connection)
            if not future.cancelled() and (error := future.exception()) is not None:
                self._failed(connection, error)

        future.add_done_callback(done)

    async def _drain_line(self, connection: Connection, first: Awaitable[object]) -> None:
        waiting = self._waiting[connection]
        result: Awaitable[object] | None = first
        try:
            while True:
                try:
                    if result is not None:
                        await self._outcome(result)
                except Exception as error:  # noqa: BLE001  (the application's code)
                    self._failed(connection, error)
                if not waiting:
                    return
                result = self._result(connection, waiting.popleft())
                self._resume_if_few(connection)
        finally:
            del self._waiting[connection]
            self._resume_if_few(connection)

    def _result(self, connection: Connection, call: Call) -> Awaitable[object] | None:
        try:
            result = call()
        except Exception as error:  # noqa: BLE001  (the application's code may raise anything)
            self._failed(connection, error)
            return None
        # A plain function may return what it likes, such as what its last call returned.
        return result if hasattr(result, "__await__") else None

    def _failed(self, connection: Connection, error: BaseException) -> None:
        if isinstance(error, BrokerUnavailable):
            # Loss is never silent: the sender has to know. Who has a session was answered.
            if connection.session is None:
                connection.notify(UNDELIVERED)
            return
        self._report(connection, error)


def _as_python(message: Message) -> str | bytes:
    return message.data if message.binary else message.data.decode()
