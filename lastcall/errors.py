"""What can go wrong, sorted by who has to act.

LastcallError
├── Disconnect              this client: its connection ends with a code and a reason
│   ├── ServerShutdown          1012  come back: the server is stopping
│   ├── WorkerFailed            1012  come back: a part of this worker died
│   ├── MessageTooBig           1009  send less
│   ├── InvalidUtf8             1007  send text as UTF-8
│   ├── ServerError             3004  come back: something of ours went wrong
│   ├── ConnectionExpired       3005  come back with a fresh token
│   ├── SubscriptionExpired     3006  come back with a fresh token
│   ├── SlowConsumer            3008  come back and read faster
│   ├── InsufficientState       3010  come back: what was published meanwhile is lost
│   ├── NoPong                  3012  come back: the connection seemed dead
│   ├── Overloaded              3013  come back later, or ask for less at once
│   ├── InvalidToken            3500  stay away: the token is not ours, or of somebody else
│   ├── BadRequest              3501  stay away: this is not the protocol
│   ├── Stale                   3502  stay away: connected, but never said who
│   ├── ForceDisconnect         3503  stay away: the application says so
│   │   └── ClosedByApplication           the same, with a code and reason of the application's
│   ├── ConnectionLimit         3504  stay away: the user has as many connections as allowed
│   ├── ChannelLimit            3505  stay away: too many server-side subscriptions
│   ├── PermissionDenied        3507  stay away: not allowed to connect
│   └── NotAvailable            3508  stay away: nobody handles this here
├── Refused                 this client: one command is answered with an error, the rest goes on
│   ├── InternalError            100  try again
│   ├── Unauthorized             101
│   ├── UnknownChannel           102  there is no such namespace
│   ├── NotPermitted             103
│   ├── MethodNotFound           104
│   ├── AlreadySubscribed        105
│   ├── LimitExceeded            106
│   ├── BadCommand               107  a field has a value that cannot be
│   ├── FeatureOff               108  this channel does not have it
│   ├── TokenExpired             109  fetch another and try again
│   ├── TooManyRequests          111  try again later
│   └── Unrecoverable            112  start over from the top
├── BrokerUnavailable       the operator: nothing can be published now
├── PartDied                the operator: this worker is broken and leaves
├── UnrecoverablePosition   the reader of a history: start over from its top
└── SettingsError           the operator: a setting has no valid value
"""

from typing import ClassVar

from lastcall.close_words import is_plain, may_close_with


class LastcallError(Exception):
    """Every error that this package raises on purpose."""


class Disconnect(LastcallError):  # noqa: N818  (the field's word; it is no failure of the server's)
    """Ends one connection with a close code and a reason.

    Codes below 3500 and 4000 to 4499 mean "come back", 3500 to 3999 and 4500 to 4999 "do not".
    The reason is plain words, never empty, never JSON, and at most 123 bytes of UTF-8 (RFC 6455,
    5.5.1): SDKs misread anything else.
    """

    code: int
    reason: str
    is_servers_own: ClassVar[bool] = False
    """Whether the server lets go for reasons of its own: then the others are not told."""

    def __init__(self) -> None:
        """Take the message from the class: its code and reason.

        Raises:
            ValueError: no client could be told so.
        """
        if not may_close_with(self.code):
            raise ValueError(f"{self.code} is no close code: your own are 4000 to 4999")
        if not is_plain(self.reason):
            raise ValueError(
                f"{self.reason!r} is no reason: plain words, not JSON, of 1 to 123 bytes"
            )
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


class ServerError(Disconnect):
    """Something of ours went wrong while the client connected, and it reads no errors."""

    code = 3004
    reason = "internal server error"


class ConnectionExpired(Disconnect):
    """The token's time is over and the client did not bring another."""

    code = 3005
    reason = "connection expired"


class SubscriptionExpired(Disconnect):
    """The time of a server-side subscription is over and nobody extended it."""

    code = 3006
    reason = "subscription expired"


class NoPong(Disconnect):
    """The client did not answer a ping in time."""

    code = 3012
    reason = "no pong"


