"""What an application may answer when it is asked about a client: more than yes and no."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Raw

from lastcall.channel_options import Override
from lastcall.protocol.centrifuge_json import in_one_line


class Permit(msgspec.Struct, frozen=True, kw_only=True):
    """The client may subscribe, and this goes with it."""

    info: Any = None
    """What other clients see of it in this channel (`chan_info`), as JSON; None: nothing."""
    data: Any = None
    """For the client, with the subscription, as JSON; None: nothing."""
    expire_at: float = 0
    """When it has to ask again (unix time); 0: never."""
    override: Override = Override()
    """Options of the channel that are others for this subscription."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who a client is, and what it has from the start."""

    user: str
    """Empty: nobody in particular."""
    expire_at: float = 0
    """When the application is asked again, or the client brings a token (unix time); 0: never."""
    info: Any = None
    """What other clients see of it (`conn_info`), as JSON; None: nothing."""
    data: Any = None
    """For the client, with the answer to its connect, as JSON; None: nothing."""
    meta: Any = None
    """For later questions about this client, never for clients, as JSON; None: nothing."""
    channels: Iterable[str] | Mapping[str, Permit] = ()
    """Server-side subscriptions."""

    def permits(self) -> dict[str, Permit]:
        """The server-side subscriptions, each with what goes with it."""
        if isinstance(self.channels, Mapping):
            return dict(self.channels)
        return dict.fromkeys(self.channels, Permit())


class Edited(msgspec.Struct, frozen=True, kw_only=True):
    """The client may publish, but other than it said."""

    data: Any = UNSET
    """Instead of the client's own data, as JSON; `UNSET`: its own."""
    tags: Mapping[str, str] = {}
    """For subscribers, beside the data."""
    idempotency_key: str = ""
    """The same key on the channel within five minutes publishes nothing."""


def encoded(value: Any) -> bytes:
    """*value* as JSON on one line; empty for None."""
    if value is None:
        return b""
    return in_one_line(value) if isinstance(value, Raw) else msgspec.json.encode(value)
