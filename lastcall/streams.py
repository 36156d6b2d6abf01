"""From a request to a connection that reads the response, and what it says by other requests."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, cast

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from lastcall import origin
from lastcall.attachment import Terms, comes_from_allowed_origin, connection_of, too_many
from lastcall.emulation import UnknownNode
from lastcall.errors import BrokerUnavailable, Overloaded, TooManyRequests
from lastcall.event_ids import positions_of
from lastcall.protocol.base import Message, SessionProtocol
from lastcall.protocol.centrifuge import METHODS, Call, Connect, Recovery, Reply
from lastcall.protocol.centrifuge_json import CentrifugeJson
from lastcall.protocol.centrifuge_protobuf import CentrifugeProtobuf
from lastcall.protocol.centrifuge_uni import CentrifugeUni
from lastcall.protocol.said import said_in_json, said_in_protobuf
from lastcall.transport.asgi_stream import AsgiStream, StreamForm
from lastcall.transport.base import CUT
from lastcall.transport.stream_forms import BYTES, EVENTS, LINES, EventSourceForm, PlainForm
from lastcall.wire_format import wire_format
from lastcall.worker import Worker

type StreamName = Literal["sse", "http_stream", "uni_sse", "uni_http_stream"]

QUERY = "cf_connect"
"""Where a URL says what a client would say first."""
_HEADERS = {
    "cache-control": "private, no-cache, no-store, no-transform, must-revalidate, max-age=0",
    # Else nginx collects what is written until a page is full.
    "x-accel-buffering": "no",
    # And compressing middleware until the response is over.
    "content-encoding": "identity",
}


@dataclass(frozen=True, slots=True)
class StreamKind:
    """What a client reads, and how it asks for that."""

    protocol: str
    media_type: str
    form: Callable[[SessionProtocol], StreamForm]
    methods: tuple[str, ...]
    has_ids: bool = False
    is_binary: bool = False


def _events(protocol: SessionProtocol) -> StreamForm:
    return PlainForm(protocol, EVENTS, opening=b"\n")


def _lines(protocol: SessionProtocol) -> StreamForm:
    return PlainForm(protocol, LINES)


def _bytes(protocol: SessionProtocol) -> StreamForm:
    return PlainForm(protocol, BYTES)


_EVENT_STREAM, _JSON_LINES = "text/event-stream", "application/x-ndjson"
_PROTOBUF = "application/octet-stream"
"""What SDKs in their Protobuf mode send, and want to read."""

KINDS: Mapping[StreamName, StreamKind] = {
    "sse": StreamKind(CentrifugeJson.name, _EVENT_STREAM, _events, ("GET", "POST")),
    "http_stream": StreamKind(CentrifugeJson.name, _JSON_LINES, _lines, ("POST",)),
    "uni_sse": StreamKind(
        CentrifugeUni.name, _EVENT_STREAM, EventSourceForm, ("GET", "POST"), has_ids=True
    ),
    "uni_http_stream": StreamKind(CentrifugeUni.name, _JSON_LINES, _lines, ("POST",)),
}
_IN_PROTOBUF: Mapping[StreamName, StreamKind] = {
    "http_stream": StreamKind(CentrifugeProtobuf.name, _PROTOBUF, _bytes, ("POST",), is_binary=True)
}


class _Unreadable(Exception):  # noqa: N818  (says what is so)
    """What came makes no stream; the status says why."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


async def stream(worker: Worker, request: Request, name: StreamName, terms: Terms) -> Response:
    """The response that a client of *worker* reads until its end; see `Endpoint.stream`."""
    if not comes_from_allowed_origin(worker, request):
        return Response(status_code=403)
    headers = sharing(worker, request)
    kind = (_IN_PROTOBUF if _is_protobuf(request) else KINDS).get(name, KINDS[name])
    try:
        first = await _first_words(request, kind, worker.settings.max_message_size)
    except _Unreadable as why:
        return Response(status_code=why.status, headers=headers)
    return StreamResponse(worker, kind, replace(terms, protocol=kind.protocol), first, headers)


async def say(worker: Worker, request: Request) -> Response:
    """Let a client of a stream say something, to whichever worker the stream is of."""
    if not comes_from_allowed_origin(worker, request):
        return Response(status_code=403)
    headers, is_binary = sharing(worker, request), _is_protobuf(request)
    try:
        body = await _body(request, worker.settings.max_message_size, is_binary=is_binary)
        said = said_in_protobuf(body) if is_binary else said_in_json(body)
        passed_on = worker.emulation.say(said)
        if passed_on is not None:
            await passed_on
    except _Unreadable as why:
        return Response(status_code=why.status, headers=headers)
    except UnknownNode:
        return Response(status_code=404, headers=headers)
    except BrokerUnavailable:
        return Response(status_code=503, headers=headers)
    except ValueError:
        return Response(status_code=400, headers=headers)
    return Response(status_code=204, headers=headers)


