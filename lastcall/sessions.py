"""Clients that have a session: each command is done in order and answered, and what is due is done.

Every way in which a command can fail ends here, in an answer or a close code.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

from msgspec import UNSET, Raw, Struct

from lastcall.broker.base import StreamPosition
from lastcall.commands import Commands, Future
from lastcall.connection import Connection
from lastcall.errors import BadRequest, BrokerUnavailable, Disconnect, InternalError, Refused
from lastcall.protocol.base import Command, SessionProtocol
from lastcall.protocol.centrifuge import (
    METHODS,
    Call,
    Connect,
    Empty,
    Invalid,
    Json,
    Pong,
    Refresh,
    Reply,
    Result,
    SubRefresh,
    Subscribe,
)
from lastcall.session import AskAgain, Due, Expired, Ping, Session, Stage, Timing
from lastcall.subscribing import Gone

if TYPE_CHECKING:
    import asyncio

logger = logging.getLogger(__name__)

_SETS_AN_END = (Connect, Refresh, Subscribe, SubRefresh)
"""After these something may be due sooner than it was."""

type Answer = Result | Awaitable[Result] | asyncio.Future[StreamPosition] | None
"""A future: `Empty` when it is done. None: nothing is to be answered."""


class Requests(Protocol):
    """What clients can ask for. Any call may raise `Refused` or `Disconnect`."""

    def do(self, connection: Connection, request: Any, /) -> Answer:
        """Do what *request* asks for.

        Where the answer has to come before whatever follows in a channel, what makes it returns
        it in the tick in which the channel goes live.
        """
        ...

    def ask_again(self, connection: Connection, /) -> Awaitable[None]:
        """Ask the application whether the client may stay; a `Disconnect` if it may not."""
        ...

    def expired(self, connection: Connection, channel: str, /) -> None:
        """End a subscription of the client's own whose time is over."""
        ...

    def lost(self, connection: Connection, channel: str, /) -> None:
        """Publications that the client should have heard are gone."""
        ...

    def ended(self, connection: Connection, /) -> None:
        """The client is gone."""
        ...


