"""For the tests of applications: what does a deploy do to my clients?

    from lastcall.testing import simulate_deploy

    def test_a_deploy_is_not_noticed() -> None:
        outcome = simulate_deploy(app, "/notifications?token=ada")
        outcome.check()
        assert outcome.clients[0].is_connected

Real workers (this process, forked), real signals, real sockets, in less than two seconds.
"""

import os
import select
import signal
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lastcall.drain_report import DrainReport
from lastcall.simulated_client import CUT, SimulatedClient
from lastcall.simulated_server import SimulatedServer, SimulatedWorker

DEFAULTS: Mapping[str, Any] = {"shutdown_timeout": 1.0, "shutdown_delay": 0.0, "log_format": "auto"}
"""Settings in a simulation, unless the test wants others: nobody waits half an hour for a test."""


@dataclass(frozen=True, slots=True)
class ClientOutcome:
    """What became of a client by the time the old worker had left."""

    messages: tuple[str | bytes, ...]
    """All that it had heard."""
    close_code: int | None
    """None: it is connected still. 1006: it was cut."""
    close_reason: str
    has_left: bool = False
    """Whether it was the test that closed it."""

    @property
    def is_connected(self) -> bool:
        """Whether the deploy has left it alone."""
        return self.close_code is None


@dataclass(frozen=True, slots=True)
class DeployOutcome:
    """What a simulated deploy did."""

    clients: tuple[ClientOutcome, ...]
    """In the order in which they came; who is connected is so with the new worker."""
    report: DrainReport
    """How the old worker saw it: who was told, handed over, released, closed, cut."""
    exit_status: int
    """Of the old worker; negative for a signal."""
    cleaned_up: bool
    """Whether the application's lifespan came to its end without an error."""
    seconds: float
    """From the signal to the end of the old worker."""
    log: str = field(repr=False)
    """What the workers have written."""

    def check(self) -> None:
        """Make sure of what is expected of every deploy.

        Every client is connected still, or was closed with a code and a reason; the lifespan came
        to its end; the worker ended with status 0.

        Raises:
            AssertionError: something of this is not so; says what.
        """
        ended = [each for each in self.clients if not each.is_connected and not each.has_left]
        cut = sum(client.close_code == CUT for client in ended)
        wordless = sum(not client.close_reason for client in ended)
        problems = [
            f"{cut} clients were cut" if cut else "",
            f"{wordless - cut} clients were closed without a reason" if wordless > cut else "",
            "" if self.cleaned_up else "the lifespan did not come to its end",
            f"the worker ended with {self.exit_status}" if self.exit_status else "",
        ]
        if any(problems):
            raise AssertionError("; ".join(filter(None, problems)) + f"\n{self.log}")


