"""An application with a lifespan and a resource of its own, which Lastcall lives inside."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, WebSocket

from lastcall import Connection, Lastcall

lastcall = Lastcall()
database = {"is": "closed"}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the database around everything that may need it."""
    database["is"] = "open"
    async with lastcall.run(app):
        yield
        print("drained", flush=True)  # noqa: T201  (the test reads the log)
    database["is"] = "closed"
    print("database closed", flush=True)  # noqa: T201  (the test reads the log)


app = FastAPI(lifespan=lifespan)
app.include_router(lastcall.router)


@app.websocket("/ws")
async def answers(websocket: WebSocket) -> None:
    """Answer whoever connects."""
    await lastcall.attach(websocket)


@lastcall.on_message
def answer(connection: Connection, _message: str | bytes) -> None:
    """Say how the database is."""
    connection.send(f"the database is {database['is']}")
