"""What a service manager is told and gives: `sd_notify`, and sockets that it opened for us."""

import contextlib
import os
import socket
import time

_FIRST_DESCRIPTOR = 3


def is_managed() -> bool:
    """Whether a manager watches whichever process we name: systemd, with `Type=notify`.

    Others have the socket and not the rest: a container's runtime, for which only process 1 counts.
    """
    return bool(os.environ.get("NOTIFY_SOCKET") and os.environ.get("INVOCATION_ID"))


def notify(*lines: str) -> None:
    """Tell the manager, if there is one; whether it listens is its own affair."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.settimeout(1)
        line.sendto("\n".join(lines).encode(), address)


def notify_reloading() -> None:
    """Say that something is replaced; READY=1 has to follow, whatever comes of it."""
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notify("RELOADING=1", f"MONOTONIC_USEC={now}")


def passed_descriptors() -> list[int]:
    """The sockets that systemd listens on for this very process (socket activation); once."""
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    return list(range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + int(count)))
