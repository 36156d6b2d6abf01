"""What a client of a stream says by a request of its own, in either form of the protocol."""

import msgspec

from lastcall.protocol.base import Message
from lastcall.protocol.protobuf_schema import BYTES, TEXT, Field, decoded


class Said(msgspec.Struct, frozen=True):
    """A message, and the client that says it: its secret and the name of its worker."""

    session: str
    node: str
    message: Message


class _InJson(msgspec.Struct, frozen=True):
    session: str
    node: str
    data: str


class _InProtobuf(msgspec.Struct, frozen=True):
    node: str = ""
    session: str = ""
    data: bytes = b""


_FIELDS = (Field(1, "node", TEXT), Field(2, "session", TEXT), Field(3, "data", BYTES))


def said_in_json(body: bytes) -> Said:
    """Read a request of JSON.

    Raises:
        ValueError: it is none.
    """
    try:
        said = msgspec.json.decode(body, type=_InJson)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"no request: {error}") from error
    return Said(said.session, said.node, Message(said.data.encode()))


def said_in_protobuf(body: bytes) -> Said:
    """Read a request of Protocol Buffers.

    Raises:
        ValueError: it is none.
    """
    said = decoded(body, _InProtobuf, _FIELDS)
    return Said(said.session, said.node, Message(said.data, binary=True))
