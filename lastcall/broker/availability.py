"""Whether an engine carries publications now: told to the hub and to the operator as it changes."""

import logging

import anyio

from lastcall.broker.base import BrokerEvents
from lastcall.logs import log_event


class Availability:
    """Tells every change, and nothing twice."""

    def __init__(self) -> None:
        """Nothing is carried yet."""
        self._was = False
        self.carried = anyio.Event()
        """Set when publications are carried for the first time."""

    def tell(self, events: BrokerEvents | None, *, yes: bool, name: str, problem: str) -> None:
        """Publications are carried by what has this *name*; or not, because of this *problem*."""
        if yes == self._was or events is None:
            return
        self._was = yes
        events.available(yes)
        if yes:
            self.carried.set()
            log_event("broker available", "{broker} carries publications", broker=name)
        else:
            log_event(
                "broker unavailable",
                "nothing can be published: {problem}",
                level=logging.ERROR,
                problem=problem,
            )
