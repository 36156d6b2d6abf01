"""Where the reader of an event stream stands, as the id of an event.

An `EventSource` keeps the last id that it read, and names it when it comes back (`Last-Event-ID`).
So each id says all: `{"<epoch>": {"<channel>": <offset>, …}, …}`.
"""

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from lastcall.broker.base import StreamPosition

MAX_ID = 4096
"""Bytes in an id; proxies have limits for a header."""

_Ids = dict[str, dict[str, Annotated[int, Meta(ge=0, lt=2**53)]]]

_DECODER = msgspec.json.Decoder(_Ids)


def event_id(positions: Mapping[str, StreamPosition]) -> bytes:
    """The id for *positions*, by channel; empty where it would be too long: nothing is recovered.

    An id that is left out would be worse: the one before it would count.
    """
    offsets: dict[str, dict[str, int]] = {}
    for channel, position in positions.items():
        offsets.setdefault(position.epoch, {})[channel] = position.offset
    encoded = msgspec.json.encode(offsets) if offsets else b""
    return encoded if len(encoded) <= MAX_ID else b""


def positions_of(last_event_id: str) -> dict[str, StreamPosition]:
    """What `event_id` was made of; nothing if it is anything else."""
    try:
        epochs = _DECODER.decode(last_event_id.encode())
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
        return {}
    return {
        channel: StreamPosition(offset, epoch)
        for epoch, offsets in epochs.items()
        for channel, offset in offsets.items()
    }
