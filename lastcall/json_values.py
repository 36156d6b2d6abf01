"""JSON values from outside, as bytes that nobody looks into: whole, on one line, in UTF-8."""

import base64
import binascii

import msgspec
from msgspec import UNSET, Raw

from lastcall.errors import BadCommand
from lastcall.protocol.centrifuge import Json
from lastcall.protocol.centrifuge_json import in_one_line

_VALUE = msgspec.json.Decoder(Raw)


def one_value(value: Json) -> bytes:
    """A JSON value as it goes into lines.

    Raises:
        BadCommand: there is none.
    """
    if value is UNSET:
        raise BadCommand
    return in_one_line(value)


def value_or_none(value: Json, encoded: str) -> Json:
    """A JSON value that was given as it is or, which counts first, in base64.

    Raises:
        BadCommand: what is in base64 is no JSON value.
    """
    if not encoded:
        return value if value is UNSET else Raw(in_one_line(value))
    data = decode_base64(encoded)
    if not is_json(data):
        raise BadCommand
    return Raw(in_one_line(Raw(data)))


def decode_base64(text: str) -> bytes:
    """What *text* stands for.

    Raises:
        BadCommand: it is no base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadCommand from None


def is_json(data: bytes) -> bool:
    """Whether *data* is one JSON value, in UTF-8."""
    try:
        data.decode()
        _VALUE.decode(data)
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return False
    return True
