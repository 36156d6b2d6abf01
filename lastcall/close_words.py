"""Which codes and reasons a connection may end with, so that every client takes them as meant.

An SDK comes back after an empty reason, whatever the code means; and one that is JSON it reads as
an order, so that it stays away after `30` where it should come back.
"""

import msgspec

MAX_REASON = 123
"""Bytes in the reason of a close frame (RFC 6455, 5.5)."""
_REGISTERED = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015)})


def may_close_with(code: int) -> bool:
    """Whether *code* may stand in a close frame (RFC 6455, 7.4, and the registry at IANA)."""
    return code in _REGISTERED or 3000 <= code < 5000  # noqa: PLR2004  (libraries, applications)


def is_plain(reason: str) -> bool:
    """Whether *reason* is told to every client as it is."""
    if not reason.strip() or not reason.isprintable() or len(reason.encode()) > MAX_REASON:
        return False
    try:
        msgspec.json.decode(reason)
    except msgspec.MsgspecError:
        return True
    return False
