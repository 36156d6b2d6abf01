"""Deltas in the format of Fossil: a text told by another one that the reader has already.

A delta says how long the text is, then what to copy from the other one and what to insert, then a
checksum. The format is Fossil's; how common pieces are found is not, because loops over bytes are
slow here. Pieces are cut between characters: a delta of two texts in UTF-8 is one itself.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~"
_BLOCK = 8
"""Pieces of twice this length are found wherever they are."""
_SHORTEST = 10
"""Bytes of a piece that is worth a copy: one takes about six, and divides what is inserted."""
_WORTH_A_LOOK = 32
"""Bytes in the middle of a text for which it pays to look through all of the other one."""
_FIRST_LOOK = 64
"""Bytes that are compared at once, at first; then more and more."""
_FOLLOWING = range(0x80, 0xC0)
"""The bytes of a character behind its first one; there are three at most."""


class _Piece(NamedTuple):
    """*length* bytes of the target from *start* on are those of the source from *at* on."""

    start: int
    at: int
    length: int


def delta(source: bytes, target: bytes) -> bytes:
    """What makes *target* of *source*; where they have little in common, longer than *target*."""
    parts = [_number(len(target)), b"\n"]
    done = 0
    for start, at, length in _pieces(source, target):
        if start > done:
            parts += (_number(start - done), b":", target[done:start])
        parts += (_number(length), b"@", _number(at), b",")
        done = start + length
    if done < len(target):
        parts += (_number(len(target) - done), b":", target[done:])
    parts += (_number(_checksum(target)), b";")
    return b"".join(parts)


def _pieces(source: bytes, target: bytes) -> Iterator[_Piece]:
    """What the two have in common, in the order of the target."""
    begin = _same_after(source, 0, target[: len(source)], 0)
    rest = min(len(target) - begin, len(source))
    end = _same_before(source, len(source), target, len(target), rest)
    tail = len(target) - end
    yield from _cut(target, _Piece(0, 0, begin))
    yield from _found(source, target[:tail], target, begin)
    yield from _cut(target, _Piece(tail, len(source) - end, end))


def _found(source: bytes, head: bytes, target: bytes, start: int) -> Iterator[_Piece]:
    """Common pieces of *head*, with which *target* begins, from *start* on."""
    last = len(head) - _BLOCK
    if last - start < _WORTH_A_LOOK:
        return
    blocks = {source[at : at + _BLOCK]: at for at in range(0, len(source) - _BLOCK + 1, _BLOCK)}
    done, here = start, start
    while here <= last:
        at = blocks.get(head[here : here + _BLOCK])
        if at is None:
            here += 1
            continue
        before = _same_before(source, at, head, here, min(here - done, at, _BLOCK))
        length = before + _same_after(source, at, head, here)
        for piece in _cut(target, _Piece(here - before, at - before, length)):
            yield piece
            done = piece.start + piece.length
        here = max(here + 1, done)


def _cut(target: bytes, piece: _Piece) -> Iterator[_Piece]:
    """The whole characters of *piece*, if they are worth it."""
    start, at, length = piece
    for _ in range(3):
        if length and target[start] in _FOLLOWING:
            start, at, length = start + 1, at + 1, length - 1
    for _ in range(3):
        end = start + length
        if length and end < len(target) and target[end] in _FOLLOWING:
            length -= 1
    if length >= _SHORTEST:
        yield _Piece(start, at, length)


def _same_after(one: bytes, here: int, other: bytes, there: int) -> int:
    """How many bytes are the same from *here* in *one* and *there* in *other* on."""
    limit, same, look = min(len(one) - here, len(other) - there), 0, _FIRST_LOOK
    while same < limit:
        part = min(look, limit - same)
        mine, yours = here + same, there + same
        differing = int.from_bytes(one[mine : mine + part]) ^ int.from_bytes(
            other[yours : yours + part]
        )
        if differing:
            return same + part - _bytes_in(differing)
        same += part
        look *= 4
    return limit


def _same_before(one: bytes, here: int, other: bytes, there: int, limit: int) -> int:
    """How many bytes, *limit* at most, are the same before *here* and before *there*."""
    same, look = 0, _FIRST_LOOK
    while same < limit:
        part = min(look, limit - same)
        mine, yours = here - same, there - same
        differing = int.from_bytes(one[mine - part : mine], "little") ^ int.from_bytes(
            other[yours - part : yours], "little"
        )
        if differing:
            return same + part - _bytes_in(differing)
        same += part
        look *= 4
    return limit


def _bytes_in(number: int) -> int:
    return (number.bit_length() + 7) // 8


def _number(number: int) -> bytes:
    digits = ""
    while number or not digits:
        number, digit = divmod(number, 64)
        digits = _DIGITS[digit] + digits
    return digits.encode()


def _checksum(text: bytes) -> int:
    """The sum of its words of 32 bits, the last one filled up with zeros."""
    filled = text + bytes(-len(text) % 4)
    words: tuple[int, ...] = struct.unpack(f">{len(filled) // 4}I", filled)
    return sum(words) % 2**32