class Sessions:
    """The sessions of this worker."""

    def __init__(
        self,
        commands: Commands,
        requests: Requests,
        timing: Timing,
        *,
        clock: Callable[[], float] = time.time,
        beat: Callable[[], float] = time.monotonic,
    ) -> None:
        """Do *requests*; look for what is due by *timing*."""
        self._commands = commands
        self._requests = requests
        self._timing = timing
        self._clock = clock
        self._beat = beat
        self._due: dict[int, list[Connection]] = {}

    def begin(self, channels: tuple[str, ...], *, only_listens: bool = False) -> Session:
        """A session for a client that has not said anything yet, and shall hear *channels*."""
        return Session(since=self._beat(), channels=channels, only_listens=only_listens)

    def watch(self, connection: Connection) -> None:
        """Do what is due for *connection* until it is gone; again if that may be sooner now."""
        session, beat = session_of(connection), self._beat()
        second = int(beat + session.rest(self._timing, now=self._clock(), beat=beat)) + 1
        if not session.look_at or second < session.look_at:
            session.look_at = second
            self._due.setdefault(second, []).append(connection)

    def next_second(self) -> None:
        """Do what is due by now."""
        beat = self._beat()
        for second in sorted(second for second in self._due if second <= beat):
            for connection in self._due.pop(second):
                # Who was to be looked at sooner since then is in the list of another second.
                if session_of(connection).look_at == second:
                    self._do_what_is_due(connection)

    def received(self, connection: Connection, command: Command) -> None:
        """Do, or put in line, what a client says."""
        self._commands.call(connection, partial(self._execute, connection, command))

    def lost(self, connection: Connection, channel: str) -> None:
        """Publications that the client should have heard are gone."""
        self._requests.lost(connection, channel)

    def ended(self, connection: Connection) -> None:
        """The client is gone."""
        self._requests.ended(connection)

    def _do_what_is_due(self, connection: Connection) -> None:
        session = session_of(connection)
        session.look_at = 0
        for due in session.due(self._timing, now=self._clock(), beat=self._beat()):
            if not connection.is_gone and connection.ended_by is None:
                self._do_due(connection, due)
        if not connection.is_gone:
            self.watch(connection)

    def _do_due(self, connection: Connection, due: Due) -> None:
        match due:
            case Ping():
                connection.say(protocol_of(connection).ping)
            case AskAgain():
                self._commands.call(connection, partial(self._ask_again, connection))
            case Expired(channel):
                self._requests.expired(connection, channel)
            case Disconnect():
                connection.disconnect(due)

    async def _ask_again(self, connection: Connection) -> None:
        try:
            await self._requests.ask_again(connection)
        except Disconnect as why:
            connection.disconnect(why)
        if not connection.is_gone:
            self.watch(connection)

    def _execute(self, connection: Connection, command: Command) -> Awaitable[object] | None:
        stage = session_of(connection).stage
        if connection.ended_by is not None or stage is Stage.REFUSED:
            return None
        match command:
            case Call(request=request) if (stage is Stage.NEW) == isinstance(request, Connect):
                return self._answer(connection, command)
            case Pong() if stage is Stage.CONNECTED and session_of(connection).pong():
                return None
            case Invalid(why):
                connection.disconnect(why)
            case _:
                connection.disconnect(BadRequest())
        return None

    def _answer(self, connection: Connection, call: Call) -> Awaitable[object] | None:
        try:
            answer = self._requests.do(connection, call.request)
        except Exception as error:  # noqa: BLE001  (the application's code is part of it)
            self._fail(connection, call, error)
            return None
        if answer is None or isinstance(answer, Struct):
            self._reply(connection, call, answer)
            return None
        if hasattr(answer, "add_done_callback"):
            future = cast("Future", answer)
            future.add_done_callback(partial(self._done, connection, call))
            return cast("Awaitable[object]", answer)
        in_time: Awaitable[Any] = answer
        return self._answer_in_time(connection, call, in_time)

    async def _answer_in_time(
        self, connection: Connection, call: Call, answer: Awaitable[Result]
    ) -> None:
        try:
            # No await from here to the reply: what the answer says of a channel is of this tick.
            self._reply(connection, call, await answer)
        except Exception as error:  # noqa: BLE001  (the application's code is part of it)
            self._fail(connection, call, error)

    def _done(self, connection: Connection, call: Call, future: Future) -> None:
        if future.cancelled():
            return
        error = future.exception()
        if isinstance(error, Exception):
            self._fail(connection, call, error)
        else:
            self._reply(connection, call, Empty())

    def _fail(self, connection: Connection, call: Call, error: Exception) -> None:
        if isinstance(error, Disconnect):
            connection.disconnect(error)
            return
        if isinstance(error, Gone):
            return
        if not isinstance(error, Refused):
            if not isinstance(error, BrokerUnavailable):
                logger.error("%s failed", METHODS[type(call.request)], exc_info=error)
            error = InternalError()
        if isinstance(call.request, Connect):
            session_of(connection).stage = Stage.REFUSED
            end = protocol_of(connection).refusal(error)
            if end is not None:
                connection.disconnect(end)
                return
        self._reply(connection, call, error)

    def _reply(self, connection: Connection, call: Call, outcome: Result | Refused | None) -> None:
        if outcome is None or connection.is_gone or call.id == 0:
            return
        reply = Reply(call.id, METHODS[type(call.request)], outcome)
        connection.say(protocol_of(connection).reply(reply))
        if isinstance(call.request, _SETS_AN_END):
            self.watch(connection)


def session_of(connection: Connection) -> Session:
    """The session of a connection that has one."""
    assert connection.session is not None  # noqa: S101  (only such come here)
    return connection.session


def json_value(value: bytes) -> Json:
    """A JSON value, or none."""
    return Raw(value) if value else UNSET


def protocol_of(connection: Connection) -> SessionProtocol:
    """The protocol of a connection that has a session."""
    return cast("SessionProtocol", connection.wire_format.protocol)
