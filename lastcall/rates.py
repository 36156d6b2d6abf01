"""How often something may be done: a bucket of tokens for each name, which costs nothing when full.

A bucket is one number: the time at which it will be full again. Pure; the time is passed in.
"""

_ENOUGH = 1024
"""Buckets that may be there before somebody looks which of them are full."""
_ROUNDING = 1e-9


class Rate:
    """So many a second in the long run, by name, and at once what *burst* seconds bring."""

    def __init__(self, rate: float, burst: float) -> None:
        """Allow *rate* a second; 0: any number."""
        self._interval = 1 / rate if rate else 0.0
        # One at a time has to be possible, however long the next takes.
        self._span = max(burst, self._interval) + _ROUNDING
        self._full_at: dict[str, float] = {}
        self._look_at = _ENOUGH

    def __len__(self) -> int:
        """How many buckets are remembered."""
        return len(self._full_at)

    def take(self, name: str, now: float) -> bool:
        """Do it once more; False: too often, and it does not count."""
        if not self._interval:
            return True
        full_at = max(self._full_at.get(name, now), now) + self._interval
        if full_at - now > self._span:
            return False
        if len(self._full_at) >= self._look_at:
            self._forget_full(now)
        self._full_at[name] = full_at
        return True

    def _forget_full(self, now: float) -> None:
        self._full_at = {name: at for name, at in self._full_at.items() if at > now}
        # Twice as many as there are: looking costs each of them the same, however many come.
        self._look_at = max(_ENOUGH, 2 * len(self._full_at))
