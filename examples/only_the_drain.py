"""Only the leaving: long responses of the application's own, each with its own way to end.

Shows: `lastcall.draining` around a receive loop, an event stream and a download. A stopping worker
waits for all three, sends WebSockets its notices, and ends what is left when its time is over.

    uvicorn examples.only_the_drain:app
    python -m websockets ws://127.0.0.1:8000/echo
    curl -N 127.0.0.1:8000/events        # in a second terminal
    curl -N 127.0.0.1:8000/export        # in a third; then stop the server
"""

from collections.abc import AsyncIterator

import anyio
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import StreamingResponse

from lastcall import Lastcall

lastcall = Lastcall()
app = FastAPI(lifespan=lastcall.lifespan)
app.include_router(lastcall.router)


@app.websocket("/echo")
async def echo(websocket: WebSocket) -> None:
    """A receive loop as it was; at the end of the drain it is left, and closed with 1012."""
    await websocket.accept()
    async with lastcall.draining(websocket):
        async for text in websocket.iter_text():
            await websocket.send_text(text)


@app.get("/events")
async def events(request: Request) -> StreamingResponse:
    """An event stream; it ends by itself when the worker leaves: EventSource comes back."""

    async def stream() -> AsyncIterator[str]:
        async with lastcall.draining(request) as drain:
            while not drain.leaving.is_set():
                yield "data: all is well\n\n"
                with anyio.move_on_after(1):
                    await drain.leaving.wait()
            yield "event: goodbye\ndata: the server is leaving\n\n"

    return StreamingResponse(stream(), media_type="text/event-stream")


@app.get("/export")
async def export(request: Request) -> StreamingResponse:
    """A long download; the leaving worker lets it finish."""

    async def lines() -> AsyncIterator[str]:
        async with lastcall.draining(request):
            for number in range(30):
                yield f"line {number}\n"
                await anyio.sleep(0.1)

    return StreamingResponse(lines(), media_type="text/plain")
