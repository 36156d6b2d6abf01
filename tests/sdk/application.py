"""An application for clients that speak the Centrifuge protocol."""

import os
from collections.abc import Awaitable
from typing import Literal

import msgspec
from fastapi import FastAPI, Request, Response, WebSocket

from lastcall import Connection, Disconnect, Lastcall, StreamPosition
from lastcall.errors import Refused

lastcall = Lastcall()
app = FastAPI(lifespan=lastcall.lifespan)
app.include_router(lastcall.router)


@app.websocket("/signed-in")
async def signed_in(websocket: WebSocket) -> None:
    """A client that the application knows."""
    await lastcall.attach(
        websocket, user="7", channels=["chat:notices"], protocol="centrifuge-json"
    )


@app.websocket("/plain")
async def plain(websocket: WebSocket) -> None:
    """A client that speaks no protocol of the SDKs."""
    await lastcall.attach(websocket)


@app.api_route("/signed-in/{transport}", methods=["GET", "POST"])
async def signed_in_by(request: Request, transport: Literal["sse", "http_stream"]) -> Response:
    """The same without a WebSocket."""
    return await lastcall.stream(request, transport, user="7", channels=["chat:notices"])


@lastcall.on_subscribe("asked:*")
async def may_subscribe(_connection: Connection, channel: str) -> bool:
    """Some may."""
    return not channel.endswith("secret")


@lastcall.on_publish("asked:*")
def may_publish(_connection: Connection, _channel: str, data: str) -> bool:
    """Some things may be said."""
    return data != '"secret"'


@lastcall.on_rpc("worker")
def worker(_connection: Connection, _data: str) -> int:
    """Which process serves the client."""
    return os.getpid()


@lastcall.on_rpc("echo")
async def echo(connection: Connection, data: str) -> object:
    """Who said what."""
    return {"user": connection.user, "said": msgspec.json.decode(data)}


@lastcall.on_rpc("announce")
def announce(_connection: Connection, data: str) -> Awaitable[StreamPosition]:
    """Publish as the application, which no rule holds back."""
    channel, said = msgspec.json.decode(data)
    return lastcall.publish(channel, said)


@lastcall.on_rpc("refuse")
def refuse(_connection: Connection, _data: str) -> None:
    """Fail as the application means it."""
    raise Refused(444, "not on Sundays")


@lastcall.on_rpc("fail")
def fail(_connection: Connection, _data: str) -> None:
    """Fail as nobody means it."""
    raise RuntimeError("broken on purpose")


@lastcall.on_rpc("end")
def end(_connection: Connection, data: str) -> None:
    """End the connection with a code."""
    code = msgspec.json.decode(data, type=int)
    raise type("Ending", (Disconnect,), {"code": code, "reason": f"ended by code {code}"})
