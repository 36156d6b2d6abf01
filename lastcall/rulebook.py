"""What is allowed: the settings, the channels by them, the application's functions, the tokens."""

from dataclasses import dataclass
from typing import Self

from lastcall.backend import Backend
from lastcall.channels import Channels
from lastcall.hooks import Endpoints
from lastcall.settings import Settings
from lastcall.token_verifier import TokenVerifier


@dataclass(frozen=True, slots=True)
class Rulebook:
    """By what a worker serves; the same for every start of one `Lastcall`."""

    settings: Settings
    channels: Channels
    endpoints: Endpoints
    tokens: TokenVerifier
    backend: Backend

    @classmethod
    def by(cls, settings: Settings) -> Self:
        """Read the keys that *settings* name; not inside an event loop.

        Raises:
            SettingsError: they cannot be used.
        """
        channels, endpoints, backend = Channels(settings), Endpoints(), Backend(settings)
        backend.answer_for(endpoints.channels, channels)
        return cls(settings, channels, endpoints, TokenVerifier(settings), backend)
