"""The only worker of a server: what a coordinator says where there is nobody to coordinate with."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import lastcall
from lastcall.drain_report import DrainReport
from lastcall.worker_coordinator import Coordinator
from lastcall.worker_record import State, WorkerRecord


class SoleWorker:
    """The only worker: nobody to find, nobody to tell, no file. Runs on every platform."""

    def __init__(self) -> None:
        """Know nothing of itself yet."""
        self._record = WorkerRecord(os.getpid(), version=lastcall.__version__)

    def arrive(self) -> None:
        """Do nothing."""

    def update(
        self,
        *,
        state: State | None = None,
        connections: int | None = None,
        announced: Mapping[str, int] | None = None,
        drain: DrainReport | None = None,
        counts: Mapping[str, float] | None = None,
    ) -> None:
        """Remember it."""
        self._record = self._record.changed(
            state=state, connections=connections, announced=announced, drain=drain, counts=counts
        )

    def beat(self) -> None:
        """Do nothing."""

    def siblings(self) -> list[WorkerRecord]:
        """Return nobody."""
        return []

    def ready_siblings(self) -> list[WorkerRecord]:
        """Return nobody."""
        return []

    def expects_successor(self) -> bool:
        """Nobody comes."""
        return False

    def known(self) -> list[WorkerRecord]:
        """Return what was said of it."""
        return [self._record]

    def claim_dead(self) -> list[WorkerRecord]:
        """Return nobody."""
        return []

    def finish(self, *, stopping: bool) -> bool:  # noqa: ARG002  (nobody is to be told)
        """Be the last."""
        return True

    def leave(self) -> None:
        """Do nothing."""


if TYPE_CHECKING:
    _: type[Coordinator] = SoleWorker
