"""Plain text: every message goes to the application as it is, every publication comes as it is."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lastcall.broker.base import Kind, Publication
from lastcall.errors import Disconnect
from lastcall.protocol.base import ClientProtocol, Command, Message, Send


class PlainText:
    """What a browser, Postman or `websockets` speak with nothing but the URL."""

    name = "plain-text"
    reconnects = False

    def decode(self, message: Message) -> Sequence[Command]:
        """Any message is allowed, and means itself."""
        return (Send(message),)

    def publication(self, publication: Publication) -> Message:
        """Text as text, binary as binary."""
        return Message(publication.data, publication.kind is Kind.BINARY)

    def notice(self, text: str) -> Sequence[Message]:
        """The text itself."""
        return (Message(text.encode()),)

    def farewell(self, why: Disconnect) -> tuple[int, str]:
        """The code and reason of *why*: they are meant for people."""
        return why.code, why.reason


if TYPE_CHECKING:
    _: type[ClientProtocol] = PlainText
