"""The engines that hosts share streams in: real servers, which tests and measurements restart."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from tests.nats_process import NatsProcess, needs_nats, run_nats
from tests.redis_process import RedisProcess, needs_redis, run_redis


class EngineProcess(Protocol):
    """One server on a port of its own; what it stored is there again when it has restarted."""

    url: str

    @property
    def pid(self) -> int:
        """Its process, while it runs."""
        ...

    def start(self) -> None:
        """Run, with what was stored before; return when it answers."""
        ...

    def kill(self) -> None:
        """End it at once."""
        ...


ENGINES: dict[str, Callable[[], AbstractContextManager[EngineProcess]]] = {
    "redis": run_redis,
    "nats": run_nats,
}
"""By the name that settings and command lines have for it."""
_NEEDS = {"redis": needs_redis, "nats": needs_nats}


def every_engine() -> list[Any]:
    """Each name, for tests that run on every engine there is on this machine."""
    return [pytest.param(name, marks=_NEEDS[name]) for name in ENGINES]


if TYPE_CHECKING:
    _: tuple[type[EngineProcess], type[EngineProcess]] = RedisProcess, NatsProcess
