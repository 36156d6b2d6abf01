"""The drain for the application's own WebSocket endpoints, event streams and long responses."""

import asyncio
from types import TracebackType
from typing import Self

from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket, WebSocketState

from lastcall.connection_manager import ConnectionManager
from lastcall.errors import Disconnect
from lastcall.transport.base import DRAINING


class Draining:
    """One request of the application's own that a leaving worker waits for.

    Entered, it counts as a client: the worker does not end before it. When the worker leaves,
    `leaving` is set, a WebSocket is sent the shutdown notices as text, and at the drain's end the
    block is left: a WebSocket is closed with 1012 and a reason, anything else simply ends there.
    """

    def __init__(self, connections: ConnectionManager, request: HTTPConnection) -> None:
        """Take part with *request*."""
        self._connections = connections
        self._websocket = request if isinstance(request, WebSocket) else None
        # asyncio's own scope, not anyio's: a generator that streams a response may suspend in it.
        self._timeout = asyncio.timeout(None)
        self._notices: set[asyncio.Task[None]] = set()
        self._ended_by: Disconnect | None = None
        self._was_cut = False
        self.leaving = asyncio.Event()
        """Set when the worker begins to leave: a good moment to come to an end."""

    def notify(self, text: str) -> None:
        """Send *text* if this is an open WebSocket; a client that does not read misses it."""
        self.leaving.set()
        if self._websocket is not None and not self._notices:
            notice = asyncio.create_task(self._send(self._websocket, text))
            self._notices.add(notice)
            notice.add_done_callback(self._notices.discard)

    def disconnect(self, why: Disconnect) -> None:
        """Leave the block, in which the application waits or works."""
        self.leaving.set()
        self._ended_by = why
        self._timeout.reschedule(asyncio.get_running_loop().time())

    def abort(self) -> None:
        """Leave it without a farewell."""
        self._was_cut = True
        if self._ended_by is None:
            self._timeout.reschedule(asyncio.get_running_loop().time())

    async def __aenter__(self) -> Self:
        """Count in."""
        await self._timeout.__aenter__()
        if self._websocket is not None:
            self._websocket.scope.setdefault("extensions", {})[DRAINING] = {}
        self._connections.welcome(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        """Say goodbye, count out; the cancellation that ended the block stops here."""
        try:
            for notice in self._notices:
                notice.cancel()
            was_ended = await self._leave_timeout(kind, error, traceback)
            if self._ended_by is not None and not self._was_cut and self._websocket is not None:
                await self._close(self._websocket, self._ended_by)
            return was_ended
        finally:
            self._connections.goodbye(self)

    async def _leave_timeout(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        try:
            await self._timeout.__aexit__(kind, error, traceback)
        except TimeoutError:
            return True
        return False

    @staticmethod
    async def _send(websocket: WebSocket, text: str) -> None:
        if websocket.application_state is WebSocketState.CONNECTED:
            try:
                await websocket.send_text(text)
            except (RuntimeError, OSError):
                return  # gone; its endpoint hears of that by itself

    @staticmethod
    async def _close(websocket: WebSocket, why: Disconnect) -> None:
        if websocket.application_state is WebSocketState.CONNECTED:
            try:
                await websocket.close(why.code, why.reason)
            except (RuntimeError, OSError):
                return
