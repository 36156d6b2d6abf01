"""The server that runs us: what it is, how long it lets us leave, how it is told to go on."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

from lastcall.process_identity import ProcessIdentity
from lastcall.stop_limit import StopLimit
from lastcall.transport.base import Transport, TransportEvents

MASTER_VARIABLE = "LASTCALL_MASTER"
"""Environment variable by which `lastcall serve` tells its workers who their master is."""

UPGRADE_VARIABLE = "LASTCALL_UPGRADE"
"""What a master tells the new one that it starts."""
FAMILY_VARIABLE = "LASTCALL_FAMILY"
"""`<master>:<first master>`: who tells its workers, and whose run directory is theirs."""


def family_of(master: ProcessIdentity) -> ProcessIdentity:
    """The first of the masters that followed each other up to this one; mostly it itself."""
    told_by, _, family = os.environ.get(FAMILY_VARIABLE, "").partition(":")
    if told_by == str(master):
        with contextlib.suppress(ValueError):
            return ProcessIdentity.parse(family)
    return master


type OnSignal = Callable[[signal.Signals], None]
"""Called in the event loop for each SIGINT and SIGTERM; the server does not get them."""

type OnServerStop = Callable[[], bool]
"""Called when the server stops by itself (`limit_max_requests`).

True keeps the connections for the drain; the server waits until they have left.
"""


class Host(Protocol):
    """What a worker needs of the server around it."""

    name: str
    workers: int
    """How many workers the server runs; 1 where it cannot be known."""
    master: ProcessIdentity | None
    """The process that started the workers, whoever that is."""
    obeys_last_worker: bool
    """Whether the master is one that ends when the last worker tells it to (and no stranger)."""
    drains: bool
    """Whether there is anything to wait for: not when a developer's reload replaces us."""
    takes_connections: bool
    """Whether `thaw` and `go_on` work here."""

    @property
    def is_listening(self) -> bool:
        """Whether the server takes connections: before and after, nobody should be sent here."""
        ...

    def stop_limits(self) -> list[StopLimit]:
        """The limits on our leaving that the server itself or what started it imposes."""
        ...

    def stops(
        self, on_signal: OnSignal, on_server_stop: OnServerStop
    ) -> AbstractContextManager[None]:
        """While entered, whatever would stop the server comes to us first."""
        ...

    def wait_at_most(self, seconds: float) -> None:
        """When the server stops by itself, let it wait so long for what is open; not for ever."""
        ...

    def stop_listening(self) -> bool:
        """Leave new connections to the other workers; False if that cannot be done here."""
        ...

    async def listen_again(self) -> None:
        """Take connections once more, to refuse them in words."""
        ...

    def refuse_to_start(self) -> bool:
        """Have the server end with status 3 instead of starting; False if it cannot be asked to."""
        ...

    def stop(self, *, now: bool, within: float = 0) -> None:
        """Let the server stop, as the signal would have.

        It may wait *within* seconds for requests that the drain does not know of; with *now*, it
        waits for nothing.
        """
        ...

    def cutter(self, send: Callable[..., object]) -> Callable[[], object] | None:
        """What cuts the connection of the request that *send* answers; None: that cannot be done.

        A server that is asked to end a response waits until its client has read it.
        """
        ...

    def thaw(
        self, state: bytes, events: TransportEvents, *, max_backlog: int, max_message_size: int
    ) -> Transport:
        """Make the transport that goes on where a frozen one stopped; it does nothing yet.

        Raises:
            ValueError: not with this *state*, or not on this server.
        """
        ...

    async def go_on(self, transport: Transport, descriptor: int) -> None:
        """Give what `thaw` made its socket: it sends, reads, and is one of the server's own.

        *descriptor* belongs to the server from here on, whatever happens.

        Raises:
            OSError: the event loop cannot take it.
        """
        ...


class AsgiHost:
    """A server that we know nothing about: it stops as it does, and we say goodbye in time."""

    name = "ASGI server"
    workers = 1
    master: ProcessIdentity | None = None
    obeys_last_worker = False
    drains = True
    takes_connections = False

    @property
    def is_listening(self) -> bool:
        """It cannot be asked; the lifespan ends its start just before."""
        return True

    def stop_limits(self) -> list[StopLimit]:
        """Nothing is known."""
        return []

    @contextmanager
    def stops(
        self,
        on_signal: OnSignal,  # noqa: ARG002  (the server deals with signals)
        on_server_stop: OnServerStop,  # noqa: ARG002  (and does not say when it stops)
    ) -> Iterator[None]:
        """Leave everything to the server."""
        yield

    def wait_at_most(self, seconds: float) -> None:
        """It waits as it does."""

    def stop_listening(self) -> bool:
        """The listener is the server's."""
        return False

    async def listen_again(self) -> None:
        """It never stopped."""

    def refuse_to_start(self) -> bool:
        """Only an exception tells it."""
        return False

    def cutter(
        self,
        send: Callable[..., object],  # noqa: ARG002  (it leads nowhere)
    ) -> Callable[[], object] | None:
        """The connection is the server's."""
        return None

    def thaw(
        self,
        state: bytes,  # noqa: ARG002  (nobody here understands it)
        events: TransportEvents,  # noqa: ARG002  (the same)
        *,
        max_backlog: int,  # noqa: ARG002  (the same)
        max_message_size: int,  # noqa: ARG002  (the same)
    ) -> Transport:
        """No way is known to give this server a socket."""
        raise ValueError(f"{self.name} cannot take a connection over")

    async def go_on(self, transport: Transport, descriptor: int) -> None:  # noqa: ARG002  (the same)
        """Only ours to close."""
        os.close(descriptor)

    def stop(self, *, now: bool, within: float = 0) -> None:  # noqa: ARG002  (the server decides how)
        """Ask the server with the signal that it understands.

        Off the main thread the server is not the process: a test client, say. Who started it there
        has to stop it.
        """
        if threading.current_thread() is threading.main_thread():
            signal.raise_signal(signal.SIGTERM)


if TYPE_CHECKING:
    _: type[Host] = AsgiHost
