"""An application whose response is never over, in a drain."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from lastcall import Lastcall

lastcall = Lastcall()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Say that the end came in order."""
    async with lastcall.run(app):
        yield
    print("put away", flush=True)  # noqa: T201  (the test reads the log)


app = FastAPI(lifespan=lifespan)
app.include_router(lastcall.router)


@app.get("/unknown")
async def unknown() -> StreamingResponse:
    """One that takes no part in the drain."""

    async def blocks() -> AsyncIterator[bytes]:
        while True:
            yield b"."
            await anyio.sleep(0.01)

    return StreamingResponse(blocks())


@app.get("/endless")
async def endless(request: Request) -> StreamingResponse:
    """More than anybody reads."""

    async def blocks() -> AsyncIterator[bytes]:
        async with lastcall.draining(request):
            while True:
                yield bytes(65_536)
                await anyio.sleep(0.001)

    return StreamingResponse(blocks())
