"""The garbage collector, kept from stopping the event loop for what never goes away."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def start_up_spared() -> Iterator[None]:
    """Leave what exists by now out of collections until the block is left.

    A full collection looks at every object, and nearly all of them are imported modules: with
    them it stops everybody for 40 ms, without them for 4 (docs/decisions/garbage-collector.md).
    """
    gc.freeze()
    try:
        yield
    finally:
        # A process may start and end many applications, as tests do.
        gc.unfreeze()


def spare_the_end() -> None:
    """Leave everything out of the collections with which the interpreter ends.

    They look at every object several times, which takes 0.2 s of a core that those who serve could
    have: without them a worker is gone after 0.01.
    """
    gc.freeze()
