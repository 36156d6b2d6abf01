"""What lies in Redis, by which names, and what is written there. Pure.

All keys of a channel have its name between braces: in a cluster they lie in one slot, where one
script can reach them. Publications are told under a name that has the database's number in it,
because Redis itself does not tell databases apart there.
"""

from typing import Any

import msgspec

from lastcall.broker.base import Kind, Publication, StreamPosition
from lastcall.broker.following import Page


class _Body(msgspec.Struct, frozen=True, array_like=True, gc=False):
    data: bytes
    kind: Kind = Kind.TEXT
    about: bytes = b""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Body).decode


class Names:
    """The names of one server in a Redis that others may use too."""

    def __init__(self, prefix: str, database: int) -> None:
        """Put *prefix* in front of everything."""
        self._prefix = prefix
        self._told = f"{prefix}:{database}:"

    def told(self, channel: str) -> bytes:
        """Under which name the channel's publications are told."""
        return f"{self._told}{{{_tag(channel)}}}".encode()

    def channel(self, name: bytes) -> str:
        """The channel whose publications are told under *name*; see `told`."""
        tag = name[len(self._told) + 1 : -1].decode()
        return tag.replace("%7D", "}").replace("%25", "%") if "%" in tag else tag

    def heard(self, name: bytes, message: bytes) -> Publication:
        """The publication in what was told under *name*; see `publish.lua`.

        Raises:
            ValueError: somebody else has told it.
        """
        try:
            offset, epoch, rest = message.split(b" ", 2)
            return _publication(self.channel(name), int(offset), epoch.decode(), rest)
        except (ValueError, msgspec.DecodeError) as error:
            raise ValueError(f"not of this server: {error}") from error

    def keys(self, channel: str, idempotency_key: str = "") -> tuple[bytes, ...]:
        """Its head and its stream, and where *idempotency_key* is remembered, if there is one."""
        base = f"{self._prefix}:{{{_tag(channel)}}}:"
        keys = (f"{base}head".encode(), f"{base}stream".encode())
        return (*keys, f"{base}key:{idempotency_key}".encode()) if idempotency_key else keys


def body(data: bytes, kind: Kind, about: bytes) -> bytes:
    """What is stored and told of a publication beside its position."""
    return _encode(_Body(data, kind, about))


def page(channel: str, answer: Any) -> Page:
    """What `read.lua` answered.

    Raises:
        ValueError: somebody else has written there.
    """
    top, epoch, since, is_reached, found = answer
    of, offsets, bodies = epoch.decode(), found[::2], found[1::2]
    try:
        publications = [
            _publication(channel, offset, of, each)
            for offset, each in zip(offsets, bodies, strict=True)
        ]
    except msgspec.DecodeError as error:
        raise ValueError(f"not of this server: {error}") from error
    return Page(StreamPosition(since, of), StreamPosition(top, of), is_reached == 1, publications)


def position(answer: Any) -> StreamPosition:
    """What `publish.lua` answered."""
    offset, epoch = answer
    return StreamPosition(offset, epoch.decode())


def _publication(channel: str, offset: int, epoch: str, encoded: bytes) -> Publication:
    found = _decode(encoded)
    return Publication(channel, found.data, offset, epoch, found.kind, found.about)


def _tag(channel: str) -> str:
    # A closing brace would end what decides about the slot, and an empty one would not count.
    return channel.replace("%", "%25").replace("}", "%7D")
