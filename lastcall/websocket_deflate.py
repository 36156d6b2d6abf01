"""permessage-deflate (RFC 7692) without context takeover: each message stands alone.

So nothing is remembered between two messages: one compressed frame serves every subscriber, an
idle connection costs nothing, and a connection can move to another worker at any time.
"""

import zlib
from collections.abc import Iterator

MAX_WINDOW_BITS = 15
_MIN_WINDOW_BITS = 9  # zlib cannot make raw streams with 8 (RFC 7692, 7.1.2.1 would allow it)

# A sync flush ends with an empty stored block, which the wire leaves out (RFC 7692, 7.2.1).
_TAIL = b"\x00\x00\xff\xff"

# A sender may end blocks with BFINAL (7.2.3.5). Each one means another pass over the rest, so
# their number is bounded: thousands of empty blocks would otherwise cost a quadratic time.
_MAX_FINAL_BLOCKS = 8


class InflateError(Exception):
    """The compressed message is not valid DEFLATE data."""


class InflatedTooBigError(Exception):
    """The message would be larger than the limit; no more than the limit was inflated."""


def deflate(payload: bytes, window_bits: int) -> bytes:
    """Compress one message for clients that accept a window of *window_bits*."""
    # A window larger than the message helps nothing and costs its allocation.
    window = max(_MIN_WINDOW_BITS, min(window_bits, len(payload).bit_length()))
    # The memory level follows the window for the same reason: 8 is zlib's own for 15 bits.
    compressor = zlib.compressobj(wbits=-window, memLevel=max(1, window - 7))
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[: -len(_TAIL)]


def inflate(payload: bytes, limit: int) -> bytes:
    """Undo `deflate`, whoever did it; *limit* bounds the result, and the memory that it takes.

    Raises:
        InflateError: this is not DEFLATE data.
        InflatedTooBigError: the message is larger than *limit*.
    """
    result, rest = b"", payload + _TAIL
    for _ in range(_MAX_FINAL_BLOCKS):
        # What follows a final block may still refer to what came before it.
        inflater = zlib.decompressobj(-MAX_WINDOW_BITS, zdict=result[-32768:])
        try:
            result += inflater.decompress(rest, limit + 1 - len(result))
        except zlib.error as error:
            raise InflateError from error
        if len(result) > limit:
            raise InflatedTooBigError
        if not inflater.eof:
            return result
        rest = inflater.unused_data
        # After the final block stands at least the tail that we added ourselves.
        if rest == _TAIL:
            return result
    raise InflateError


def longest_compressed(limit: int) -> int:
    """No sender needs more bytes than this for a message of *limit* bytes."""
    # Stored blocks add five bytes to each 16 KiB or so; small messages a constant.
    return limit + (limit >> 10) + 64


def negotiate(offers: Iterator[str]) -> tuple[int, str] | None:
    """The window to compress with, and our answer, for the first acceptable of *offers*.

    *offers* are the elements of Sec-WebSocket-Extensions. RFC 7692, 7.1.1 lets a server insist
    on both `no_context_takeover` whether the client asked for them or not.
    """
    for offer in offers:
        name, *parameters = (part.strip() for part in offer.split(";"))
        if name != "permessage-deflate":
            continue
        window_bits = _window_bits(parameters)
        if window_bits is None:
            continue
        answer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
        if window_bits != MAX_WINDOW_BITS:
            answer += f"; server_max_window_bits={window_bits}"
        return window_bits, answer
    return None


_VALUELESS = ("server_no_context_takeover", "client_no_context_takeover")
_WINDOWS = {str(bits): bits for bits in range(8, MAX_WINDOW_BITS + 1)}


def _window_bits(parameters: list[str]) -> int | None:
    """The window that the client leaves to us, or None if its offer must be declined (7.1.3)."""
    window_bits = MAX_WINDOW_BITS
    seen: set[str] = set()
    for parameter in parameters:
        name, equals, value = (part.strip() for part in parameter.partition("="))
        bits = _WINDOWS.get(value.strip('"'))
        if name in seen:
            return None
        seen.add(name)
        if name in _VALUELESS and not equals:
            continue
        if name == "client_max_window_bits" and (bits is not None or not equals):
            continue  # we can read any window
        if name == "server_max_window_bits" and bits is not None and bits >= _MIN_WINDOW_BITS:
            window_bits = bits
            continue
        return None
    return window_bits