class Deploy:
    """A deploy in steps, for tests that want to do something before, meanwhile or after.

    with Deploy(app) as deploy:
        ada = deploy.connect("/notifications?token=ada")
        deploy.begin()
        ada.send("still there?")
        assert ada.receive() == "still there?"
        deploy.finish().check()
    """

    def __init__(
        self, app: Any, *, successor: bool = True, within: float = 10.0, **settings: Any
    ) -> None:
        """Deploy *app*, an ASGI application or its name such as ``"main:app"``.

        With a *successor* a new worker is there before the old one is told to leave, so clients
        can be handed over. Without, they are told and closed: the end of a server. *settings* take
        the place of the application's own; nothing may take longer than *within* seconds.
        """
        self._app = app
        self._has_successor = successor
        self._within = within
        self._settings = {**DEFAULTS, **settings}
        self._clients: list[SimulatedClient] = []
        self._directory = tempfile.TemporaryDirectory(prefix="lc-")
        self._server: SimulatedServer | None = None
        self._signalled_at = 0.0

    def __enter__(self) -> Self:
        """Start the server, and return when it takes clients.

        Raises:
            AssertionError: it does not start; with what it wrote.
        """
        if not hasattr(os, "fork"):
            raise NotImplementedError("a deploy can be simulated on Linux and macOS only")
        base = Path(self._directory.name)
        places = {"run_dir": base / "run", "state_dir": base / "state"}
        self._server = SimulatedServer(self._app, base, {**places, **self._settings})
        try:
            self._start(0)
        except BaseException:
            self._put_away()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End clients and server, however far the deploy has come."""
        self._put_away()

    @property
    def url(self) -> str:
        """Where the server is, for clients of the test's own."""
        return f"http://127.0.0.1:{self._now.port}"

    @property
    def workers(self) -> list[SimulatedWorker]:
        """The old worker, and the successor; `pid` is 0 of one that was not started."""
        return self._now.workers

    @property
    def log(self) -> str:
        """What the workers have written so far."""
        return self._now.log.read_text(errors="replace")

    def connect(self, path: str, headers: Mapping[str, str] | None = None) -> SimulatedClient:
        """Connect a WebSocket client; it takes part in `finish`.

        Raises:
            AssertionError: the server refused it; with what it wrote.
        """
        try:
            client = SimulatedClient.connect(self._now.port, path, headers or {}, self._within)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log}") from None
        self._clients.append(client)
        return client

    def begin(self) -> None:
        """Start the successor, if there is to be one, and tell the old worker to leave."""
        if self._has_successor:
            self._start(1)
        self._signalled_at = time.monotonic()
        os.kill(self._now.workers[0].pid, signal.SIGTERM)

    def finish(self) -> DeployOutcome:
        """Wait until the old worker has left; clients read meanwhile.

        Raises:
            AssertionError: it has not left in time; with what it wrote.
        """
        if not self._signalled_at:
            self.begin()
        old = self._now.workers[0]
        self._wait(old, lambda: old.has_ended, "the old worker has not left")
        seconds = time.monotonic() - self._signalled_at
        status = self._now.exit_status(old)
        for client in self._clients:
            while client.is_connected and select.select([client], [], [], 0)[0]:
                client.read()
        if old.report is None:
            raise AssertionError(f"the worker ended with {status}, and no drain\n{self.log}")
        return DeployOutcome(
            clients=tuple(
                ClientOutcome(
                    tuple(each.messages), each.close_code, each.close_reason, each.has_left
                )
                for each in self._clients
            ),
            report=old.report,
            exit_status=status,
            cleaned_up=old.cleaned_up,
            seconds=seconds,
            log=self.log,
        )

    @property
    def _now(self) -> SimulatedServer:
        if self._server is None:
            raise RuntimeError("a Deploy is a context manager: with Deploy(app) as deploy: …")
        return self._server

    def _start(self, number: int) -> None:
        worker = self._now.start_worker(number)
        self._wait(worker, lambda: worker.is_ready or worker.has_ended, "a worker does not start")
        if worker.has_ended:
            raise AssertionError(f"the application does not start\n{self.log}")

    def _wait(self, worker: SimulatedWorker, reached: Any, otherwise: str) -> None:
        until = time.monotonic() + self._within
        while not reached():
            left = until - time.monotonic()
            if left <= 0:
                raise AssertionError(f"{otherwise} within {self._within:g} s\n{self.log}")
            connected = [client for client in self._clients if client.is_connected]
            sources: list[int | SimulatedClient] = [worker.line.fileno(), *connected]
            ready, _, _ = select.select(sources, [], [], left)
            for client in connected:
                if client in ready:
                    client.read()
            if worker.line.fileno() in ready:
                worker.hear()

    def _put_away(self) -> None:
        for client in self._clients:
            client.vanish()
        if self._server is not None:
            self._server.close()
            self._server = None
        self._directory.cleanup()


def simulate_deploy(
    app: Any, *paths: str, successor: bool = True, within: float = 10.0, **settings: Any
) -> DeployOutcome:
    """Connect a client to each of *paths*, deploy, and return what became of them; see `Deploy`.

    Raises:
        AssertionError: the application does not start, refuses a client, or does not leave.
    """
    with Deploy(app, successor=successor, within=within, **settings) as deploy:
        for path in paths:
            deploy.connect(path)
        return deploy.finish()
