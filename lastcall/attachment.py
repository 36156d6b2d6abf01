"""From a handshake to a connection: the checks, and the transport that the server allows."""

from collections.abc import Callable
from dataclasses import dataclass
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

PLAIN_TEXT = PlainText.name
FULL_RETRY_AFTER = 5.0


@dataclass(frozen=True, slots=True)
class Terms:
    """How a client is attached; see `Endpoint.attach`."""

    endpoint: str
    user: str | None
    channels: tuple[str, ...]
    subprotocol: str | None
    protocol: str


async def attach(worker: Worker, websocket: WebSocket, terms: Terms) -> None:
    """Make the client of *websocket* a connection of *worker*; see `Endpoint.attach`."""
    if not _is_own_origin(worker, websocket):
        # Before accept this is an answer with status 403 (ASGI specification, "Close").
        await websocket.close(1008, "foreign origin")
        return
    if worker.is_full:
        await _refuse(websocket)
        return
    connection = _connection(worker, websocket, terms)
    worker.connections.expect_one()
    try:
        transport = await _transport(worker, websocket, connection, terms.subprotocol)
    finally:
        worker.connections.expected_one()
    if transport is None:
        return
    protocol = worker.protocols[terms.protocol]
    connection.open(transport, wire_format(protocol, transport.framing))
    worker.connected(connection)
    if isinstance(transport, AsgiWebSocket):
        await transport.serve()


def _connection(worker: Worker, websocket: WebSocket, terms: Terms) -> Connection:
    remote = RemoteAddress(*(websocket.scope.get("client") or (None, None)))
    if terms.protocol == PLAIN_TEXT:
        return Connection(
            worker, remote, user=terms.user, endpoint=terms.endpoint, channels=terms.channels
        )
    # It hears its channels from its connect on: before that it has nothing to hear them with.
    session = worker.sessions.begin(terms.channels)
    return Connection(worker, remote, user=terms.user, endpoint=terms.endpoint, session=session)


async def _transport(
    worker: Worker, websocket: WebSocket, connection: Connection, subprotocol: str | None
) -> Transport | None:
    """Subscribe, accept; None if either cannot be, and then the client has been told."""
    try:
        await worker.interest.listen(connection.channels)
    except BrokerUnavailable:
        await _refuse(websocket)
        return None
    try:
        return await _accept(worker, websocket, connection, subprotocol)
    except (WebSocketDisconnect, OSError):
        worker.interest.stop_listening(connection.channels)  # it left before it had come
        return None
    except BaseException:
        worker.interest.stop_listening(connection.channels)
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
    if all(name != b"origin" for name, _ in websocket.scope["headers"]):
        return True  # only browsers send one
    headers = websocket.headers
    return origin.is_allowed(
        headers["origin"],
        host=headers.get("host", ""),
        forwarded_host=headers.get("x-forwarded-host"),
        allowed=worker.settings.allowed_origins,
    )
