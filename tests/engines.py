"""The engines that hosts share streams in: real servers, which tests and measurements restart."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from tests.redis_process import RedisProcess, run_redis


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


ENGINES: dict[str, Callable[[], AbstractContextManager[EngineProcess]]] = {"redis": run_redis}
"""By the name that settings and command lines have for it."""

if TYPE_CHECKING:
    _: type[EngineProcess] = RedisProcess
