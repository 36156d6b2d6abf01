"""What can be published, and as which bytes."""

from typing import Any

import msgspec
from pydantic import BaseModel

from lastcall.broker.base import Kind

type Payload = str | bytes | Any
"""What can be published: text as text, bytes as binary, anything else as JSON text."""


def encode(payload: Payload) -> tuple[bytes, Kind]:
    """The bytes of *payload*, and what they are."""
    if isinstance(payload, str):
        return payload.encode(), Kind.TEXT
    if isinstance(payload, bytes | bytearray | memoryview):
        return bytes(payload), Kind.BINARY
    if isinstance(payload, BaseModel):
        return payload.model_dump_json().encode(), Kind.JSON
    return msgspec.json.encode(payload), Kind.JSON
