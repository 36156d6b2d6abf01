"""Which cases there are, and which a run takes."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Group:
    """Cases with the same first number.

    Attributes:
        number: the first number of their names.
        what: what they try.
        size: how many there are. Known here, so that a run which leaves some out is noticed.
    """

    number: int
    what: str
    size: int


GROUPS = (
    Group(1, "framing", 16),
    Group(2, "pings and pongs", 11),
    Group(3, "reserved bits", 7),
    Group(4, "opcodes", 10),
    Group(5, "fragmentation", 20),
    Group(6, "UTF-8", 145),
    Group(7, "closing", 37),
    Group(9, "large and many messages", 54),
    Group(10, "automatic fragmentation", 1),
    Group(12, "compression, by payload", 90),
    Group(13, "compression, by parameters", 126),
)
"""All but 8 and 11, which the suite does not have."""

_CORE = ("1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*")
_COMPRESSION = (*(f"12.{n}.*" for n in range(1, 6)), *(f"13.{n}.*" for n in range(1, 8)))

UNCOMPRESSED = (_CORE, ("9.*",))
COMPRESSED = tuple((pattern,) for pattern in _COMPRESSION)
"""Batches, each of which is one run of the client: what is done is then known while it lasts."""
QUICK = (
    (
        *_CORE,
        # Names, because a pattern such as `12.*.1` would match `12.1.10` too.
        *(f"9.{kind}.1" for kind in range(1, 9)),
        *(f"12.{kind}.1" for kind in range(1, 6)),
        *(f"13.{kind}.1" for kind in range(1, 8)),
    ),
)


COMPRESSED_SIZES = 18
"""Cases in each subgroup of 12.* and 13.*: sizes of messages and of their frames."""


def group_of(case: str) -> int:
    """The number of the group that *case* belongs to."""
    return int(case.partition(".")[0])


def incomplete(cases: Iterable[str], patterns: Iterable[str]) -> Iterator[str]:
    """A sentence for each of *patterns* that stands for more or fewer than all of its cases."""
    found = list(cases)
    for pattern in patterns:
        size = _size(pattern)
        count = sum(case.startswith(pattern.rstrip("*")) for case in found)
        if count != size:
            yield f"{pattern}: {count} of {size} cases were run"


def _size(pattern: str) -> int:
    """How many cases *pattern* stands for: one, a whole group, or a subgroup of compression."""
    if not pattern.endswith("*"):
        return 1
    if pattern.count(".") > 1:
        return COMPRESSED_SIZES
    return next(group.size for group in GROUPS if group.number == group_of(pattern))
