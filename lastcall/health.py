"""What load balancers and orchestrators ask: is this process alive, may it have new clients."""

from collections.abc import Callable

from fastapi import APIRouter
from fastapi.responses import JSONResponse

type NotReady = Callable[[], str | None]
"""Why no new clients should come, in a few words; None when they may."""


def health_router(not_ready: NotReady) -> APIRouter:
    """`/health/live` and `/health/ready`; neither waits for anything."""
    router = APIRouter(prefix="/health", tags=["health"])

    @router.get("/live")
    async def live() -> dict[str, str]:
        """The event loop answers: there is no reason to restart this process."""
        return {"status": "live"}

    @router.get(
        "/ready",
        responses={503: {"description": "No new clients, please.", "model": dict[str, str]}},
        response_model=dict[str, str],
    )
    async def ready() -> JSONResponse:
        """New clients are welcome here (200), or not (503), and why not."""
        reason = not_ready()
        if reason is None:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "not ready", "reason": reason}, status_code=503)

    return router
