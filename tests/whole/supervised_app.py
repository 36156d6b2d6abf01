"""A small ASGI application that misbehaves as its environment asks, for a supervisor to suffer.

`MISBEHAVE` names what it does, and it does so only while the file `MISBEHAVE_WHILE` exists, if
that is set.
"""

import asyncio
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_while = os.environ.get("MISBEHAVE_WHILE")
MISBEHAVE = os.environ.get("MISBEHAVE") if _while is None or Path(_while).exists() else None


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if MISBEHAVE == "crash at import":
    os._exit(9)
if MISBEHAVE == "raise at import":
    raise RuntimeError("broken on purpose")
if MISBEHAVE == "exit at import":
    sys.exit("not today")
if MISBEHAVE == "hang at import":
    say("importing")
    threading.Event().wait(60)
if MISBEHAVE == "be deaf at import":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say(f"deaf: {os.getpid()}")
    threading.Event().wait(60)


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """Answer with the worker's pid, once the request's body is complete."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    if scope["path"] == "/hang":
        time.sleep(60)  # noqa: ASYNC251  (that is the misbehaviour)
    say("request begun")
    more = True
    while more:
        more = (await receive()).get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})


async def lifespan(receive: Receive, send: Send) -> None:
    await receive()
    if MISBEHAVE == "fail to start":
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        return
    if MISBEHAVE == "hang in startup":
        await hang_in_startup(send)
    if MISBEHAVE == "start late":
        say("starting late")
        while _while is not None and Path(_while).exists():  # noqa: ASYNC110, ASYNC240  (a file)
            await asyncio.sleep(0.02)
    if MISBEHAVE == "ignore signals":
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
    leave_with_the_master()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    failed = "failed" if MISBEHAVE == "fail to stop" else "complete"
    await send({"type": f"lifespan.shutdown.{failed}"})


async def hang_in_startup(send: Send) -> None:
    """Like a framework: tell the server what went wrong, with a traceback."""
    say("starting up")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        say("cleaned up")
        await send({"type": "lifespan.startup.failed", "message": "Traceback: cancelled"})
        raise


def leave_with_the_master() -> None:
    master = multiprocessing.parent_process()
    if master is not None:
        asyncio.get_running_loop().add_reader(
            master.sentinel, lambda: os.kill(os.getpid(), signal.SIGTERM)
        )
