"""What a client reads: a client protocol in a framing. One encoding serves all who read alike."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import cast

from lastcall.broker.base import Publication
from lastcall.protocol.base import ClientProtocol, SessionProtocol
from lastcall.transport.base import Frame, Framing


@dataclass(frozen=True, slots=True, eq=False)
class WireFormat:
    """Compared by identity: get it from `wire_format`, which makes one for each pair."""

    protocol: ClientProtocol
    framing: Framing

    applies_deltas = False

    def publications(
        self,
        publications: Iterable[Publication],
        base: Publication | None = None,  # noqa: ARG002  (for those who apply deltas)
    ) -> Frame:
        """Everything that was published in a turn, as one frame; *base* is what came before."""
        protocol = self.protocol
        return self.framing.frame([protocol.publication(each) for each in publications])

    def notice(self, text: str) -> Frame:
        """A word from the server."""
        return self.framing.frame(self.protocol.notice(text))


@cache
def wire_format(protocol: ClientProtocol, framing: Framing) -> WireFormat:
    """Return the one wire format of *protocol* in *framing*."""
    return WireFormat(protocol, framing)


class DeltaFormat(WireFormat):
    """For clients that apply deltas, and have heard all that others have heard."""

    applies_deltas = True

    def publications(
        self, publications: Iterable[Publication], base: Publication | None = None
    ) -> Frame:
        """Each as a delta to the one before; the first is whole where there is no *base*."""
        protocol = cast("SessionProtocol", self.protocol)
        told = by_deltas(protocol, publications, base)
        return self.framing.frame([protocol.publication(each) for each in told])


class FirstFormat(DeltaFormat):
    """For clients that apply deltas, and have nothing yet to which one could be applied."""

    def publications(
        self,
        publications: Iterable[Publication],
        base: Publication | None = None,  # noqa: ARG002  (they have not heard it)
    ) -> Frame:
        """The first one is whole."""
        return super().publications(publications)

    @property
    def then(self) -> DeltaFormat:
        """The one of these clients when they have heard something."""
        return delta_format(wire_format(self.protocol, self.framing))


@cache
def delta_format(plain: WireFormat) -> DeltaFormat:
    """The one of clients that read *plain* elsewhere."""
    return DeltaFormat(plain.protocol, plain.framing)


@cache
def first_format(plain: WireFormat) -> FirstFormat:
    """The one of clients that read *plain* elsewhere, until they have heard something."""
    return FirstFormat(plain.protocol, plain.framing)


@cache
def formats(plain: WireFormat) -> tuple[WireFormat, ...]:
    """*plain*, and all that its clients may read instead in one channel or another."""
    return plain, delta_format(plain), first_format(plain)


def by_deltas(
    protocol: SessionProtocol, publications: Iterable[Publication], base: Publication | None
) -> Iterator[Publication]:
    """Publications as they are told to clients that apply deltas and have heard *base*."""
    for each in publications:
        yield protocol.by_delta(each, base)
        base = each
