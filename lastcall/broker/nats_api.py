"""What JetStream is asked, and what it answers: JSON. Pure."""

import base64
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from lastcall.broker.nats_messages import Kept, decode
from lastcall.broker.nats_names import Names

KEY_SECONDS = 300
"""How long an idempotency key is remembered; `Broker.publish` promises it."""
SAFE_WITH_REPLICAS = (2, 9, 21)
"""Before, two who append to a stream with replicas at the same time could both be told yes."""
OLDEST = (2, 9, 0)

NO_MESSAGE, NO_STREAM, NAME_IN_USE = 10037, 10059, 10058
_OVERTAKEN = {10071, 10164}
_NANOSECONDS = 10**9


class Problem(msgspec.Struct, frozen=True):
    """Why something was refused."""

    code: int = 0
    err_code: int = 0
    description: str = ""

    @property
    def is_overtaken(self) -> bool:
        """Whether somebody else has appended to the channel meanwhile."""
        return self.err_code in _OVERTAKEN


class Ack(msgspec.Struct, frozen=True):
    """What became of a message, or of a purge."""

    seq: int = 0
    duplicate: bool = False
    error: Problem | None = None


class _Found(msgspec.Struct, frozen=True):
    seq: int
    subject: str
    data: str = ""


class _Get(msgspec.Struct, frozen=True):
    message: _Found | None = None
    error: Problem | None = None


class Stream(msgspec.Struct, frozen=True):
    """What a stream is like."""

    config: dict[str, Any] = {}
    error: Problem | None = None

    @property
    def replicas(self) -> int:
        """How many servers have it."""
        return int(self.config.get("num_replicas", 1))


class Wish(NamedTuple):
    """How a server wants its stream."""

    size: int
    """Publications of a channel that can be read, at most."""
    seconds: float
    """How long a channel is remembered."""
    replicas: int


def get_last(subject: str) -> bytes:
    """Ask for the last message under *subject*."""
    return msgspec.json.encode({"last_by_subj": subject})


def get(sequence: int) -> bytes:
    """Ask for a message."""
    return msgspec.json.encode({"seq": sequence})


def purge(subject: str, before: int) -> bytes:
    """Ask that the messages under *subject* with lower sequences are forgotten."""
    return msgspec.json.encode({"filter": subject, "seq": before})


def ack(payload: bytes) -> Ack:
    """The answer to a message, or to a purge.

    Raises:
        ValueError: it is none.
    """
    return _ack(payload)


def got(payload: bytes, subject: str) -> Kept | None:
    """The answer to a question for a message under *subject*; None: there is no such.

    Raises:
        ValueError: it was refused, or is not of this server.
    """
    answer = _get(payload)
    if answer.error is not None:
        if answer.error.err_code == NO_MESSAGE:
            return None
        raise ValueError(answer.error.description)
    found = answer.message
    if found is None or found.subject != subject:
        return None
    return Kept(found.seq, decode(base64.b64decode(found.data)))


def stream(names: Names, wish: Wish) -> dict[str, Any]:
    """The configuration of a stream that does not exist yet."""
    return {
        "name": names.stream,
        "description": "Channels of Lastcall",
        "subjects": [names.every_subject],
        "retention": "limits",
        # A limit of bytes that somebody sets refuses new messages, aloud, and makes no gaps.
        "discard": "new",
        "storage": "file",
        "num_replicas": wish.replicas,
        "duplicate_window": KEY_SECONDS * _NANOSECONDS,
        "republish": {"src": names.every_subject, "dest": names.every_told},
        **_limits(wish),
    }


def changed(config: dict[str, Any], names: Names, wish: Wish) -> dict[str, Any] | None:
    """The configuration that a stream has to get; None: it is good as it is.

    Limits are raised and never lowered: servers of two releases may share it for a while.
    """
    new = dict(config)
    new["subjects"] = [names.every_subject]
    new["republish"] = {"src": names.every_subject, "dest": names.every_told}
    window = KEY_SECONDS * _NANOSECONDS
    new["duplicate_window"] = max(window, config.get("duplicate_window", 0))
    for name, least in _limits(wish).items():
        # Nothing, or less than one, means as much as there is.
        new[name] = max(least, config[name]) if config.get(name, 0) > 0 else config.get(name, 0)
    return new if new != config else None


def stream_answer(payload: bytes) -> Stream:
    """The answer to a question about a stream.

    Raises:
        ValueError: it is none.
    """
    return _stream(payload)


def version(text: str) -> tuple[int, ...]:
    """A version that can be compared."""
    numbers = text.partition("-")[0].split(".")
    return tuple(int(number) for number in numbers if number.isdecimal())


def _limits(wish: Wish) -> dict[str, int]:
    # Beside its publications a channel may have a few messages that only say where it stands.
    return {
        "max_msgs_per_subject": wish.size + 8,
        "max_age": int(wish.seconds) * _NANOSECONDS,
    }


def _reader[Answer](kind: type[Answer]) -> Callable[[bytes], Answer]:
    decode_json = msgspec.json.Decoder(kind).decode

    def read(payload: bytes) -> Answer:
        try:
            return decode_json(payload)
        except msgspec.DecodeError as error:
            raise ValueError(f"not of JetStream: {error}") from error

    return read


_ack, _get, _stream = _reader(Ack), _reader(_Get), _reader(Stream)
