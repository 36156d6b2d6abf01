"""A client protocol whose clients come back by themselves, and nothing else about it is special."""

from typing import TYPE_CHECKING

from lastcall.errors import Disconnect, ServerShutdown
from lastcall.protocol.base import ClientProtocol
from lastcall.protocol.plain_text import PlainText


class ReturningText(PlainText):
    """Plain text for clients that connect again when they are told 3001."""

    name = "returning-text"
    reconnects = True

    def farewell(self, why: Disconnect) -> tuple[int, str]:
        """3001 for the end of a server; the rest as in plain text."""
        if isinstance(why, ServerShutdown):
            return 3001, "server is shutting down, come back"
        return super().farewell(why)


RETURNING_TEXT = ReturningText()

if TYPE_CHECKING:
    _: type[ClientProtocol] = ReturningText
