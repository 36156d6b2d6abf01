"""A lifespan of the application's own: the database is there until the last client has left.

Shows: `lastcall.run(app)` inside a lifespan; a blocking call from an event handler, in a thread.

    uvicorn examples.own_lifespan:app
    python -m websockets ws://127.0.0.1:8000/notes
"""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

from anyio.to_thread import run_sync
from fastapi import FastAPI, WebSocket

from lastcall import Connection, Lastcall

lastcall = Lastcall()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open first what the handlers need; it is closed after the drain."""
    with closing(sqlite3.connect(":memory:", check_same_thread=False)) as database:
        database.execute("CREATE TABLE note (text)")
        app.state.database = database
        async with lastcall.run(app):
            yield
        print("drained, closing the database")  # noqa: T201  (an example shows what it does)


app = FastAPI(lifespan=lifespan)
app.include_router(lastcall.router)


@app.websocket("/notes")
async def notes(websocket: WebSocket) -> None:
    """Everybody here hears of every note."""
    await lastcall.attach(websocket, channels=["notes"])


@lastcall.on_message
async def keep(_connection: Connection, note: str | bytes) -> None:
    """Store first, then tell."""
    number = await run_sync(_insert, note)
    await lastcall.publish("notes", f"note {number} is kept")


def _insert(note: str | bytes) -> int:
    database: sqlite3.Connection = app.state.database
    with database:
        database.execute("INSERT INTO note VALUES (?)", (note,))
    (number,) = database.execute("SELECT count(*) FROM note").fetchone()
    return int(number)
