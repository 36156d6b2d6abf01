"""How often clients and users may ask for something, each kind of command at a rate of its own."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from lastcall.channels import ANONYMOUS
from lastcall.errors import TooManyRequests
from lastcall.protocol.centrifuge import (
    History,
    Presence,
    PresenceStats,
    Publish,
    PublishBytes,
    Rpc,
    SubRefresh,
    Subscribe,
)
from lastcall.rates import Rate
from lastcall.settings import Settings

KINDS: dict[str, tuple[type[Any], ...]] = {
    "publish": (Publish, PublishBytes),
    "subscribe": (Subscribe, SubRefresh),
    "rpc": (Rpc,),
    "query": (History, Presence, PresenceStats),
}
"""Commands by the names of their settings. `send` has no answer in which a refusal could stand."""


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    of_client: Rate
    of_user: Rate


class CommandLimits:
    """The rates of this worker: exact for a connection, for a user those of its connections here.

    To count a user's commands on all workers would cost each of them a question to the others.
    """

    def __init__(self, settings: Settings, counted: Counter[str]) -> None:
        """Take the rates from *settings*; count in *counted* what is refused."""
        self._counted = counted
        self._kinds = {
            request: kind
            for name, requests in KINDS.items()
            for kind in [_kind(name, settings)]
            for request in requests
        }

    def take(self, request: object, *, client: str, user: str, now: float) -> None:
        """Let *client*, which is *user*'s, ask for *request*.

        Raises:
            TooManyRequests: not so soon.
        """
        kind = self._kinds.get(type(request))
        if kind is None:
            return
        is_free = kind.of_client.take(client, now)
        # Who is nobody in particular is not one user.
        if is_free and (user == ANONYMOUS or kind.of_user.take(user, now)):
            return
        self._counted[f"limited_total:{kind.name}"] += 1
        raise TooManyRequests


def _kind(name: str, settings: Settings) -> _Kind:
    rates = (getattr(settings, f"{name}_rate"), getattr(settings, f"user_{name}_rate"))
    return _Kind(name, *(Rate(rate, settings.rate_burst) for rate in rates))
