"""What can go wrong, sorted by who has to act.

LastcallError
├── Disconnect              this client: its connection ends with a code and a reason
│   ├── ServerShutdown          1012  come back: the server is stopping
│   ├── WorkerFailed            1012  come back: a part of this worker died
│   ├── MessageTooBig           1009  send less
│   ├── InvalidUtf8             1007  send text as UTF-8
│   ├── SlowConsumer            3008  come back and read faster
│   └── InsufficientState       3010  come back: what was published meanwhile is lost
├── BrokerUnavailable       the operator: nothing can be published now
├── PartDied                the operator: this worker is broken and leaves
├── UnrecoverablePosition   the reader of a history: start over from its top
└── SettingsError           the operator: a setting has no valid value
"""

from typing import ClassVar


class LastcallError(Exception):
    """Every error that this package raises on purpose."""


class Disconnect(LastcallError):  # noqa: N818  (the field's word; it is no failure of the server's)
    """Ends one connection with a close code and a reason.

    Codes below 3500 and 4000 to 4499 mean "come back", 3500 to 3999 and 4500 to 4999 "do not".
    The reason is plain words, never empty and at most 123 bytes of UTF-8 (RFC 6455, 5.5.1).
    """

    code: ClassVar[int]
    reason: ClassVar[str]
    is_servers_own: ClassVar[bool] = False
    """Whether the server lets go for reasons of its own: then the others are not told."""

    def __init__(self) -> None:
        """Take the message from the class: its code and reason."""
        super().__init__(f"{self.code} {self.reason}")


class ServerShutdown(Disconnect):
    """The server is stopping and no other worker can take the client."""

    code = 1012
    reason = "server is shutting down"
    is_servers_own = True


class WorkerFailed(Disconnect):
    """A part of this worker died; the worker leaves at once."""

    code = 1012
    reason = "worker failed"
    is_servers_own = True


class MessageTooBig(Disconnect):
    """A message was larger than `MAX_MESSAGE_SIZE`."""

    code = 1009
    reason = "message too big"


class InvalidUtf8(Disconnect):
    """A text message was not UTF-8 (RFC 6455, 8.1)."""

    code = 1007
    reason = "text is not valid UTF-8"


class SlowConsumer(Disconnect):
    """The client read too slowly: its backlog went over `MAX_BACKLOG`."""

    code = 3008
    reason = "slow"


class InsufficientState(Disconnect):
    """Publications that the client has not heard are gone: it must know that there is a gap."""

    code = 3010
    reason = "insufficient state"
    is_servers_own = True


class BrokerUnavailable(LastcallError):  # noqa: N818  (says what is so, like the others)
    """The publication was not accepted; whoever published must know."""


class PartDied(LastcallError):  # noqa: N818  (says what is so)
    """A part of this worker died: the log says which, and the process ends with an error."""


class UnrecoverablePosition(LastcallError):  # noqa: N818  (says what is so)
    """The history no longer reaches back to the asked position, or its epoch is another."""


class SettingsError(LastcallError):
    """A setting's value is not allowed; the message names the setting, the value and what is."""
