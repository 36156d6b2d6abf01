"""What clients ask for: in order, counted, paused at a bound, and harmless when it fails."""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import anyio
import anyio.abc
import pytest

from lastcall.commands import MAX_WAITING, UNDELIVERED, Commands
from lastcall.connection import Connection
from lastcall.errors import BrokerUnavailable
from lastcall.hooks import Endpoints
from lastcall.protocol.base import Message, Send
from lastcall.session import Session
from tests.fakes import RecordingOwner, RecordingTransport, connect

type Callback = Callable[["ManualFuture"], object]


class ManualFuture:
    """A future that is done when the test says so."""

    def __init__(self) -> None:
        self._callbacks: list[Callback] = []
        self._error: BaseException | None = None
        self._cancelled = False

    def add_done_callback(self, callback: Callback, /) -> object:
        self._callbacks.append(callback)
        return None

    def exception(self) -> BaseException | None:
        assert not self._cancelled
        return self._error

    def cancelled(self) -> bool:
        return self._cancelled

    def __await__(self) -> Any:
        """Be awaitable, as futures are."""
        raise AssertionError("nobody has to wait for a future")

    def finish(self, error: BaseException | None = None, *, cancelled: bool = False) -> None:
        self._error, self._cancelled = error, cancelled
        for callback in self._callbacks:
            callback(self)


class Scene:
    """One client, its commands, and what was reported."""

    tasks: anyio.abc.TaskGroup | None = None

    def __init__(self, rate: float) -> None:
        self.endpoints = Endpoints()
        self.errors: list[BaseException] = []
        self.commands = Commands(
            self.endpoints, self._start, lambda _connection, error: self.errors.append(error), rate
        )
        self.connection, self.transport = self.join()

    def join(self) -> tuple[Connection, RecordingTransport]:
        return connect(RecordingOwner(), "news")

    def on_message(self, hook: Callable[[Connection, str | bytes], Any]) -> None:
        self.endpoints[""].on_message = hook

    def receive(self, *messages: str | bytes) -> None:
        for each in messages:
            binary = isinstance(each, bytes)
            data = each if isinstance(each, bytes) else each.encode()
            self.commands.limit_rate(self.connection)
            self.commands.received(self.connection, Send(Message(data, binary)))

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        async def run() -> None:
            await coroutine

        assert self.tasks is not None, "nothing here may need a task"
        self.tasks.start_soon(run)


def scene(rate: float = 0) -> Scene:
    """A scene in which nothing needs a task, or in which the test gives it `tasks`."""
    return Scene(rate)


def test_a_plain_function_is_called_at_once_with_text_or_bytes() -> None:
    it, heard = scene(), list[str | bytes]()
    it.on_message(lambda _connection, message: heard.append(message))

    it.receive("text", b"binary", "grüß dich")

    assert heard == ["text", b"binary", "grüß dich"]
    assert it.commands.is_idle


def test_without_a_hook_nothing_happens() -> None:
    it = scene()
    it.receive("text")

    assert it.commands.is_idle


def test_what_a_plain_function_returns_by_the_way_is_ignored() -> None:
    """`lambda connection, text: seen.setdefault(text, 1)` is a hook, too."""
    it = scene()
    it.on_message(lambda _connection, _message: 1)

    it.receive("text")

    assert it.errors == []
    assert it.commands.is_idle


def test_an_error_is_reported_and_the_next_message_is_heard() -> None:
    it, heard = scene(), list[str | bytes]()

    def hook(_connection: Connection, message: str | bytes) -> None:
        heard.append(message)
        if message == "bad":
            raise ValueError(message)

    it.on_message(hook)
    it.receive("bad", "good")

    assert heard == ["bad", "good"]
    assert [str(error) for error in it.errors] == ["bad"]
    assert it.transport.closed is None


def test_a_client_hears_that_its_message_could_not_be_delivered() -> None:
    it, future = scene(), ManualFuture()
    it.on_message(lambda _connection, _message: future)

    it.receive("lost")
    future.finish(BrokerUnavailable("away"))

    assert it.transport.messages == [UNDELIVERED.encode()]
    assert it.errors == []


