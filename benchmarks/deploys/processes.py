"""What the kernel knows of processes: whose a connection is, and who gets which pid."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

LAST_PID = Path("/proc/sys/kernel/ns_last_pid")


def client_ports(pid: int, port: int) -> set[int]:
    """The ports of the clients on *port* whose connection the process has open."""
    inodes = set()
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208  (half the price of iterdir)
            with contextlib.suppress(OSError):
                inodes.add(os.readlink(f"/proc/{pid}/fd/{name}"))  # noqa: PTH115  (the same)
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        own, other = (int(fields[place].split(":")[1], 16) for place in (1, 2))
        if own == port and f"socket:[{fields[9]}]" in inodes:
            found.add(other)
    return found


@contextlib.contextmanager
def process_with(pid: int) -> Iterator["subprocess.Popen[bytes] | None"]:
    """Run a process that has this *pid*, and ends by a signal; None where that cannot be done."""
    stranger = None
    for _ in range(20):
        try:
            LAST_PID.write_text(str(pid - 1))
        except OSError:
            break
        process = subprocess.Popen(["/bin/sleep", "600"])
        if process.pid == pid:
            stranger = process
            break
        process.kill()
        process.wait()
    try:
        yield stranger
    finally:
        if stranger is not None:
            stranger.kill()
            stranger.wait()
