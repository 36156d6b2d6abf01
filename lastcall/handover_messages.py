"""What two workers say to each other when one hands connections to the other.

    leaving worker          ready worker
    Hello         →                     how many, of which channels; nothing is frozen yet
                  ←         Welcome     subscribed to them; or a refusal
    Offer         →                     the states; beside them the sockets and the claims
                  ←         Done        it serves those that it could claim
    Postscript    →                     what they were told here in the meantime, if anything

No message says whose a connection is: who claims it first has it (`socket_handover.Claims`). The
ready worker claims and serves at once; the leaving one takes back what is left of the claims when
the other is done, has not done it all in time, or is dead. docs/decisions/hand-over.md says what
happens when which of the two dies.
"""

import msgspec

from lastcall.broker.base import StreamPosition

VERSION = 1
"""Of `ConnectionState`. A new release reads what an old one wrote, or refuses it."""

MAX_MESSAGE = 256 * 2**20
"""Bytes; a batch of clients that read slowly can be large."""


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """May I hand over *count* connections that listen to *channels*?"""

    count: int
    channels: list[str]


class Welcome(msgspec.Struct, frozen=True, tag="welcome"):
    """Yes; or the reason why not."""

    refusal: str = ""


class Offer(msgspec.Struct, frozen=True, tag="offer"):
    """Frozen connections: claim them, and go on with them.

    The sockets come with the same bytes, in this order, and then the claims.
    """

    states: list[bytes]
    """Each a `ConnectionState`: one that cannot be read is refused without harm to the others."""


class Done(msgspec.Struct, frozen=True, tag="done"):
    """Those that were claimed are being served; no others will be claimed."""

    replayed: int = 0
    """Messages that they got only now, because they were published meanwhile."""


class Late(msgspec.Struct, frozen=True):
    """What a connection's last worker wrote to it after it was frozen."""

    frames: list[bytes] = []
    closed: tuple[int, str] | None = None


class Postscript(msgspec.Struct, frozen=True, tag="postscript"):
    """Let them have this as well."""

    late: dict[int, Late]
    """By their place in the offer; most have nothing."""


type HandoverMessage = Hello | Welcome | Offer | Done | Postscript


class ConnectionState(msgspec.Struct, frozen=True, kw_only=True):
    """All that the next worker has to know of a connection.

    Fields have names on the wire: a later release may add one that has a default.
    """

    version: int = VERSION
    host: str | None
    port: int | None
    user: str | None
    endpoint: str
    channels: list[tuple[str, StreamPosition]]
    """What it listens to, and how far it has come in each."""
    protocol: str
    """Name of its client protocol."""
    received: int = 0
    """Messages in this second: they count against its rate."""
    session: bytes = b""
    """A `Session`; nothing where its protocol has none."""
    transport: bytes
    """What the transport says of itself."""
    heard: StreamPosition | None = None
    """Up to which order its last worker had done to it what all workers were told."""
    beat: float | None = None
    """The time of the last heartbeat that it was told of."""

    def encode(self) -> bytes:
        """As bytes."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def decode(cls, state: bytes) -> "ConnectionState":
        """Take what `encode` made.

        Raises:
            ValueError: it is something else, or of a version that is not known here.
        """
        try:
            version = msgspec.msgpack.decode(state, type=_Header).version
            if version != VERSION:
                raise ValueError(f"version {version} of a connection's state is not known here")
            return msgspec.msgpack.decode(state, type=cls)
        except msgspec.MsgspecError as error:
            raise ValueError(f"no connection's state: {error}") from error


class _Header(msgspec.Struct, frozen=True):
    version: int


_DECODER: msgspec.msgpack.Decoder[HandoverMessage] = msgspec.msgpack.Decoder(HandoverMessage)


def encode(message: HandoverMessage) -> bytes:
    """As bytes, without their length."""
    return msgspec.msgpack.encode(message)


def decode(encoded: bytes | bytearray | memoryview) -> HandoverMessage:
    """Take what `encode` made.

    Raises:
        ValueError: it is something else.
    """
    try:
        return _DECODER.decode(encoded)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"no message of a hand-over: {error}") from error
