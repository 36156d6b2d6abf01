"""What a worker tells of itself when all workers are asked: its channels and its numbers."""

import os
import platform
import time
import uuid
from collections.abc import Callable
from fnmatch import fnmatchcase

import msgspec

import lastcall
from lastcall.connection_manager import ConnectionManager
from lastcall.everyone import Everyone
from lastcall.hub import Hub
from lastcall.protocol.centrifuge import is_joins
from lastcall.server_api import Node
from lastcall.worker_status import StatusAnswer, by_file


class ThisNode:
    """This worker, as the server API shows it."""

    def __init__(
        self,
        hub: Hub,
        connections: ConnectionManager,
        everyone: Everyone,
        *,
        beat: Callable[[], float] = time.monotonic,
    ) -> None:
        """Answer *everyone*; alive from now on."""
        self._hub = hub
        self._connections = connections
        self._peers = everyone.peers
        self._beat = beat
        self._since = beat()
        self._uid = str(uuid.uuid4())
        everyone.on("channels", self._channels)
        everyone.on("node", lambda _: msgspec.json.encode(self.describe()))
        everyone.on(StatusAnswer.QUESTION, lambda _: msgspec.json.encode(self._status()))

    def describe(self) -> Node:
        """Its numbers now."""
        audiences, connections = self._audiences(), list(self._connections)
        return Node(
            uid=self._uid,
            name=f"{platform.node()}-{os.getpid()}",
            version=lastcall.__version__,
            num_clients=len(connections),
            num_users=len({each.user for each in connections}),
            num_channels=len(audiences),
            num_subs=sum(audiences.values()),
            uptime=int(self._beat() - self._since),
        )

    def _status(self) -> StatusAnswer:
        record = self._peers.coordinator.known()[0]
        return StatusAnswer(
            host=platform.node(),
            master=record.master,
            worker=by_file(record),
            knows=sorted(self._peers.answering()),
        )

    def _channels(self, pattern: bytes) -> bytes:
        wanted, found = pattern.decode(), self._audiences()
        if wanted:
            found = {name: count for name, count in found.items() if fnmatchcase(name, wanted)}
        return msgspec.json.encode(found)

    def _audiences(self) -> dict[str, int]:
        sizes = self._hub.audience_sizes()
        return {channel: size for channel, size in sizes.items() if not is_joins(channel)}
