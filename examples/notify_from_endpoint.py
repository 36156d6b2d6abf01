"""An existing application tells its users what happens, at the moment it happens.

Shows: a WebSocket endpoint whose user comes from a dependency, like any endpoint's; publishing from
an `async def` endpoint and from a `def` endpoint, which runs in a thread.

    uvicorn examples.notify_from_endpoint:app
    python -m websockets "ws://127.0.0.1:8000/notifications?token=ada-token"  # a second terminal
    curl -X POST 127.0.0.1:8000/orders/7/ship                                 # a third
    curl -X POST 127.0.0.1:8000/users/ada/remind
"""

from typing import Annotated

from fastapi import Depends, FastAPI, WebSocket, WebSocketException, status

from lastcall import Lastcall

TOKENS = {"ada-token": "ada", "bob-token": "bob"}

lastcall = Lastcall()
app = FastAPI(lifespan=lastcall.lifespan)
app.include_router(lastcall.router)


async def current_user(token: str) -> str:
    """Whose token it is; raised before the handshake ends, the error is an answer with 403."""
    if token not in TOKENS:
        raise WebSocketException(status.WS_1008_POLICY_VIOLATION, "unknown token")
    return TOKENS[token]


@app.websocket("/notifications")
async def notifications(websocket: WebSocket, user: Annotated[str, Depends(current_user)]) -> None:
    """Each user hears what concerns everybody, and what concerns them."""
    await lastcall.attach(websocket, user=user, channels=["orders", f"user:{user}"])


@app.post("/orders/{order}/ship")
async def ship(order: int) -> dict[str, int]:
    """Tell everybody. When `await` returns, the publication is stored and will be delivered."""
    position = await lastcall.publish("orders", {"order": order, "status": "shipped"})
    return {"offset": position.offset}


@app.post("/users/{user}/remind")
def remind(user: str) -> None:
    """Tell one user, from a thread."""
    lastcall.publish_sync(f"user:{user}", "Your basket is waiting.")
