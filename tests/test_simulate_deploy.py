"""The simulated deploy of users' tests: it says what happened, and leaves nothing behind."""

import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from fastapi import Depends, FastAPI, Query, WebSocket, WebSocketException

from lastcall import Connection, Lastcall
from lastcall.drain_report import DrainReport
from lastcall.settings import SHUTDOWN_NOTICE
from lastcall.testing import ClientOutcome, Deploy, DeployOutcome, simulate_deploy
from tests.server_process import slowness

pytestmark = pytest.mark.whole
pytest_plugins = ["lastcall.pytest_plugin"]

PATIENT: dict[str, Any] = {"shutdown_timeout": 20.0, "within": 60.0}
"""The machine may be busy with other tests; nobody waits so long but in a failure."""


class Application:
    """An application that can misbehave in every way that a deploy finds out."""

    def __init__(self) -> None:
        self.at_start: Callable[[], object] = lambda: None
        self.at_end: Callable[[], object] = lambda: None
        self.lastcall = Lastcall()
        self.app = FastAPI(lifespan=self._lifespan)
        self.app.include_router(self.lastcall.router)
        self.app.websocket("/ws")(self._attached)
        self.app.websocket("/ordinary")(self._ordinary)
        self.app.websocket("/private")(self._private)
        self.lastcall.on_message(self._said)

    @asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        self.at_start()
        async with self.lastcall.run(app):
            yield
        self.at_end()

    async def _attached(self, websocket: WebSocket) -> None:
        await self.lastcall.attach(websocket, channels=["ws"])

    async def _ordinary(self, websocket: WebSocket) -> None:
        await websocket.accept()
        async with self.lastcall.draining(websocket):
            while True:
                await websocket.send_text(await websocket.receive_text())

    async def _private(self, websocket: WebSocket) -> None:
        raise WebSocketException(1008, f"no {websocket.url.path} for you")

    def _said(self, _: Connection, message: str | bytes) -> Awaitable[object]:
        if message == "hang":
            signal.sigwait({signal.SIGUSR1})  # which nobody sends; no other signal ends it
        return self.lastcall.publish("ws", message)


@pytest.fixture
def application() -> Application:
    return Application()


def test_clients_move_to_the_new_worker_and_notice_nothing(application: Application) -> None:
    long = "x" * 70_000
    with Deploy(application.app, max_message_size=100_000, **PATIENT) as deploy:
        first, second = deploy.connect("/ws"), deploy.connect("/ws")
        for message in ("hello", b"\x00\xff", "y" * 200, long):
            first.send(message)
            assert first.receive(20) == second.receive(20) == message
        outcome = deploy.finish()
        second.send("again")
        assert first.receive(20) == "again"
        assert first.is_connected
        second.close()
        assert second.close_code == 1000

    outcome.check()
    assert [client.is_connected for client in outcome.clients] == [True, True]
    assert outcome.clients[0].messages == ("hello", b"\x00\xff", "y" * 200, long)
    assert (outcome.report.handed_over, outcome.report.at_start) == (2, 2)
    assert (outcome.exit_status, outcome.cleaned_up) == (0, True)
    assert outcome.seconds < 20
    assert "handed 2 clients over" in outcome.log


def test_without_a_successor_clients_are_told_and_closed(application: Application) -> None:
    outcome = simulate_deploy(application.app, "/ws", "/ordinary", successor=False, within=60)

    outcome.check()
    for client in outcome.clients:
        assert client.messages == (SHUTDOWN_NOTICE,)
        assert (client.close_code, client.close_reason) == (1012, "server is shutting down")
    assert (outcome.report.told, outcome.report.closed) == (2, 2)


def test_meanwhile_clients_are_served_and_may_leave(application: Application) -> None:
    with Deploy(application.app, successor=False, **PATIENT) as deploy:
        client = deploy.connect("/ws")
        deploy.begin()
        assert client.receive(20) == SHUTDOWN_NOTICE
        client.send("still here")
        assert client.receive(20) == "still here"
        client.close()
        with pytest.raises(AssertionError, match="closed with 1000"):
            client.receive()
        outcome = deploy.finish()

    outcome.check()
    assert (outcome.report.left, outcome.report.closed) == (1, 0)