def preflight(worker: Worker, request: Request, methods: tuple[str, ...]) -> Response:
    """Say to a browser what a page of another origin may do here."""
    if not comes_from_allowed_origin(worker, request):
        return Response(status_code=403)
    asked = request.headers.get("access-control-request-headers")
    headers = sharing(worker, request) | origin.preflight(asked, methods=(*methods, "OPTIONS"))
    return Response(status_code=204, headers=headers)


def sharing(worker: Worker, request: Request) -> dict[str, str]:
    """The headers by which the page that sent *request* may read the response."""
    allowed = worker.settings.allowed_origins
    return origin.sharing(request.headers.get("origin"), allowed=allowed)


class StreamResponse(Response):
    """A response that is one connection of the worker, from its first byte to its last."""

    def __init__(
        self,
        worker: Worker,
        kind: StreamKind,
        terms: Terms,
        first: bytes,
        headers: Mapping[str, str],
    ) -> None:
        """Serve a client that has said *first* already."""
        # Not `Response.__init__`, which would say how long the body is.
        self.status_code = 200
        self.background = None
        self.media_type = kind.media_type
        self.init_headers({**_HEADERS, **headers})
        self._worker = worker
        self._kind = kind
        self._terms = terms
        self._first = Message(first, binary=kind.is_binary)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Be the connection until its end."""
        worker, kind = self._worker, self._kind
        protocol = cast("SessionProtocol", worker.protocols[kind.protocol])
        form = kind.form(protocol)
        if worker.crowd.turns_away() or too_many(worker, Request(scope), self._terms):
            await self._send_away(protocol, form, send)
            return
        connection = connection_of(worker, Request(scope), self._terms)
        limit, cut = worker.settings.max_backlog, scope.get("extensions", {}).get(CUT, _cannot)
        transport = AsgiStream(form, connection, max_backlog=limit, max_waiting=limit, cut=cut)
        connection.open(transport, wire_format(protocol, form.framing))
        session = connection.session
        if session is not None and not session.only_listens:
            session.key = worker.emulation.begin(connection, transport)
            session.node = worker.emulation.node
        worker.connected(connection)
        try:
            connection.received(self._first)
            await transport.serve(receive, send, self.raw_headers)
        finally:
            if session is not None:
                worker.emulation.end(session.key)

    async def _send_away(self, protocol: SessionProtocol, form: StreamForm, send: Send) -> None:
        # At a status an SDK tries its next transport at once, and an `EventSource` gives up.
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        body = form.ending(Overloaded.code, Overloaded.reason)
        for command in protocol.decode(self._first)[:1]:
            if isinstance(command, Call) and not protocol.only_listens:
                refused = Reply(command.id, METHODS[type(command.request)], TooManyRequests())
                body = form.render(form.framing.frame([protocol.reply(refused)])) + body
        await send({"type": "http.response.body", "body": body})


def _cannot() -> None:
    """The server closes the connection by itself, when it has sent what it took."""


def _is_protobuf(request: Request) -> bool:
    kind = request.headers.get("content-type", "").partition(";")[0]
    return kind.strip().lower() == _PROTOBUF


async def _first_words(request: Request, kind: StreamKind, limit: int) -> bytes:
    """What the client says to begin with.

    Raises:
        _Unreadable: nothing, too much, or no text.
    """
    if request.method == "GET":
        first = said_in_url(request.scope, request.query_params.get(QUERY))
    else:
        first = await _body(request, limit, is_binary=kind.is_binary)
    if first is None:
        if kind.protocol != CentrifugeUni.name:
            raise _Unreadable(400)
        first = b"{}"  # the application may know who it is
    if len(first) > limit:
        raise _Unreadable(413)
    if kind.has_ids and (where := request.headers.get("last-event-id")):
        first = _going_on(first, where)
    return first


def said_in_url(scope: Scope, value: str | None) -> bytes | None:
    """What a URL says for a client; it is a secret, so it is taken out of what servers log."""
    if value is None:
        return None
    scope["query_string"] = f"{QUERY}=".encode()
    return value.encode()


def _going_on(first: bytes, last_event_id: str) -> bytes:
    """What the client said, and that it goes on where it stood."""
    try:
        connect = msgspec.json.decode(first or b"{}", type=Connect)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return first  # whoever reads it says what is wrong
    stood = {
        channel: Recovery(recover=True, offset=position.offset, epoch=position.epoch)
        for channel, position in positions_of(last_event_id).items()
    }
    return msgspec.json.encode(msgspec.structs.replace(connect, subs={**connect.subs, **stood}))


async def _body(request: Request, limit: int, *, is_binary: bool) -> bytes:
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > limit:
                raise _Unreadable(413)
        if not is_binary:
            body.decode()
    except (ClientDisconnect, UnicodeDecodeError):
        raise _Unreadable(400) from None
    return bytes(body)
