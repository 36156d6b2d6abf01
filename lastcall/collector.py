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
