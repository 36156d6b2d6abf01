"""The wire format of Protocol Buffers: numbered fields in, numbered fields out.

As much of it as messages of this server need: varints and what has a length. Fields of any other
kind are skipped, as the specification wants of unknown ones.
"""

from collections.abc import Iterator

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}
_MORE, _BITS = 0x80, 0x7F
_MAX_SHIFT = 63
"""Bits before the last byte of a varint; it has ten at most."""

type Value = int | bytes
"""Of a varint, or of what has a length."""


class WireError(ValueError):
    """These bytes are no message."""


def varint(number: int) -> bytes:
    """*number*, not negative, as a varint."""
    parts = bytearray()
    while number > _BITS:
        parts.append(number & _BITS | _MORE)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def number_field(field: int, number: int) -> bytes:
    """A field with a number; nothing for 0, which is what is read where there is none."""
    return varint(field << 3 | _VARINT) + varint(number) if number else b""


def bytes_field(field: int, data: bytes) -> bytes:
    """A field with *data*; nothing for none, likewise."""
    return message_field(field, data) if data else b""


def message_field(field: int, message: bytes) -> bytes:
    """A field with a message, which is there even if it is empty."""
    return varint(field << 3 | _LENGTH) + varint(len(message)) + message


def delimited(message: bytes) -> bytes:
    """*message* behind its length, as several follow each other."""
    return varint(len(message)) + message


def messages_in(data: bytes) -> Iterator[bytes]:
    """The messages of *data*, each behind its length.

    Raises:
        WireError: here it ends in the middle; those before it were given.
    """
    at = 0
    while at < len(data):
        length, at = _read_varint(data, at)
        yield _cut(data, at, length)
        at += length


def fields_in(message: bytes) -> Iterator[tuple[int, Value]]:
    """The fields of *message* with their numbers, in order.

    Raises:
        WireError: it is none.
    """
    at = 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        field, kind = tag >> 3, tag & 7
        if not field:
            raise WireError("a field without a number")
        if kind == _VARINT:
            value, at = _read_varint(message, at)
            yield field, value
        elif kind == _LENGTH:
            length, at = _read_varint(message, at)
            yield field, _cut(message, at, length)
            at += length
        elif kind in _FIXED:
            at += len(_cut(message, at, _FIXED[kind]))
        else:
            raise WireError(f"a field of kind {kind}")


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        if at >= len(data) or shift > _MAX_SHIFT:
            raise WireError("a number that does not end")
        byte = data[at]
        at += 1
        number |= (byte & _BITS) << shift
        if byte < _MORE:
            return number & (2**64 - 1), at
        shift += 7


def _cut(data: bytes, at: int, length: int) -> bytes:
    if length > len(data) - at:
        raise WireError("a field that is longer than its message")
    return data[at : at + length]
