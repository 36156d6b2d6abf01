"""What a client reads: a client protocol in a framing. One encoding serves all who read alike."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from lastcall.broker.base import Publication
from lastcall.protocol.base import ClientProtocol
from lastcall.transport.base import Frame, Framing


@dataclass(frozen=True, slots=True, eq=False)
class WireFormat:
    """Compared by identity: get it from `wire_format`, which makes one for each pair."""

    protocol: ClientProtocol
    framing: Framing

    def publications(self, publications: Iterable[Publication]) -> Frame:
        """Everything that was published in a turn, as one frame."""
        protocol = self.protocol
        return self.framing.frame([protocol.publication(each) for each in publications])

    def notice(self, text: str) -> Frame:
        """A word from the server."""
        return self.framing.frame(self.protocol.notice(text))


@cache
def wire_format(protocol: ClientProtocol, framing: Framing) -> WireFormat:
    """Return the one wire format of *protocol* in *framing*."""
    return WireFormat(protocol, framing)
