"""The server API over HTTP: `POST /api/<method>` with a key, JSON in, JSON out.

As Centrifugo answers: with 200 whatever became of the command, errors in the body, unless the
caller asks for statuses. Only what is wrong with the request itself has a status of its own.
"""

import hmac
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import msgspec
from fastapi import APIRouter, Security
from fastapi.security import APIKeyHeader
from msgspec import UNSET
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from lastcall.errors import BadCommand, MethodNotFound, Refused
from lastcall.http_api_schema import BATCH, described
from lastcall.server_api import METHODS, Batch, Command, Failure, Result
from lastcall.server_methods import ServerMethods
from lastcall.settings import Settings

KEY_HEADER = "X-API-Key"
ERROR_MODE_HEADER = "X-Centrifugo-Error-Mode"
MAX_PARALLEL = 32
"""Commands of one batch that are under way at once."""

STATUSES = {100: 500, 102: 404, 104: 404, 112: 416, 113: 409}
"""The HTTP status of an error for those who ask for statuses; 400 for all others."""

type Find = Callable[[], ServerMethods]
"""Finds who does what is asked for; raises `RuntimeError` while nobody does."""

_ENCODER = msgspec.json.Encoder()


class _Unreadable(Exception):  # noqa: N818  (says what is so)
    """What came is no request; the response says why."""

    def __init__(self, status: int, why: str = "") -> None:
        super().__init__(why)
        error = Failure(BadCommand.code, f"{BadCommand.message}: {why}")
        self.response = _json({"error": error}, status) if why else Response(status_code=status)


def api_router(settings: Settings, find: Find) -> APIRouter:
    """`/api/*`: closed while `API_KEY` is unset, and then not on the page of the API either."""
    router = APIRouter(
        prefix="/api",
        tags=["server API"],
        include_in_schema=settings.api_key is not None,
        # For the page only: what it does not find has to be answered as Centrifugo does.
        dependencies=[Security(APIKeyHeader(name=KEY_HEADER, auto_error=False))],
    )
    api = _Api(settings, find)
    for name, kind in METHODS.items():
        router.add_api_route(f"/{name}", api.endpoint(kind), **described(name, kind))
    router.add_api_route("/batch", api.batch, **described(BATCH, Batch))
    return router


class _Api:
    """Reads requests, checks who asks, writes replies."""

    def __init__(self, settings: Settings, find: Find) -> None:
        secret = settings.api_key
        self._key = secret.get_secret_value().encode() if secret is not None else b""
        self._max_body = settings.max_api_body
        self._find = find

    def endpoint(self, kind: type[Any]) -> Callable[[Request], Awaitable[Response]]:
        """What answers requests of one method."""

        async def endpoint(request: Request) -> Response:
            try:
                command = await self._read(request, kind)
            except _Unreadable as why:
                return why.response
            outcome = await _outcome(self._find(), command)
            if isinstance(outcome, Failure) and _wants_statuses(request):
                return _json(outcome, STATUSES.get(outcome.code, 400))
            return _json({"error" if isinstance(outcome, Failure) else "result": outcome})

        return endpoint

    async def batch(self, request: Request) -> Response:
        """Answer several commands at once; one that is refused does not harm the others."""
        try:
            batch: Batch = await self._read(request, Batch)
        except _Unreadable as why:
            return why.response
        methods = self._find()
        replies: list[Any] = [None] * len(batch.commands)
        room = anyio.CapacityLimiter(MAX_PARALLEL if batch.parallel else 1)

        async def answer(place: int, command: Command | None) -> None:
            async with room:
                replies[place] = await _reply(methods, command)

        if batch.parallel:
            async with anyio.create_task_group() as tasks:
                for place, command in enumerate(batch.commands):
                    tasks.start_soon(answer, place, command)
        else:
            for place, command in enumerate(batch.commands):
                await answer(place, command)
        return _json({"replies": replies})

    async def _read[T](self, request: Request, kind: type[T]) -> T:
        """The command of *request*.

        Raises:
            _Unreadable: there is none, or it is not for this caller.
        """
        if not self._is_authorized(request):
            raise _Unreadable(401)
        try:
            body = await self._body(request)
            body.decode()  # values that are passed on as they came must be text all the same
            return msgspec.json.decode(body, type=kind)
        except ClientDisconnect:
            raise _Unreadable(400) from None
        except msgspec.ValidationError as error:
            raise _Unreadable(400, str(error)) from None
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError):
            raise _Unreadable(400, "this is no JSON") from None

    def _is_authorized(self, request: Request) -> bool:
        header = request.headers.get(KEY_HEADER)
        scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
        if header is not None:
            given = header.encode("latin-1")
        elif scheme.lower() == "apikey":
            given = credentials.strip().encode("latin-1")
        else:
            given = request.query_params.get("api_key", "").encode()
        return hmac.compare_digest(given, self._key) and self._key != b""

    async def _body(self, request: Request) -> bytes:
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > self._max_body:
                raise _Unreadable(413, f"more than {self._max_body} bytes")
        return bytes(body)


async def _outcome(methods: ServerMethods, command: Any) -> Result | Failure:
    try:
        return await methods.do(command)
    except Refused as why:
        return Failure(why.code, why.message)


async def _reply(methods: ServerMethods, command: Command | None) -> dict[str, Any]:
    """One reply of a batch."""
    named = [(name, getattr(command, name)) for name in METHODS if command is not None]
    given = [(name, request) for name, request in named if request is not UNSET]
    outcome: Result | Failure
    if command is None or (given and given[0][1] is None):
        outcome = Failure(BadCommand.code, BadCommand.message)
    elif not given:
        outcome = Failure(MethodNotFound.code, MethodNotFound.message)
    else:
        outcome = await _outcome(methods, given[0][1])
    return {"error" if isinstance(outcome, Failure) else given[0][0]: outcome}


def _wants_statuses(request: Request) -> bool:
    return request.headers.get(ERROR_MODE_HEADER, "").strip().lower() == "transport"


def _json(content: object, status: int = 200) -> Response:
    return Response(_ENCODER.encode(content), status, media_type="application/json")
