"""Where clients without a WebSocket connect, and where they speak."""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Request, Response, WebSocket

from lastcall.attachment import Terms, attach
from lastcall.protocol.centrifuge_uni import CentrifugeUni
from lastcall.streams import KINDS, QUERY, StreamName, preflight, said_in_url, say, stream
from lastcall.worker import Worker

type Find = Callable[[], Worker]
"""Finds who serves; raises `RuntimeError` while nobody does."""

EMULATION = "/emulation"


def streams_router(find: Find) -> APIRouter:
    """`/connection/*` beside the WebSocket, and `/emulation`."""
    router = APIRouter(include_in_schema=False)

    def add(
        path: str, methods: tuple[str, ...], serve: Callable[[Request], Awaitable[Response]]
    ) -> None:
        async def endpoint(request: Request) -> Response:
            if request.method == "OPTIONS":
                return preflight(find(), request, methods)
            return await serve(request)

        router.add_api_route(path, endpoint, methods=[*methods, "OPTIONS"], response_model=None)

    def serving(name: StreamName) -> Callable[[Request], Awaitable[Response]]:
        async def serve(request: Request) -> Response:
            terms = Terms("", None, (), None, KINDS[name].protocol)
            return await stream(find(), request, name, terms)

        return serve

    for name, kind in KINDS.items():
        add(f"/connection/{name}", kind.methods, serving(name))
    add(EMULATION, ("POST",), lambda request: say(find(), request))

    async def uni_websocket(websocket: WebSocket) -> None:
        first = said_in_url(websocket.scope, websocket.query_params.get(QUERY))
        await attach(find(), websocket, Terms("", None, (), None, CentrifugeUni.name, first))

    router.add_api_websocket_route("/connection/uni_websocket", uni_websocket)
    return router
