"""What the application does with its clients' events, found by the name of their endpoint."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from lastcall.channel_hooks import ChannelHooks
from lastcall.connection import Connection

type OnConnect = Callable[[Connection], Awaitable[object] | None]
type OnMessage = Callable[[Connection, str | bytes], Awaitable[object] | None]
type OnDisconnect = Callable[[Connection, int], Awaitable[object] | None]


@dataclass(slots=True)
class Hooks:
    """The application's functions for one endpoint; where there is none, nothing happens.

    A plain function is called in the event loop and must not block; what an ``async`` one
    returns is awaited, one event of a connection after the other.
    """

    on_connect: OnConnect | None = None
    on_message: OnMessage | None = None
    on_disconnect: OnDisconnect | None = None


@dataclass(slots=True)
class Endpoints:
    """The hooks of every endpoint; connections name theirs, so that they can move."""

    channels: ChannelHooks = field(default_factory=ChannelHooks)
    """What does not depend on the endpoint: who may do what in a channel."""
    _by_name: dict[str, Hooks] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        """Whether the application has an endpoint *name*."""
        return name in self._by_name

    def __getitem__(self, name: str) -> Hooks:
        """Return the hooks of the endpoint *name*, made on first use."""
        hooks = self._by_name.get(name)
        if hooks is None:
            hooks = self._by_name[name] = Hooks()
        return hooks
