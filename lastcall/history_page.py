"""Which of a channel's publications somebody sees who asks for its history: rules without I/O."""

from collections.abc import Sequence

from lastcall.broker.base import History, Publication
from lastcall.errors import BadCommand, Unrecoverable


def page(
    history: History,
    size: int,
    since: tuple[int, str] | None,
    limit: int | None,
    *,
    reverse: bool,
) -> Sequence[Publication]:
    """At most *limit* of the *size* latest, oldest first or else in *reverse*.

    *since* is an offset and its epoch, which may be empty: what follows it on the way, without it.

    Raises:
        BadCommand: there is nothing on the way back from the beginning.
        Unrecoverable: *since* is of another stream.
    """
    # The log keeps more than the channel's history has, for clients that change their worker.
    found = list(history.publications)[-size:]
    if reverse:
        found.reverse()
    if since is not None:
        offset, epoch = since
        if reverse and not offset:
            raise BadCommand
        if epoch not in {"", history.top.epoch}:
            raise Unrecoverable
        way = -1 if reverse else 1
        found = [each for each in found if way * each.offset > way * offset]
    return found[:limit]