def test_what_the_test_has_prepared_is_what_runs(tmp_path: Path) -> None:
    """Dependencies, closures, fixtures: the workers are forks of the test."""
    application = Application()

    def current_user(token: str = Query()) -> str:
        raise WebSocketException(1008, token)

    @application.app.websocket("/me")
    async def me(websocket: WebSocket, user: str = Depends(current_user)) -> None:
        assert websocket.headers["x-test"] == "yes"
        await application.lastcall.attach(websocket, user=user, channels=[user])

    application.app.dependency_overrides[current_user] = lambda: "ada"
    application.at_end = (tmp_path / "closed").touch
    with Deploy(application.app, successor=False, **PATIENT) as deploy:
        deploy.connect("/me", {"x-test": "yes"}).close()
        deploy.finish()

    assert (tmp_path / "closed").exists()


def test_a_lifespan_that_fails_is_told(application: Application) -> None:
    application.at_end = lambda: 1 / 0
    outcome = simulate_deploy(application.app, successor=False, within=60)

    assert not outcome.cleaned_up
    with pytest.raises(AssertionError, match=r"lifespan did not come to its end(.|\n)*ZeroDiv"):
        outcome.check()


def test_an_application_that_does_not_start_says_why(application: Application) -> None:
    application.at_start = lambda: 1 / 0
    with pytest.raises(AssertionError, match=r"does not start(.|\n)*ZeroDivisionError"):
        simulate_deploy(application.app, within=60)


def test_a_client_that_is_refused_says_how(application: Application) -> None:
    with Deploy(application.app, successor=False, **PATIENT) as deploy:
        for path in ("/private", "/nowhere"):
            with pytest.raises(AssertionError, match=f"{path} was refused: HTTP/1.1 403"):
                deploy.connect(path)


def test_a_worker_that_hangs_is_an_error_and_is_gone_afterwards(application: Application) -> None:
    with Deploy(application.app, successor=False, within=5) as deploy:
        deploy.connect("/ws").send("hang")
        time.sleep(0.2)  # the hang has no event: the loop stands still
        pids = [worker.pid for worker in deploy.workers if worker.pid]
        with pytest.raises(AssertionError, match="has not left within 5 s"):
            deploy.finish()

    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.anyio
async def test_an_asynchronous_test_asks_in_a_thread(application: Application) -> None:
    outcome = await anyio.to_thread.run_sync(
        lambda: simulate_deploy(application.app, "/ws", **PATIENT)
    )

    outcome.check()
    assert outcome.clients[0].is_connected


def test_the_fixture_is_the_function(
    simulate_deploy: Callable[..., DeployOutcome], application: Application
) -> None:
    outcome = simulate_deploy(application.app, "/ws", **PATIENT)

    assert outcome.report.handed_over == 1


def test_an_application_can_be_named() -> None:
    outcome = simulate_deploy("main:app", "/ws", announcements=False, **PATIENT)

    assert outcome.clients[0].is_connected


def test_check_says_everything_that_is_wrong() -> None:

    clients = (
        ClientOutcome((), 1006, ""),
        ClientOutcome((), 1012, ""),
        ClientOutcome((), None, ""),
    )
    outcome = DeployOutcome(clients, DrainReport(), -9, cleaned_up=False, seconds=1, log="log")
    with pytest.raises(AssertionError) as raised:
        outcome.check()

    assert str(raised.value).splitlines()[0] == (
        "1 clients were cut; 1 clients were closed without a reason; "
        "the lifespan did not come to its end; the worker ended with -9"
    )


@pytest.mark.parametrize("successor", [True, False])
def test_it_is_quick_enough_for_every_test_run(
    application: Application,
    successor: bool,  # noqa: FBT001  (a parameter of the test)
) -> None:
    started = time.monotonic()
    simulate_deploy(application.app, "/ws", successor=successor, within=60)
    took = time.monotonic() - started

    assert took < 2 * slowness()


def test_nothing_is_left_behind(application: Application) -> None:
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    with Deploy(application.app, **PATIENT) as deploy:
        deploy.connect("/ws")
        deploy.finish()
        pids = [worker.pid for worker in deploy.workers]

    assert len(list(descriptors.iterdir())) == before
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
