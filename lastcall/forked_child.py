"""Descriptors that a child forked by the application must not keep alive.

Closing on exec does not help: a pool of `multiprocessing` forks and never executes. A socket that
lives on in such a child is not closed for the peer when its worker dies, so whoever waits for that
waits for ever.
"""

import os

_descriptors: set[int] = set()


def keep_from_children(descriptor: int) -> None:
    """From here a forked child loses *descriptor*; `forget` it before it is closed."""
    _descriptors.add(descriptor)


def forget(descriptor: int) -> None:
    """Say that *descriptor* is about to be closed."""
    _descriptors.discard(descriptor)


def _let_go() -> None:
    if not _descriptors:
        return
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in _descriptors:
        # Replaced, not closed: objects of the parent believe that the number is theirs, and would
        # close whatever the child opens next.
        os.dup2(nothing, descriptor, inheritable=False)
    os.close(nothing)
    _descriptors.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
