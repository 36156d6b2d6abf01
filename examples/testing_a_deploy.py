"""What does a deploy do to my clients? Asked of an application by its own tests.

    pytest examples/testing_a_deploy.py
    uvicorn examples.testing_a_deploy:app --workers 2

Each test starts real workers, sends real signals, and takes about a second.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI, Query, WebSocket, WebSocketException

from lastcall import Connection, Lastcall
from lastcall.settings import SHUTDOWN_NOTICE
from lastcall.testing import Deploy, simulate_deploy

lastcall = Lastcall()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open what the clients need before they come, close it when the last has left."""
    async with lastcall.run(app):
        yield


app = FastAPI(lifespan=lifespan)
app.include_router(lastcall.router)


def current_user(token: str = Query()) -> str:
    """Look the token up; the tests below put something simpler in its place."""
    raise WebSocketException(1008, f"nobody knows {token}")


@app.websocket("/chat")
async def chat(websocket: WebSocket, user: str = Depends(current_user)) -> None:
    """Everybody hears everybody."""
    await lastcall.attach(websocket, user=user, channels=["chat"])


@lastcall.on_message
async def say(connection: Connection, message: str | bytes) -> None:
    """Pass on what somebody says."""
    await lastcall.publish("chat", f"{connection.user}: {message!s}")


def test_a_deploy_is_not_noticed() -> None:
    """A new worker is ready, the old one leaves, and the chat goes on."""
    app.dependency_overrides[current_user] = lambda: "ada"
    with Deploy(app) as deploy:
        ada = deploy.connect("/chat")
        outcome = deploy.finish()
        ada.send("still there?")
        assert ada.receive() == "ada: still there?"
    outcome.check()


def test_the_last_server_says_goodbye() -> None:
    """No new worker comes: clients are told, and closed with a code that lets them come back."""
    app.dependency_overrides[current_user] = lambda: "ada"
    outcome = simulate_deploy(app, "/chat", "/chat", successor=False)
    outcome.check()
    for client in outcome.clients:
        assert (client.messages, client.close_code) == ((SHUTDOWN_NOTICE,), 1012)
