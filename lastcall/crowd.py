"""Connections by user and by address, over all workers.

Exact for this worker; of the others it is known what they said a second ago at the latest. Whoever
connects to several workers within that second may have more than the limit.
"""

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from functools import partial
from ipaddress import IPv6Address, ip_address
from typing import Any

import anyio
import msgspec

from lastcall.connection import Connection
from lastcall.errors import BrokerUnavailable, ConnectionLimit
from lastcall.everyone import RETRY_PAUSE, Everyone
from lastcall.session import Stage
from lastcall.settings import Settings
from lastcall.tally import Tally

_TELL, _ASK = "crowd", "whole crowd"
type Names = Collection[str]

_OF_ONE = 64
"""Bits of an IPv6 address that a provider gives to one customer."""


class _Counts(msgspec.Struct, frozen=True):
    pid: int
    users: dict[str, int] = {}
    addresses: dict[str, int] = {}
    name: str = ""
    """Who says so, see `Peers`; a neighbour of an older release says only its pid."""


_decode = msgspec.json.Decoder(_Counts).decode


class Crowd:
    """Who has how many connections, and whether that is enough."""

    def __init__(
        self, settings: Settings, everyone: Everyone, turns_away: Callable[[], bool]
    ) -> None:
        """Hear from *everyone*; *turns_away* says that the worker leaves, and nobody takes over."""
        self.turns_away = turns_away
        self._users = Tally(settings.max_user_connections)
        self._addresses = Tally(settings.max_address_connections)
        self._is_limited = bool(settings.max_user_connections or settings.max_address_connections)
        self._everyone = everyone
        self._absences = 0
        self.refused: Counter[str] = Counter()
        """What was refused so far, by the names of the metrics."""
        everyone.on(_TELL, lambda body: self._heard([body]))
        everyone.on(_ASK, lambda _: self._everything())

    @property
    def is_empty(self) -> bool:
        """Whether nobody is counted."""
        return not len(self._users) + len(self._addresses)

    # --- who comes and goes

    def has_room_at(self, host: str | None) -> bool:
        """Whether one more connection may come from the address *host*."""
        if self._is_limited and self._addresses.is_full(place_of(host)):
            self.refused["limited_total:address"] += 1
            return False
        return True

    def has_room_for(self, user: str | None) -> bool:
        """Whether *user* may have one more connection; nobody in particular may always."""
        if self._users.is_full(user or ""):
            self.refused["limited_total:user"] += 1
            return False
        return True

    def came(self, connection: Connection) -> None:
        """*connection* is here from now on."""
        if self._is_limited:
            self._addresses.add(place_of(connection.remote.host))
            if _has_said_who(connection):
                self._users.add(connection.user or "")

    def said_who(self, user: str) -> None:
        """A connection that is here is *user*'s, and will be in its session in a moment.

        Raises:
            ConnectionLimit: of so many it may not be one more.
        """
        if not self.has_room_for(user):
            raise ConnectionLimit
        self._users.add(user)

    def did_not_say(self, user: str) -> None:
        """It was not to be, after all."""
        self._users.remove(user)

    def left(self, connection: Connection) -> None:
        """*connection*, which came, is gone."""
        if self._is_limited:
            self._addresses.remove(place_of(connection.remote.host))
            if _has_said_who(connection):
                self._users.remove(connection.user or "")

    # --- the other workers

    async def learn(self) -> None:
        """Ask the others how many they have, however long they cannot be asked."""
        while self._is_limited:
            try:
                self._heard(filter(None, await self._everyone.ask(_ASK, b"")))
            except BrokerUnavailable:
                await anyio.sleep(RETRY_PAUSE)
            else:
                return

    def next_second(self) -> None:
        """Tell the others what has changed, and forget who is gone."""
        if not self._is_limited:
            return
        if self._absences != self._everyone.absences:
            # Those who did not hear of us for long have forgotten what we said.
            self._absences = self._everyone.absences
            self._users.say_everything_again()
            self._addresses.say_everything_again()
        users, addresses = self._users.news(), self._addresses.news()
        if users or addresses:
            told = self._everyone.tell(_TELL, self._encode(users, addresses))
            told.add_done_callback(partial(self._told, users, addresses))
        # The connections of a worker that leaves come to others. For a moment they would count
        # twice, and somebody would be sent away for good who has done nothing.
        staying = self._everyone.peers.staying()
        self._users.keep(staying)
        self._addresses.keep(staying)

    def _told(self, users: Names, addresses: Names, future: Any) -> None:
        if future.cancelled() or future.exception() is not None:
            self._users.say_again(users)
            self._addresses.say_again(addresses)

    def _heard(self, told: Iterable[bytes]) -> None:
        peers = self._everyone.peers
        for counts in map(_decode, told):
            name = counts.name or peers.name_of(counts.pid)
            if name != peers.name:
                self._users.heard(name, counts.users)
                self._addresses.heard(name, counts.addresses)

    def _everything(self) -> bytes:
        return self._encode(self._users.all_here(), self._addresses.all_here())

    def _encode(self, users: dict[str, int], addresses: dict[str, int]) -> bytes:
        name = self._everyone.peers.name
        return msgspec.json.encode(_Counts(os.getpid(), users, addresses, name))


def place_of(host: str | None) -> str:
    """What counts as one address: a network of IPv6, in which one customer has any number of them.

    Empty where it is not known, as on a unix socket.
    """
    try:
        address = ip_address((host or "").partition("%")[0])
    except ValueError:
        return host or ""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return f"{IPv6Address(int(address) >> _OF_ONE << _OF_ONE)}/{_OF_ONE}"
    return str(address)


def _has_said_who(connection: Connection) -> bool:
    return connection.session is None or connection.session.stage is Stage.CONNECTED
