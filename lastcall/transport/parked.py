"""The transport of a connection that is between two others: nothing is sent, nothing is lost."""

from typing import TYPE_CHECKING

from lastcall.transport.base import Frame, Framing, Frozen, Transport, TransportEvents


class ParkedTransport:
    """Keeps what is written and asked for until `replay`."""

    movable = False

    def __init__(self, framing: Framing, events: TransportEvents, max_backlog: int) -> None:
        """Stand in for a transport of *framing*."""
        self.framing = framing
        self.frames: list[Frame] = []
        self.closed: tuple[int, str] | None = None
        self._events = events
        self._max_backlog = max_backlog
        self._backlog = 0
        self._is_aborted = False
        self._has_overflowed = False

    @property
    def backlog(self) -> int:
        """Bytes that were written here."""
        return self._backlog

    def write(self, frame: Frame, /) -> None:
        """Keep *frame*."""
        if self.closed is not None or self._has_overflowed:
            return
        if self._backlog + len(frame) > self._max_backlog:
            self._has_overflowed = True
            self._events.overflowed()
            return
        self._backlog += len(frame)
        self.frames.append(frame)

    def close(self, code: int, reason: str, *, discard: bool = False) -> None:
        """Keep the wish."""
        if self.closed is None:
            self.closed = code, reason
            if discard:
                self.frames.clear()

    def abort(self) -> None:
        """Keep the wish."""
        self._is_aborted = True

    def pause(self) -> None:
        """Nothing is read anyway."""

    def resume(self) -> None:
        """Whoever takes over asks the connection."""

    def freeze(self) -> Frozen | None:
        """It is nobody's."""
        return None

    def replay(self, transport: Transport) -> None:
        """Let *transport* do what was asked for meanwhile."""
        for frame in self.frames:
            transport.write(frame)
        if self.closed is not None:
            transport.close(*self.closed)
        if self._is_aborted:
            transport.abort()


if TYPE_CHECKING:
    _: type[Transport] = ParkedTransport
