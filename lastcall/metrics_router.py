"""What Prometheus asks: `GET /metrics`, answered by any worker for all of this host."""

from collections.abc import Callable

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

from lastcall.metrics import CONTENT_TYPE

type Answer = Callable[[], str | None]
"""The metrics as text; None while nothing runs."""


def metrics_router(answer: Answer) -> APIRouter:
    """`/metrics`; it waits for nobody."""
    router = APIRouter(tags=["metrics"])

    @router.get(
        "/metrics",
        response_class=PlainTextResponse,
        responses={503: {"description": "Not started.", "content": {"text/plain": {}}}},
    )
    async def metrics() -> PlainTextResponse:
        """What all workers of this host count, in the text format of Prometheus."""
        text = answer()
        if text is None:
            return PlainTextResponse("not started\n", status_code=503)
        return PlainTextResponse(text, media_type=CONTENT_TYPE)

    return router
