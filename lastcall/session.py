"""A client that speaks the Centrifuge protocol: who it is, what it hears, and what is due.

Pure, and plain data: it moves with its connection to another worker. Times are seconds. *now* is
the wall clock, by which tokens end; *beat* a clock that never jumps and that all processes of the
host share, by which pings go.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from lastcall.errors import ConnectionExpired, Disconnect, NoPong, Stale, SubscriptionExpired


class Stage(StrEnum):
    """How far a session has come."""

    NEW = "new"
    CONNECTED = "connected"
    REFUSED = "refused"
    """Its connect was answered with an error: nothing that it says counts any more."""


class Subscription(msgspec.Struct, omit_defaults=True):
    """A channel that the client hears."""

    server_side: bool = False
    positioned: bool = False
    recoverable: bool = False
    presence: bool = False
    """Whether it is seen in the channel's presence."""
    join_leave: bool = False
    """Whether others are told that it comes and goes."""
    push_join_leave: bool = False
    """Whether it is told who comes and goes."""
    chan_info: bytes = b""
    """A JSON value, or nothing."""
    expire_at: float = 0
    """By the wall clock; 0: never."""
    delta: bool = False
    """Whether it hears deltas."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a session waits for its client, in seconds."""

    stale: float = 10.0
    """For `connect`."""
    ping: float = 25.0
    """Between two pings; 0: none."""
    pong: float = 8.0
    """For the answer to a ping; less than *ping*."""
    expired: float = 25.0
    """For a fresh token, past the end of the last."""


@dataclass(frozen=True, slots=True)
class Ping:
    """Time for a ping."""


@dataclass(frozen=True, slots=True)
class AskAgain:
    """Time to ask the application whether the client may stay."""


@dataclass(frozen=True, slots=True)
class Expired:
    """The time of a subscription that the client made is over."""

    channel: str


type Due = Ping | AskAgain | Expired | Disconnect


class Session(msgspec.Struct, omit_defaults=True):
    """What is known of one client."""

    since: float
    """When it came, by the beat."""
    client: str = ""
    """Names this connection; other clients may know it."""
    user: str = ""
    conn_info: bytes = b""
    """A JSON value, or nothing."""
    stage: Stage = Stage.NEW
    expire_at: float = 0
    """By the wall clock; 0: never."""
    is_asked_about: bool = False
    """Whether the application is asked at the end of its time, and the client is not."""
    ask_at: float = 0
    """When that is, by the wall clock; 0: never, or it is being asked."""
    meta: bytes = b""
    """What the application keeps with the client: a JSON value, or nothing."""
    headers: tuple[tuple[str, str], ...] = ()
    """Of its handshake: those that its backend wants."""
    has_token: bool = False
    """Whether it is here by a token, and goes when that is revoked."""
    token_id: str = ""
    issued_at: float | None = None
    token_channels: tuple[str, ...] = ()
    """Server-side subscriptions that the token asked for."""
    ping_at: float = 0
    """By the beat; 0: never."""
    pong_by: float = 0
    """By the beat; 0: no ping waits for its answer."""
    channels: tuple[str, ...] = ()
    """Server-side subscriptions that the application asked for in `attach`."""
    subscriptions: dict[str, Subscription] = {}
    key: str = ""
    """Who knows it may speak for this client, by requests of their own; a secret."""
    node: str = ""
    """Where these requests are taken to; empty: nowhere, the client speaks for itself."""
    only_listens: bool = False
    """Whether it says nothing after its connect, and answers no ping."""
    has_frame_pings: bool = False
    """Whether the server's WebSocket pings are enough for it, and it wants none of the protocol."""
    look_at: int = 0
    """When this worker looks next for what is due, by the beat; 0: never. It does not move."""

    def dump(self) -> bytes:
        """All of it, for the next worker."""
        return msgspec.msgpack.encode(msgspec.structs.replace(self, look_at=0))

    @classmethod
    def load(cls, state: bytes) -> "Session":
        """Take what `dump` made.

        Raises:
            ValueError: it is something else.
        """
        try:
            return msgspec.msgpack.decode(state, type=cls)
        except msgspec.MsgspecError as error:
            raise ValueError(f"no session: {error}") from error

    def lasts_until(self, at: float) -> None:
        """Its time is over at *at* (by the wall clock; 0: never)."""
        self.ask_at, self.expire_at = (at, 0) if self.is_asked_about else (0, at)

    def pong(self) -> bool:
        """The client answered; False: nobody asked."""
        asked, self.pong_by = self.pong_by, 0
        return asked != 0

    def due(self, timing: Timing, *, now: float, beat: float) -> list[Due]:
        """What has to be done now; asked again after `rest`."""
        if self.stage is not Stage.CONNECTED:
            return [Stale()] if beat >= self.since + timing.stale else []
        if self.pong_by and beat >= self.pong_by:
            return [NoPong()]
        if self._is_over(self.expire_at, timing, now):
            return [ConnectionExpired()]
        dues = list(self._expired(timing, now))
        if self.ask_at and now >= self.ask_at:
            self.ask_at = 0
            dues.append(AskAgain())
        if self.ping_at and beat >= self.ping_at:
            self.ping_at = beat + timing.ping
            self.pong_by = 0 if self.only_listens else beat + timing.pong
            dues.append(Ping())
        return dues

    def rest(self, timing: Timing, *, now: float, beat: float) -> float:
        """Seconds until something may be due."""
        if self.stage is not Stage.CONNECTED:
            return max(0.0, self.since + timing.stale - beat)
        ends = [self.expire_at, *(each.expire_at for each in self.subscriptions.values())]
        times = [at + timing.expired - now for at in ends if at]
        times += [self.ask_at - now] if self.ask_at else []
        times += [at - beat for at in (self.ping_at, self.pong_by) if at]
        return max(0.0, min(times, default=timing.stale))

    def _expired(self, timing: Timing, now: float) -> Iterator[Due]:
        for channel, subscription in self.subscriptions.items():
            if self._is_over(subscription.expire_at, timing, now):
                yield SubscriptionExpired() if subscription.server_side else Expired(channel)

    def _is_over(self, expire_at: float, timing: Timing, now: float) -> bool:
        return expire_at != 0 and now >= expire_at + timing.expired
