"""The workers of other hosts, as far as they have given a sign of life: pure."""

from collections.abc import Mapping

import msgspec

SIGN_SECONDS = 2
"""Between two signs of life of a worker."""
SILENCE_SECONDS = 10.0
"""After which nobody waits for an answer of a worker any more; longer than it takes to notice that
it is ourselves who hear nothing."""
FALLEN_SECONDS = 20.0
"""After which a worker is taken for dead, and its clients for gone with it."""


class Sign(msgspec.Struct, frozen=True, array_like=True):
    """What a worker says of itself to those of other hosts."""

    name: str
    """Of its machine and process; only one process at a time has it."""
    node: str
    """How clients name it, see `emulation`."""
    state: str
    announced: Mapping[str, int] = {}
    """How many clients each channel has been told of: the others say it when they are gone."""

    @property
    def answers(self) -> bool:
        """Whether it can be asked something."""
        return self.state in {"ready", "draining"}


class Roster:
    """Who has given a sign, and when."""

    def __init__(self) -> None:
        """Know nobody."""
        self._signs: dict[str, tuple[float, Sign]] = {}

    def heard(self, sign: Sign, now: float) -> None:
        """Take a sign of life, or the last one."""
        if sign.state == "done":
            self._signs.pop(sign.name, None)
        else:
            self._signs[sign.name] = (now, sign)

    def forget(self, name: str) -> None:
        """It is known from elsewhere that this one is gone; unknown ones are ignored."""
        self._signs.pop(name, None)

    def excuse(self, now: float) -> None:
        """Nobody could be heard until *now*: silence before that means nothing."""
        self._signs = {name: (now, sign) for name, (_, sign) in self._signs.items()}

    def present(self, now: float) -> list[Sign]:
        """Who has given a sign lately."""
        return [sign for at, sign in self._signs.values() if at > now - SILENCE_SECONDS]

    def fallen(self, now: float) -> list[Sign]:
        """Who has given none for very long, each once."""
        silent = [sign for at, sign in self._signs.values() if at <= now - FALLEN_SECONDS]
        for sign in silent:
            del self._signs[sign.name]
        return silent
