"""What `lastcall` names, imported when somebody asks for it.

Masters and commands need neither FastAPI nor what stands on it, which takes half a second of a core
to import: in the middle of a deploy that is time of those who serve.
"""

from importlib import import_module

WHERE = {
    "BrokerUnavailable": "lastcall.errors",
    "Connection": "lastcall.connection",
    "Disconnect": "lastcall.errors",
    "Draining": "lastcall.draining",
    "Edited": "lastcall.verdicts",
    "Endpoint": "lastcall.lastcall",
    "Identity": "lastcall.verdicts",
    "Lastcall": "lastcall.lastcall",
    "LastcallError": "lastcall.errors",
    "Permit": "lastcall.verdicts",
    "Publication": "lastcall.broker.base",
    "Publisher": "lastcall.publisher",
    "Refused": "lastcall.errors",
    "RemoteAddress": "lastcall.connection",
    "ServerSettings": "lastcall.settings",
    "Settings": "lastcall.settings",
    "SettingsError": "lastcall.errors",
    "StreamPosition": "lastcall.broker.base",
    "UnrecoverablePosition": "lastcall.errors",
    "create_app": "lastcall.app",
    "page_router": "lastcall.web.page",
}
"""Of each name the module."""


def __getattr__(name: str) -> object:
    """Import *name*: the interpreter asks when the package has no such attribute yet.

    Raises:
        AttributeError: it is none of ours.
    """
    if name not in WHERE:
        raise AttributeError(f"module 'lastcall' has no attribute {name!r}", name=name)
    value: object = getattr(import_module(WHERE[name]), name)
    setattr(import_module("lastcall"), name, value)  # from now on it has
    return value


def __dir__() -> list[str]:
    """Everything that can be asked for, and what every package has."""
    package = import_module("lastcall")
    return sorted({*vars(package), *WHERE})
