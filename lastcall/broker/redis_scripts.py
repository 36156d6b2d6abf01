"""What Redis runs as one step, and what such a step has to know of the server it runs on. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files

_SCRIPTS = files("lastcall.broker") / "redis_lua"
PUBLISH = (_SCRIPTS / "publish.lua").read_bytes()
READ = (_SCRIPTS / "read.lua").read_bytes()


@dataclass(frozen=True, slots=True)
class Standing:
    """What a server is, as told when we connect to it; it becomes the first line of each script."""

    reign: str = ""
    """Since when this server is the master of what it has; empty where nobody tells.

    It is written beside each channel's position. A replica that was promoted finds another one
    there, and begins a new epoch: nobody knows what had not reached it.
    """
    kin: frozenset[str] = frozenset()
    """The reigns of masters that hand channels on to this one, whole."""
    tell: str = "PUBLISH"
    """The command that tells subscribers."""

    def prepared(self, script: bytes) -> bytes:
        """The *script* for this server."""
        kin = "".join(f"[{_quoted(each)}]=1," for each in sorted(self.kin))
        values = (_quoted(self.reign) if self.reign else "nil", f"{{{kin}}}", _quoted(self.tell))
        return f"local reign, kin, tell = {', '.join(values)}\n".encode() + script


class Scripts:
    """The scripts for one server, and the names it knows them by."""

    def __init__(self, standing: Standing, scripts: Iterable[bytes] = (PUBLISH, READ)) -> None:
        """Prepare *scripts* for a server of this standing."""
        self.prepared = {script: standing.prepared(script) for script in scripts}
        self._names = {script: _name(each) for script, each in self.prepared.items()}

    def name(self, script: bytes) -> str:
        """What the server calls *script* when it is asked to run it."""
        return self._names[script]


def _name(prepared: bytes) -> str:
    return sha1(prepared, usedforsecurity=False).hexdigest()


def _quoted(word: str) -> str:
    # Ids, numbers and commands: nothing that could end the quotation.
    if not word.replace(":", "").replace("-", "").isalnum():
        raise ValueError(f"a server cannot be called {word!r}")
    return f"'{word}'"