def test_other_failures_of_a_future_are_reported_and_its_cancellation_is_none() -> None:
    it, futures = scene(), [ManualFuture(), ManualFuture(), ManualFuture()]
    it.on_message(lambda _connection, message: futures[int(message)])

    it.receive("0", "1", "2")
    assert not it.commands.is_idle
    futures[1].finish(cancelled=True)
    futures[0].finish(ValueError("0"))
    assert not it.commands.is_idle
    futures[2].finish()

    assert [str(error) for error in it.errors] == ["0"]
    assert it.commands.is_idle


def test_futures_count_until_they_are_done_and_reading_pauses_at_a_bound() -> None:
    it, futures = scene(), list[ManualFuture]()

    def hook(_connection: Connection, _message: str | bytes) -> Any:
        futures.append(ManualFuture())
        return futures[-1]

    it.on_message(hook)
    it.receive(*["x"] * (MAX_WAITING - 1))
    assert not it.transport.paused
    it.receive("x", "x")
    assert it.transport.paused

    for future in futures[: MAX_WAITING // 2 + 1]:
        future.finish()
    assert it.transport.paused
    futures[MAX_WAITING // 2 + 1].finish()
    assert not it.transport.paused


@pytest.mark.parametrize(("used", "is_paused"), [(0, False), (2, False), (3, True)])
def test_a_client_from_another_worker_goes_on_with_what_is_left_of_its_second(
    *, used: int, is_paused: bool
) -> None:
    it = scene(rate=3)
    it.commands.adopt(it.connection, used)

    assert it.commands.used_rate(it.connection) == used
    assert it.transport.paused == is_paused


def test_the_rate_is_counted_by_the_second_and_by_client() -> None:
    it, heard = scene(rate=3), list[str | bytes]()
    it.on_message(lambda _connection, message: heard.append(message))
    _, other = it.join()

    it.receive("1", "2")
    assert not it.transport.paused
    it.receive("3")
    assert (it.transport.paused, other.paused) == (True, False)

    it.commands.next_second()
    assert not it.transport.paused
    it.receive("4", "5", "6")
    assert it.transport.paused
    assert len(heard) == 6


def test_a_client_that_left_is_not_counted_any_more() -> None:
    it = scene(rate=1)
    it.receive("1")
    it.commands.forget(it.connection)
    it.commands.forget(it.connection)

    it.commands.next_second()

    assert it.transport.paused  # nobody reads from it: it is gone


def test_what_a_client_has_used_of_its_rate_moves_with_it() -> None:
    there = scene(rate=3)
    there.commands.adopt(there.connection, 0)
    assert there.commands.used_rate(there.connection) == 0
    there.commands.adopt(there.connection, 2)
    assert not there.transport.paused
    there.commands.adopt(there.connection, 3)
    assert there.transport.paused
    there.commands.next_second()
    assert not there.transport.paused

    unlimited = scene()
    unlimited.commands.adopt(unlimited.connection, 1000)
    assert unlimited.commands.used_rate(unlimited.connection) == 0


@pytest.mark.anyio
async def test_coroutines_of_a_connection_run_one_after_the_other() -> None:
    it, story, turn = scene(), list[str](), anyio.Event()
    async with anyio.create_task_group() as it.tasks:

        async def hook(_connection: Connection, message: str | bytes) -> None:
            story.append(f"{message!s} begins")
            if message == "1":
                await turn.wait()
            story.append(f"{message!s} ends")

        it.on_message(hook)
        it.receive("1", "2", "3")
        await anyio.wait_all_tasks_blocked()
        assert story == ["1 begins"]
        assert not it.commands.is_idle
        turn.set()

    assert story == [f"{n} {what}" for n in (1, 2, 3) for what in ("begins", "ends")]
    assert it.commands.is_idle


@pytest.mark.anyio
async def test_what_comes_behind_a_coroutine_waits_whatever_it_is() -> None:
    """A plain function, a future and a failure keep their places in the line."""
    it, story, turn = scene(), list[str](), anyio.Event()
    async with anyio.create_task_group() as it.tasks:

        async def wait() -> None:
            await turn.wait()
            story.append("waited")

        async def fail() -> None:
            raise ValueError("later")

        def fail_at_once() -> None:
            raise ValueError("at once")

        calls: list[Callable[[], Awaitable[object] | None]] = [
            wait,
            lambda: story.append("plain"),
            fail_at_once,
            fail,
            lambda: story.append("last"),
        ]
        for call in calls:
            it.commands.call(it.connection, call)
        await anyio.wait_all_tasks_blocked()
        assert story == []
        turn.set()

    assert story == ["waited", "plain", "last"]
    assert [str(error) for error in it.errors] == ["at once", "later"]


@pytest.mark.anyio
async def test_connections_do_not_wait_for_each_other() -> None:
    it, story, turn = scene(), list[str](), anyio.Event()
    async with anyio.create_task_group() as it.tasks:
        other, _ = it.join()

        it.commands.call(it.connection, turn.wait)
        it.commands.call(other, lambda: story.append("other"))
        assert story == ["other"]
        turn.set()


@pytest.mark.anyio
async def test_a_line_that_grows_too_long_stops_the_reading_until_half_of_it_is_done() -> None:
    it, gates = scene(), [anyio.Event() for _ in range(2 * MAX_WAITING)]
    async with anyio.create_task_group() as it.tasks:
        numbers = iter(range(len(gates)))

        async def hook(_connection: Connection, _message: str | bytes) -> None:
            await gates[next(numbers)].wait()

        it.on_message(hook)
        it.receive(*["x"] * MAX_WAITING)
        assert not it.transport.paused
        it.receive("x")  # one is under way, the others wait
        assert it.transport.paused

        for gate in gates[: MAX_WAITING // 2]:
            gate.set()
        await anyio.wait_all_tasks_blocked()
        assert it.transport.paused
        gates[MAX_WAITING // 2].set()
        await anyio.wait_all_tasks_blocked()
        assert not it.transport.paused
        for gate in gates:
            gate.set()


@pytest.mark.anyio
async def test_a_future_that_is_done_does_not_hide_a_line_that_is_too_long() -> None:
    it, turn, future = scene(), anyio.Event(), ManualFuture()
    async with anyio.create_task_group() as it.tasks:
        it.commands.call(it.connection, lambda: future)
        it.commands.call(it.connection, turn.wait)
        for _ in range(MAX_WAITING):
            it.commands.call(it.connection, lambda: None)
        assert it.transport.paused

        future.finish()

        assert it.transport.paused
        turn.set()
    assert not it.transport.paused


@pytest.mark.anyio
async def test_what_a_client_asked_for_is_done_though_it_left() -> None:
    it, story, turn = scene(rate=9), list[str | bytes](), anyio.Event()
    async with anyio.create_task_group() as it.tasks:

        async def hook(_connection: Connection, message: str | bytes) -> None:
            await turn.wait()
            story.append(message)

        it.on_message(hook)
        it.receive("1", "2")
        it.commands.forget(it.connection)
        it.commands.call(it.connection, lambda: story.append("left"))
        turn.set()

    assert story == ["1", "2", "left"]
    assert it.commands.is_idle


@pytest.mark.anyio
async def test_a_line_that_is_cancelled_leaves_nothing_behind() -> None:
    it = scene()
    async with anyio.create_task_group() as it.tasks:
        for _ in range(MAX_WAITING + 1):
            it.commands.call(it.connection, anyio.sleep_forever)
        await anyio.wait_all_tasks_blocked()
        assert it.transport.paused
        it.tasks.cancel_scope.cancel()

    assert it.commands.is_idle
    assert not it.transport.paused


def test_a_client_with_a_session_was_answered_already() -> None:
    it = scene()
    it.connection.session = Session(since=0)
    future = ManualFuture()
    it.on_message(lambda _connection, _message: future)
    it.receive("lost")
    future.finish(BrokerUnavailable("away"))

    assert it.transport.messages == []
    assert it.errors == []
