"""From a handshake to a connection: the checks, and the transport that the server allows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import anyio
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from lastcall import origin
from lastcall.admission import refuse
from lastcall.connection import Connection, RemoteAddress
from lastcall.errors import BrokerUnavailable, Overloaded, TooManyRequests
from lastcall.protocol.base import Message, SessionProtocol
from lastcall.protocol.centrifuge import Call, Reply
from lastcall.protocol.centrifuge_json import CentrifugeJson
from lastcall.protocol.centrifuge_protobuf import CentrifugeProtobuf
from lastcall.protocol.plain_text import PlainText
from lastcall.proxy_messages import picked
from lastcall.transport.asgi_websocket import AsgiWebSocket
from lastcall.transport.base import DETACH, Transport
from lastcall.wire_format import wire_format
from lastcall.worker import Worker

PLAIN_TEXT = PlainText.name
FULL_RETRY_AFTER = 5.0
_FRAME_PINGS = "cf_ws_frame_ping_pong"
"""Asked for in the URL by tools that answer WebSocket pings, and no others."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How a client is attached; see `Endpoint.attach`."""

    endpoint: str
    user: str | None
    channels: tuple[str, ...]
    subprotocol: str | None
    protocol: str
    first: bytes | None = None
    """What the client has said already, in its URL."""


def negotiated(websocket: WebSocket) -> tuple[str, str | None]:
    """What a client of the Centrifuge protocol speaks, and the subprotocol to agree on."""
    for offered in websocket.scope.get("subprotocols", ()):
        if offered in {CentrifugeJson.name, CentrifugeProtobuf.name}:
            return offered, offered
    query = _query(websocket)
    if "protobuf" in {query.get("format"), query.get("cf_protocol")}:
        return CentrifugeProtobuf.name, None
    return CentrifugeJson.name, None


def _query(websocket: WebSocket) -> Mapping[str, str]:
    # Made only where there is something in it: this is what every client comes through.
    return websocket.query_params if websocket.scope.get("query_string") else {}


async def attach(worker: Worker, websocket: WebSocket, terms: Terms) -> None:
    """Make the client of *websocket* a connection of *worker*; see `Endpoint.attach`."""
    if not comes_from_allowed_origin(worker, websocket):
        # Before accept this is an answer with status 403 (ASGI specification, "Close").
        await websocket.close(1008, "foreign origin")
        return
    if worker.crowd.turns_away() and terms.protocol != PLAIN_TEXT:
        await _ask_for_patience(worker, websocket, terms)
        return
    status = too_many(worker, websocket, terms)
    if status:
        await _turn_away(websocket, terms, status)
        return
    connection = connection_of(worker, websocket, terms)
    if connection.session is not None:
        connection.session.has_frame_pings = _query(websocket).get(_FRAME_PINGS) == "true"
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
    if terms.first is not None:
        connection.received(Message(terms.first))
    if isinstance(transport, AsgiWebSocket):
        await transport.serve()


def connection_of(worker: Worker, request: HTTPConnection, terms: Terms) -> Connection:
    """The client of *request*, which has no transport yet."""
    remote = _remote(request)
    if terms.protocol == PLAIN_TEXT:
        return Connection(
            worker, remote, user=terms.user, endpoint=terms.endpoint, channels=terms.channels
        )
    # It hears its channels from its connect on: before that it has nothing to hear them with.
    protocol = cast("SessionProtocol", worker.protocols[terms.protocol])
    session = worker.sessions.begin(terms.channels, only_listens=protocol.only_listens)
    session.headers = tuple(picked(request.headers, worker.settings.proxy_headers))
    return Connection(worker, remote, user=terms.user, endpoint=terms.endpoint, session=session)


def _remote(request: HTTPConnection) -> RemoteAddress:
    return RemoteAddress(*(request.scope.get("client") or (None, None)))


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


def too_many(worker: Worker, request: HTTPConnection, terms: Terms) -> int:
    """The status for one client more; 0: it may come in."""
    if worker.is_full:
        return 503
    host = _remote(request).host
    # Who has a session says later who it is, and is told in other words then.
    user = terms.user if terms.protocol == PLAIN_TEXT else None
    return 0 if worker.crowd.has_room_at(host) and worker.crowd.has_room_for(user) else 429


async def _ask_for_patience(worker: Worker, websocket: WebSocket, terms: Terms) -> None:
    """Answer what an SDK says first, in its own words; it goes by itself then.

    It is no connection: a drain does not wait for those who come back again and again.
    """
    protocol = cast("SessionProtocol", worker.protocols[terms.protocol])
    worker.connections.expect_one()
    try:
        with anyio.move_on_after(worker.settings.stale_delay):
            if websocket.application_state is WebSocketState.CONNECTING:
                await websocket.accept(terms.subprotocol)
            said = Message(terms.first) if terms.first else await _message(websocket)
            first = next(iter(protocol.decode(said)), None)
            if isinstance(first, Call):
                reply = protocol.reply(Reply(first.id, "connect", TooManyRequests()))
                await _send(websocket, reply)
                await websocket.receive()
        await websocket.close(Overloaded.code, Overloaded.reason)
    except (WebSocketDisconnect, RuntimeError, OSError):
        return  # it is gone
    finally:
        worker.connections.expected_one()


async def _message(websocket: WebSocket) -> Message:
    event = await websocket.receive()
    if event["type"] == "websocket.connect":
        event = await websocket.receive()
    if event["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(event["code"])
    text = event.get("text")
    return Message(text.encode()) if text is not None else Message(event["bytes"], binary=True)


async def _send(websocket: WebSocket, message: Message) -> None:
    if message.binary:
        await websocket.send_bytes(message.data)
    else:
        await websocket.send_text(message.data.decode())


async def _turn_away(websocket: WebSocket, terms: Terms, status: int) -> None:
    if terms.protocol == PLAIN_TEXT:
        await _refuse(websocket, status)
        return
    # At a status an SDK tries its next transport at once; at this code it waits, longer each time.
    if websocket.application_state is WebSocketState.CONNECTING:
        await websocket.accept(terms.subprotocol)
    await websocket.close(Overloaded.code, Overloaded.reason)


async def _refuse(websocket: WebSocket, status: int = 503) -> None:
    if websocket.application_state is WebSocketState.CONNECTING:
        await refuse(websocket.scope, websocket.send, FULL_RETRY_AFTER, status)
    else:  # the application has accepted it before: too late for a status
        await websocket.close(1013, "try again later")


def comes_from_allowed_origin(worker: Worker, request: HTTPConnection) -> bool:
    """Whether the page that sends *request*, if it is one, may connect here."""
    if all(name != b"origin" for name, _ in request.scope["headers"]):
        return True  # only browsers send one
    headers = request.headers
    return origin.is_allowed(
        headers["origin"],
        host=headers.get("host", ""),
        forwarded_host=headers.get("x-forwarded-host"),
        allowed=worker.settings.allowed_origins,
    )
