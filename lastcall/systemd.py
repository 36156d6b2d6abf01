"""What systemd will do to us: the unit's stop time-out, asked of systemd itself."""

import os
import re
from pathlib import Path

import anyio

from lastcall.stop_limit import StopLimit

ASK_TIMEOUT = 2.0
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800}


async def stop_timeout() -> StopLimit | None:
    """`TimeoutStopSec` of the service we run in; None outside a service, or if nobody answers."""
    unit = _unit() if "INVOCATION_ID" in os.environ else None
    if unit is None:
        return None
    command = ["systemctl", "show", "--property=TimeoutStopUSec", "--value", unit]
    try:
        with anyio.fail_after(ASK_TIMEOUT):
            answer = await anyio.run_process(command, check=False)
    except (OSError, TimeoutError):
        return None
    seconds = parse_time_span(answer.stdout.decode(errors="replace"))
    return None if seconds is None else StopLimit(seconds, f"TimeoutStopSec of {unit}")


def parse_time_span(text: str) -> float | None:
    """Seconds in `1min 30s` (systemd.time(7)); None for `infinity` and for what is no time span."""
    parts = re.findall(r"([\d.]+)(us|ms|min|s|h|d|w)(?:\s|$)", text.strip() + " ")
    if not parts or re.sub(r"[\d.]+(us|ms|min|s|h|d|w)", "", text).strip():
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _unit() -> str | None:
    try:
        path = Path("/proc/self/cgroup").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    found = re.search(r"/([^/\n]+\.service)(?:/[^\n]*)?$", path, re.MULTILINE)
    return found[1] if found else None
