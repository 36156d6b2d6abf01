"""The application's functions for sessions: who comes in, channels and calls by their names."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from lastcall.connection import Connection
from lastcall.errors import FeatureOff, MethodNotFound
from lastcall.protocol.centrifuge import Connect, Json, Subscribe
from lastcall.verdicts import Identity

type OnAuthenticate = Callable[[Connection, str], Awaitable[Identity | None] | Identity | None]
type OnRefresh = Callable[[Connection], Awaitable[Identity | None] | Identity | None]
type OnSubscribe = Callable[[Connection, str], Awaitable[object] | object]
type OnPublish = Callable[[Connection, str, str], Awaitable[object] | object]
type OnRpc = Callable[[Connection, str], Awaitable[object] | object]

type AskWho = Callable[[Connection, Connect], Awaitable[Identity | None] | Identity | None]
type AskSubscribe = Callable[[Connection, Subscribe], Awaitable[object] | object]
type AskPublish = Callable[[Connection, str, str], Awaitable[object] | object]
type AnswerRpc = Callable[[Connection, str, str], Awaitable[object] | object]
"""Takes the name of the method, and the data."""


@dataclass(slots=True)
class _ByName[F]:
    """Patterns are those of a shell (`chat:*`); the first that was given and matches counts."""

    _by_pattern: dict[str, F] = field(default_factory=dict)
    _otherwise: tuple[Callable[[str], bool], F] | None = None

    def add(self, pattern: str, hook: F) -> None:
        self._by_pattern[pattern] = hook

    def otherwise(self, applies: Callable[[str], bool], hook: F) -> None:
        self._otherwise = (applies, hook)

    def find(self, name: str) -> F | None:
        for pattern, hook in self._by_pattern.items():
            if fnmatchcase(name, pattern):
                return hook
        if self._otherwise is not None and self._otherwise[0](name):
            return self._otherwise[1]
        return None

    def __bool__(self) -> bool:
        return bool(self._by_pattern) or self._otherwise is not None


@dataclass(slots=True)
class ChannelHooks:
    """Who is asked what; the application's functions before its backend."""

    who: AskWho | None = None
    """Is asked who a client without a token is."""
    refresh: OnRefresh | None = None
    """Is asked who a client still is whose time is over."""
    _subscribe: _ByName[AskSubscribe] = field(default_factory=_ByName[AskSubscribe])
    _publish: _ByName[AskPublish] = field(default_factory=_ByName[AskPublish])
    _rpc: _ByName[AnswerRpc] = field(default_factory=_ByName[AnswerRpc])

    def on_authenticate(self, hook: OnAuthenticate) -> None:
        """Ask *hook* who clients without a token are."""
        self.who = lambda connection, request: hook(connection, text_of(request.data))

    def on_refresh(self, hook: OnRefresh) -> None:
        """Ask *hook* whether clients stay whose time is over."""
        self.refresh = hook

    def on_subscribe(self, pattern: str, hook: OnSubscribe) -> None:
        """Ask *hook* who may subscribe to channels like *pattern*."""
        self._subscribe.add(pattern, lambda connection, request: hook(connection, request.channel))

    def on_publish(self, pattern: str, hook: OnPublish) -> None:
        """Ask *hook* who may publish to channels like *pattern*."""
        self._publish.add(pattern, hook)

    def on_rpc(self, method: str, hook: OnRpc) -> None:
        """Let *hook* answer calls of *method*."""
        self._rpc.add(method, lambda connection, _method, data: hook(connection, data))

    def otherwise_subscribe(self, applies: Callable[[str], bool], hook: AskSubscribe) -> None:
        """Ask *hook* about subscriptions to other channels, where *applies* is true of them."""
        self._subscribe.otherwise(applies, hook)

    def otherwise_publish(self, applies: Callable[[str], bool], hook: AskPublish) -> None:
        """Ask *hook* about publications in other channels, where *applies* is true of them."""
        self._publish.otherwise(applies, hook)

    def otherwise_rpc(self, hook: AnswerRpc) -> None:
        """Let *hook* answer calls of all other methods."""
        self._rpc.otherwise(lambda _method: True, hook)

    def for_subscribe(self, channel: str) -> AskSubscribe | None:
        """Who is asked about subscriptions to *channel*."""
        return self._subscribe.find(channel)

    def for_publish(self, channel: str) -> AskPublish | None:
        """Who is asked about publications to *channel*."""
        return self._publish.find(channel)

    def for_rpc(self, method: str) -> AnswerRpc:
        """Who answers *method*.

        Raises:
            FeatureOff: the application answers no calls.
            MethodNotFound: it does not answer this one.
        """
        if not self._rpc:
            raise FeatureOff
        hook = self._rpc.find(method)
        if hook is None:
            raise MethodNotFound
        return hook


def text_of(value: Json) -> str:
    """JSON text for the application; `null` where there is nothing."""
    return bytes(value).decode() if value else "null"