class Overloaded(Disconnect):
    """The client asked for more than is done, or the server has too much to do."""

    code = 3013
    reason = "too many requests"


class InvalidToken(Disconnect):
    """The token was not made with one of our keys, or for somebody or something else."""

    code = 3500
    reason = "invalid token"


class BadRequest(Disconnect):
    """The client sent what this protocol does not have, or not now."""

    code = 3501
    reason = "bad request"


class Stale(Disconnect):
    """The client did not say who it is in time."""

    code = 3502
    reason = "stale"


class ForceDisconnect(Disconnect):
    """The application disconnected the client for good."""

    code = 3503
    reason = "force disconnect"


class ClosedByApplication(ForceDisconnect):
    """The application disconnected the client, with a code and a reason of its own."""

    def __init__(self, code: int, reason: str) -> None:
        """Close with *code* and *reason*, which the caller has checked."""
        self.code = code
        self.reason = reason
        super().__init__()


class ConnectionLimit(Disconnect):
    """The user has as many connections as one user may have."""

    code = 3504
    reason = "connection limit"


class ChannelLimit(Disconnect):
    """More server-side subscriptions than a connection may have."""

    code = 3505
    reason = "channel limit"


class PermissionDenied(Disconnect):
    """This client may not connect."""

    code = 3507
    reason = "permission denied"


class NotAvailable(Disconnect):
    """The client sent a message, and the application does not listen to messages."""

    code = 3508
    reason = "not available"


class Refused(LastcallError):  # noqa: N818  (the field's word; the command failed, not we)
    """One command of a client is answered with an error.

    An application raises one of its own with ``Refused(code, message)``, where 400 to 1999 are
    free for it. *temporary*: the client shall try again.
    """

    code: int = 100
    message: str = "internal server error"
    temporary: bool = False

    def __init__(
        self, code: int | None = None, message: str = "", *, temporary: bool | None = None
    ) -> None:
        """Take what is not given from the class."""
        self.code = self.code if code is None else code
        self.message = message or self.message
        self.temporary = self.temporary if temporary is None else temporary
        super().__init__(f"{self.code} {self.message}")


class InternalError(Refused):
    """Something of ours went wrong."""

    code = 100
    message = "internal server error"
    temporary = True


class Unauthorized(Refused):
    """Nobody knows who this is."""

    code = 101
    message = "unauthorized"


class UnknownChannel(Refused):
    """The channel's namespace is not configured."""

    code = 102
    message = "unknown channel"


class NotPermitted(Refused):
    """Known, and not allowed."""

    code = 103
    message = "permission denied"


class MethodNotFound(Refused):
    """The application has no such method."""

    code = 104
    message = "method not found"


class AlreadySubscribed(Refused):
    """One connection subscribes to a channel once."""

    code = 105
    message = "already subscribed"


class LimitExceeded(Refused):
    """More subscriptions than a connection may have."""

    code = 106
    message = "limit exceeded"


class BadCommand(Refused):
    """A field of the command has a value that cannot be."""

    code = 107
    message = "bad request"


class FeatureOff(Refused):
    """The channel has no history, no presence, or whatever was asked for."""

    code = 108
    message = "not available"


class TokenExpired(Refused):
    """The token was good once."""

    code = 109
    message = "token expired"


class TooManyRequests(Refused):
    """The server has too much to do, or is leaving."""

    code = 111
    message = "too many requests"
    temporary = True


class Unrecoverable(Refused):
    """The stream no longer reaches back to the client's position."""

    code = 112
    message = "unrecoverable position"


class BrokerUnavailable(LastcallError):  # noqa: N818  (says what is so, like the others)
    """The publication was not accepted; whoever published must know."""


class PartDied(LastcallError):  # noqa: N818  (says what is so)
    """A part of this worker died: the log says which, and the process ends with an error."""


class UnrecoverablePosition(LastcallError):  # noqa: N818  (says what is so)
    """The history no longer reaches back to the asked position, or its epoch is another."""


class SettingsError(LastcallError):
    """A setting's value is not allowed; the message names the setting, the value and what is."""
