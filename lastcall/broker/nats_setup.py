"""The stream of a server in JetStream: there, and with the limits that it needs."""

import msgspec

from lastcall.broker.nats_api import (
    NAME_IN_USE,
    NO_STREAM,
    SAFE_WITH_REPLICAS,
    Wish,
    changed,
    stream,
    stream_answer,
)
from lastcall.broker.nats_line import NatsLine
from lastcall.broker.nats_names import Names

ATTEMPTS = 3
"""Others may make it, or change it, at the same time."""


async def set_up(line: NatsLine, names: Names, wish: Wish, version: tuple[int, ...]) -> None:
    """See to it that the stream is there.

    Raises:
        BrokerUnavailable: nobody answers.
        ValueError: it cannot be had, or not as it has to be.
    """
    for _ in range(ATTEMPTS):
        answer = stream_answer(await _ask(line, "INFO", names))
        error = answer.error
        if error is not None and error.err_code == NO_STREAM:
            _require_safe(wish.replicas, version)
            answer = stream_answer(await _ask(line, "CREATE", names, stream(names, wish)))
            error = answer.error
            if error is not None and error.err_code == NAME_IN_USE:
                continue
        elif error is None and (better := changed(answer.config, names, wish)) is not None:
            answer = stream_answer(await _ask(line, "UPDATE", names, better))
            error = answer.error
        if error is not None:
            raise ValueError(f"the stream {names.stream!r} cannot be had: {error.description}")
        _require_safe(answer.replicas, version)
        return
    raise ValueError(f"others change the stream {names.stream!r} all the time")


def look_at(line: NatsLine, names: Names) -> None:
    """See whether somebody answers for the stream; if nobody does, the connection is given up."""
    answer = line.ask(f"$JS.API.STREAM.INFO.{names.stream}")
    answer.add_done_callback(lambda done: done.cancelled() or done.exception())


def _require_safe(replicas: int, version: tuple[int, ...]) -> None:
    if replicas > 1 and version < SAFE_WITH_REPLICAS:
        needed = ".".join(map(str, SAFE_WITH_REPLICAS))
        raise ValueError(
            f"a stream with {replicas} replicas needs NATS {needed} or newer: "
            "an older one can give two publications the same place"
        )


async def _ask(line: NatsLine, what: str, names: Names, config: object = None) -> bytes:
    question = b"" if config is None else msgspec.json.encode(config)
    answer = await line.ask(f"$JS.API.STREAM.{what}.{names.stream}", question, prepares=True)
    return answer.payload
