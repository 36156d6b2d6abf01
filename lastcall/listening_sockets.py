"""The sockets a server listens on: bound once, before any worker starts."""

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen, in uvicorn's terms: a descriptor wins over a path, a path over a port."""

    host: str | None = None
    port: int = 0
    uds: str | None = None
    fd: int | None = None

    def __str__(self) -> str:
        """For people: `127.0.0.1:8000`, `unix socket /run/chat.sock`, `descriptor 3`."""
        if self.fd is not None:
            return f"descriptor {self.fd}"
        if self.uds is not None:
            return f"unix socket {self.uds}"
        host = self.host or "0.0.0.0"  # noqa: S104  (what an empty host means, to be shown)
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


def shown(address: Address, sockets: list[socket.socket], *, tls: bool) -> str:
    """Where clients find the server; a port that the system chose is known by now."""
    if address.fd is not None or address.uds is not None:
        return str(address)
    where = sockets[0].getsockname()
    if isinstance(where, str):  # one of systemd's
        return f"unix socket {where}"
    scheme = "https" if tls else "http"
    return f"{scheme}://{replace(address, port=where[1])}"


@contextmanager
def bound(address: Address) -> Iterator[list[socket.socket]]:
    """Bind, and leave nothing behind at the end: no descriptor here, no path that was ours.

    The sockets do not listen yet: until a worker is ready, a client is refused and not kept
    waiting. Emptying the list gives them away, and the path with them.

    Raises:
        OSError: the address cannot be bound, or the descriptor is no socket.
    """
    path = Path(address.uds) if address.uds is not None and address.fd is None else None
    if address.fd is not None:
        sockets = [socket.socket(fileno=address.fd)]
    elif path is not None:
        sockets = [_unix_socket(path)]
    else:
        sockets = _tcp_sockets(address.host, address.port)
    mine = path.lstat() if path is not None else None
    try:
        yield sockets
    finally:
        is_still_ours = bool(sockets)
        for listener in sockets:
            listener.close()
        if path is not None and mine is not None and is_still_ours:
            _remove(path, mine)


@contextmanager
def inherited(descriptors: list[int], path: str | None = None) -> Iterator[list[socket.socket]]:
    """Take sockets over that somebody else has bound: the master before us, or systemd.

    *path* is that of a unix socket which the last of several masters removes.
    """
    sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    for listener in sockets:
        listener.set_inheritable(False)
    try:
        yield sockets
    finally:
        is_still_ours = bool(sockets)
        for listener in sockets:
            listener.close()
        if path is not None and is_still_ours and Path(path).is_socket():
            _remove_dead(Path(path))  # alive, if we never took over


def _tcp_sockets(host: str | None, port: int) -> list[socket.socket]:
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # A name may stand for an address twice; without IPv6 the order stays as it is.
    addresses = list(dict.fromkeys((family, where) for family, _, _, _, where in found))
    families = {family for family, _ in addresses}
    sockets: list[socket.socket] = []
    try:
        for family, where in addresses:
            listener = socket.socket(family, socket.SOCK_STREAM)
            sockets.append(listener)
            if os.name == "posix":
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6 and len(families) > 1:
                # `::` alone serves both families; beside an IPv4 socket it must not.
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((where[0], port, *where[2:]))
            port = port or listener.getsockname()[1]
    except OSError:
        for listener in sockets:
            listener.close()
        raise
    return sockets


def _unix_socket(path: Path) -> socket.socket:
    mode = 0o666
    if path.is_socket():
        mode = stat.S_IMODE(path.stat().st_mode)
        _remove_dead(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(mode)
    except OSError:
        listener.close()
        raise
    return listener


def _remove_dead(path: Path) -> None:
    """Remove what a killed server left; leave it if somebody answers, so that binding fails."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        except OSError:
            return


def _remove(path: Path, mine: os.stat_result) -> None:
    try:
        now = path.lstat()
    except FileNotFoundError:
        return
    if (now.st_dev, now.st_ino) == (mine.st_dev, mine.st_ino):
        path.unlink(missing_ok=True)
