"""How many connections each name has, here and as far as the other workers have said: pure."""

from collections.abc import Collection, Mapping


class Tally:
    """Counts by name, against a limit. Without a limit nothing is counted, and nothing kept."""

    def __init__(self, limit: int) -> None:
        """Allow each name *limit*; 0: any number."""
        self._limit = limit
        self._here: dict[str, int] = {}
        self._changed: set[str] = set()
        self._elsewhere: dict[str, dict[str, int]] = {}

    def __len__(self) -> int:
        """How many names are known."""
        return len(self._here) + sum(len(each) for each in self._elsewhere.values())

    def is_full(self, name: str) -> bool:
        """Whether *name* has as many as it may have; what has no name is not limited."""
        if not self._limit or not name:
            return False
        elsewhere = sum(each.get(name, 0) for each in self._elsewhere.values())
        return self._here.get(name, 0) + elsewhere >= self._limit

    def add(self, name: str) -> None:
        """One more is here."""
        if self._limit and name:
            self._here[name] = self._here.get(name, 0) + 1
            self._changed.add(name)

    def remove(self, name: str) -> None:
        """One that was added is gone."""
        if self._limit and name:
            left = self._here[name] - 1
            if left:
                self._here[name] = left
            else:
                del self._here[name]
            self._changed.add(name)

    def news(self) -> dict[str, int]:
        """What has changed here since the last call; 0: nobody is left."""
        changed, self._changed = self._changed, set()
        return {name: self._here.get(name, 0) for name in changed}

    def say_again(self, names: Collection[str]) -> None:
        """What was told of *names* has not been heard."""
        self._changed.update(names)

    def say_everything_again(self) -> None:
        """What was told has perhaps been forgotten."""
        self._changed.update(self._here)

    def all_here(self) -> dict[str, int]:
        """Everything that is here, for a worker that has heard nothing yet."""
        return dict(self._here)

    def heard(self, worker: str, counts: Mapping[str, int]) -> None:
        """*worker* says how many it has of some names."""
        known = self._elsewhere.setdefault(worker, {})
        for name, count in counts.items():
            if count:
                known[name] = count
            else:
                known.pop(name, None)

    def keep(self, workers: Collection[str]) -> None:
        """Forget what all others but *workers* have said."""
        self._elsewhere = {
            worker: counts for worker, counts in self._elsewhere.items() if worker in workers
        }
