"""What systemd will do to us: the unit's stop time-out, asked of systemd itself."""

import os
import re
from dataclasses import dataclass

import anyio

from lastcall.stop_limit import StopLimit

ASK_TIMEOUT = 2.0
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_SPAN = r"(\d+(?:\.\d+)?)(us|ms|min|s|h|d|w)(?![a-z])"


async def stop_timeout() -> StopLimit | None:
    """`TimeoutStopSec` of the service we run in; None outside a service, or if nobody answers."""
    if "INVOCATION_ID" not in os.environ:
        return None
    try:
        membership = await anyio.Path("/proc/self/cgroup").read_text(errors="replace")
        unit = unit_of(membership)
        if unit is None:
            return None
        with anyio.fail_after(ASK_TIMEOUT):
            answer = await anyio.run_process(unit.question, check=False)
    except (OSError, TimeoutError):
        return None
    seconds = parse_time_span(answer.stdout.decode(errors="replace"))
    return None if seconds is None else StopLimit(seconds, f"TimeoutStopSec of {unit.name}")


@dataclass(frozen=True, slots=True)
class Unit:
    """A service of systemd's, and whose it is: the system's or a user's."""

    name: str
    is_users: bool = False

    @property
    def question(self) -> list[str]:
        """What to ask systemd."""
        manager = ["--user"] if self.is_users else []
        return ["systemctl", *manager, "show", "--property=TimeoutStopUSec", "--value", self.name]


def unit_of(membership: str) -> Unit | None:
    """The service in `/proc/self/cgroup`; None in a scope, which is how a terminal runs things.

    A terminal of a desktop is somewhere below the user's own service manager, and inherits
    `INVOCATION_ID` from it; that manager's time-out is not ours.
    """
    for line in membership.splitlines():
        path = line.split(":", 2)[-1].split("/")
        units = [part for part in path if part.endswith((".service", ".scope"))]
        if units and units[-1].endswith(".service") and not _is_manager(units[-1]):
            return Unit(units[-1], is_users=any(map(_is_manager, units)))
    return None


def parse_time_span(text: str) -> float | None:
    """Seconds in `1min 30s` (systemd.time(7)); None for `infinity` and for what is no time span."""
    if not re.fullmatch(rf"\s*({_SPAN}\s*)+", text):
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(_SPAN, text))


def _is_manager(unit: str) -> bool:
    return unit.startswith("user@")
