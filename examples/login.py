"""An application with a login of its own: who is logged in is who is connected. No tokens.

Shows: the session cookie and the dependency of every other endpoint, on one for the SDK; a channel
that the server gives; a function that says who may enter a room. A page of another origin cannot
use the cookie: its handshake is refused, unless `LASTCALL_ALLOWED_ORIGINS` names it.

    uvicorn examples.login:app
    open http://127.0.0.1:8000/docs and log in as ada; then http://127.0.0.1:8000/#channels is hers
"""

import secrets
from typing import Annotated

from fastapi import Cookie, Depends, FastAPI, HTTPException, Response, WebSocket
from starlette.requests import HTTPConnection

from lastcall import Connection, Lastcall, page_router

ROOM = {"presence": True, "allow_presence_for_subscriber": True}

lastcall = Lastcall(namespaces={"room": ROOM})
app = FastAPI(lifespan=lastcall.lifespan)
app.include_router(lastcall.router)
app.include_router(page_router(lastcall.settings, connection_path="/live"))

sessions: dict[str, str] = {}  # yours is a database, which all workers see
MEMBERS = {"room:kitchen": {"ada", "bob"}, "room:cellar": {"bob"}}


def current_user(_request: HTTPConnection, session: Annotated[str, Cookie()] = "") -> str:
    """Who is logged in; the same for requests and for WebSockets, which are refused with 403."""
    if session not in sessions:
        raise HTTPException(403, "log in first")
    return sessions[session]


User = Annotated[str, Depends(current_user)]


@app.post("/login/{name}")
async def login(name: str, response: Response) -> None:
    """Believe everybody; yours asks for a password."""
    session = secrets.token_urlsafe()
    sessions[session] = name
    response.set_cookie("session", session, httponly=True, samesite="lax")


@app.websocket("/live")
async def live(websocket: WebSocket, user: User) -> None:
    """Here the SDK connects: `new Centrifuge("ws://127.0.0.1:8000/live")`."""
    channels = [f"user-{user}"]
    await lastcall.attach(websocket, user=user, channels=channels, protocol="centrifuge-json")


@lastcall.on_subscribe("room:*")
def may_enter(connection: Connection, channel: str) -> bool:
    """Rooms are for their members."""
    return connection.user in MEMBERS.get(channel, ())


@app.post("/remind/{name}")
async def remind(name: str, user: User) -> None:
    """Tell one user, on all their devices."""
    await lastcall.publish(f"user-{name}", f"{user} is waiting for you.")
