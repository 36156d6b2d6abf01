"""The application's functions for channels and calls, found by patterns of their names."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from lastcall.connection import Connection
from lastcall.errors import FeatureOff, MethodNotFound

type OnSubscribe = Callable[[Connection, str], Awaitable[object] | object]
type OnPublish = Callable[[Connection, str, str], Awaitable[object] | object]
type OnRpc = Callable[[Connection, str], Awaitable[object] | object]


@dataclass(slots=True)
class ChannelHooks:
    """Patterns are those of a shell (`chat:*`); the first that was given and matches counts."""

    _subscribe: dict[str, OnSubscribe] = field(default_factory=dict)
    _publish: dict[str, OnPublish] = field(default_factory=dict)
    _rpc: dict[str, OnRpc] = field(default_factory=dict)

    def on_subscribe(self, pattern: str, hook: OnSubscribe) -> None:
        """Ask *hook* who may subscribe to channels like *pattern*."""
        self._subscribe[pattern] = hook

    def on_publish(self, pattern: str, hook: OnPublish) -> None:
        """Ask *hook* who may publish to channels like *pattern*."""
        self._publish[pattern] = hook

    def on_rpc(self, method: str, hook: OnRpc) -> None:
        """Let *hook* answer calls of *method*."""
        self._rpc[method] = hook

    def for_subscribe(self, channel: str) -> OnSubscribe | None:
        """Who is asked about subscriptions to *channel*."""
        return _first(self._subscribe, channel)

    def for_publish(self, channel: str) -> OnPublish | None:
        """Who is asked about publications to *channel*."""
        return _first(self._publish, channel)

    def for_rpc(self, method: str) -> OnRpc:
        """Who answers *method*.

        Raises:
            FeatureOff: the application answers no calls.
            MethodNotFound: it does not answer this one.
        """
        if not self._rpc:
            raise FeatureOff
        hook = _first(self._rpc, method)
        if hook is None:
            raise MethodNotFound
        return hook


def _first[F](hooks: dict[str, F], name: str) -> F | None:
    return next((hook for pattern, hook in hooks.items() if fnmatchcase(name, pattern)), None)
