"""One-time tickets: for clients that have no cookie here, and whose token shall stand in no URL.

Whoever is logged in asks for a ticket over HTTP and shows it once, within ten seconds: an SDK as
the `data` of its connect, a bare WebSocket as a subprotocol, which browsers let a page choose.
Neither stands in an access log, and who finds one later has nothing.

    uvicorn examples.tickets:app
"""

import json
import secrets
import time
from typing import Annotated

from fastapi import FastAPI, Header, HTTPException, WebSocket

from lastcall import Connection, Identity, Lastcall

LIFETIME = 10.0
KEYS = {"ada-key": "ada", "bob-key": "bob"}  # yours are sessions, or whatever you log in with

lastcall = Lastcall()
app = FastAPI(lifespan=lastcall.lifespan)
app.include_router(lastcall.router)

# Yours is a table that all workers see: DELETE FROM tickets WHERE id = … RETURNING user, until
tickets: dict[str, tuple[str, float]] = {}


def redeem(ticket: str) -> str | None:
    """Whose ticket this is; nobody has it afterwards."""
    user, until = tickets.pop(ticket, ("", 0.0))
    return user if time.time() < until else None


@app.post("/ticket")
async def ticket(x_key: Annotated[str, Header()]) -> str:
    """A new ticket for whoever is logged in."""
    if x_key not in KEYS:
        raise HTTPException(403, "log in first")
    made = secrets.token_urlsafe()
    tickets[made] = (KEYS[x_key], time.time() + LIFETIME)
    return made


@lastcall.on_authenticate
async def who(_connection: Connection, data: str) -> Identity | None:
    """`new Centrifuge(url, {getData: async () => ({ticket: await fetchTicket()})})`."""
    said = json.loads(data)
    user = redeem(str(said.get("ticket"))) if isinstance(said, dict) else None
    return None if user is None else Identity(user=user, channels=[f"user-{user}"])


@app.websocket("/notifications")
async def notifications(websocket: WebSocket) -> None:
    """`new WebSocket(url, ["ticket", await fetchTicket()])`."""
    kind, _, shown = websocket.headers.get("sec-websocket-protocol", "").partition(",")
    user = redeem(shown.strip())
    if kind.strip() != "ticket" or user is None:
        await websocket.close()  # before it is accepted: status 403
        return
    # The browser wants one of its subprotocols back; never the secret one.
    await lastcall.attach(websocket, user=user, channels=[f"user-{user}"], subprotocol="ticket")
