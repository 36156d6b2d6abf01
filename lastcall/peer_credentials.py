"""Who is at the other end of a unix socket, as the kernel knows it."""

import os
import socket
import struct
from typing import Any

_CREDENTIALS = struct.Struct("iII")


def peer_of(descriptor: int) -> tuple[int, int]:
    """The pid and the user of the process that connected, or that listens where we connected."""
    with socket.socket(fileno=os.dup(descriptor)) as duplicate:
        found: Any = duplicate.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, user, _ = _CREDENTIALS.unpack(found)
    return pid, user
