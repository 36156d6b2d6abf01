"""From a handshake to a connection: the checks, and the transport that the server allows."""

from collections.abc import Callable
from typing import cast

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from lastcall import origin
from lastcall.admission import refuse
from lastcall.connection import Connection, RemoteAddress
from lastcall.errors import BrokerUnavailable
from lastcall.protocol.plain_text import PlainText
from lastcall.transport.asgi_websocket import AsgiWebSocket
from lastcall.transport.base import DETACH, Transport
from lastcall.wire_format import wire_format
from lastcall.worker import Worker

PLAIN_TEXT = PlainText()
FULL_RETRY_AFTER = 5.0


async def attach(
    worker: Worker,
    websocket: WebSocket,
    *,
    endpoint: str,
    user: str | None,
    channels: tuple[str, ...],
    subprotocol: str | None,
) -> None:
    """Make the client of *websocket* a connection of *worker*; see `Endpoint.attach`."""
    if not _is_own_origin(worker, websocket):
        # Before accept this is an answer with status 403 (ASGI specification, "Close").
        await websocket.close(1008, "foreign origin")
        return
    if worker.is_full:
        await _refuse(websocket)
        return
    remote = RemoteAddress(*websocket.client) if websocket.client else RemoteAddress(None, None)
    connection = Connection(worker, remote, user=user, endpoint=endpoint, channels=channels)
    with worker.connections.expecting_one():
        transport = await _transport(worker, websocket, connection, subprotocol)
    if transport is None:
        return
    connection.open(transport, wire_format(PLAIN_TEXT, transport.framing))
    worker.connected(connection)
    if isinstance(transport, AsgiWebSocket):
        await transport.serve()


async def _transport(
    worker: Worker, websocket: WebSocket, connection: Connection, subprotocol: str | None
) -> Transport | None:
    """Subscribe, accept; None if either cannot be, and then the client has been told."""
    try:
        await worker.subscribe(connection)
    except BrokerUnavailable:
        await _refuse(websocket)
        return None
    try:
        return await _accept(worker, websocket, connection, subprotocol)
    except (WebSocketDisconnect, OSError):
        worker.unsubscribe(connection)  # it left before it had come
        return None
    except BaseException:
        worker.unsubscribe(connection)
        raise


async def _accept(
    worker: Worker, websocket: WebSocket, connection: Connection, subprotocol: str | None
) -> Transport:
    if websocket.application_state is WebSocketState.CONNECTING:
        await websocket.accept(subprotocol)
    limits = {
        "max_backlog": worker.settings.max_backlog,
        "max_message_size": worker.settings.max_message_size,
    }
    detach = websocket.scope.get("extensions", {}).get(DETACH)
    if detach is None:
        return AsgiWebSocket(websocket, connection, **limits)
    return cast("Callable[..., Transport]", detach)(connection, **limits)


async def _refuse(websocket: WebSocket) -> None:
    if websocket.application_state is WebSocketState.CONNECTING:
        await refuse(websocket.scope, websocket.send, FULL_RETRY_AFTER)
    else:  # the application has accepted it before: too late for a status
        await websocket.close(1013, "try again later")


def _is_own_origin(worker: Worker, websocket: WebSocket) -> bool:
    headers = websocket.headers
    theirs = headers.get("origin")
    if theirs is None:
        return True  # only browsers send one
    return origin.is_allowed(
        theirs,
        host=headers.get("host", ""),
        forwarded_host=headers.get("x-forwarded-host"),
        allowed=worker.settings.allowed_origins,
    )
