"""Real-time notifications for FastAPI that survive your deploys."""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lastcall.app import create_app
    from lastcall.broker.base import Publication, StreamPosition
    from lastcall.connection import Connection, RemoteAddress
    from lastcall.draining import Draining
    from lastcall.errors import (
        BrokerUnavailable,
        Disconnect,
        LastcallError,
        Refused,
        SettingsError,
        UnrecoverablePosition,
    )
    from lastcall.lastcall import Endpoint, Lastcall
    from lastcall.publisher import Publisher
    from lastcall.settings import ServerSettings, Settings
    from lastcall.verdicts import Edited, Identity, Permit
    from lastcall.web.page import page_router
else:
    # What is named here is imported when somebody asks for it.
    from lastcall.public_names import __dir__, __getattr__  # noqa: F401  (the interpreter asks)

__all__ = [
    "BrokerUnavailable",
    "Connection",
    "Disconnect",
    "Draining",
    "Edited",
    "Endpoint",
    "Identity",
    "Lastcall",
    "LastcallError",
    "Permit",
    "Publication",
    "Publisher",
    "Refused",
    "RemoteAddress",
    "ServerSettings",
    "Settings",
    "SettingsError",
    "StreamPosition",
    "UnrecoverablePosition",
    "create_app",
    "page_router",
]
