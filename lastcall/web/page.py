"""The page: a chat, and channels with the official SDK. No one else's script may touch it."""

import hashlib
import json
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template
from typing import Annotated

from fastapi import APIRouter, Header, HTTPException, Response

from lastcall.channel_options import ChannelOptions
from lastcall.settings import Settings

MEDIA_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}

# Everything from this server, nothing inline, and no string ever parsed as HTML: what somebody
# writes in the chat can only become text.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)

HEADERS = {
    # Asked again each time, answered 304: a deploy never mixes two versions of the files for long.
    "Cache-Control": "no-cache",
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file as it goes to every browser."""

    body: bytes
    media_type: str
    etag: str

    @classmethod
    def of(cls, name: str, body: bytes) -> "StaticFile":
        """Typed by the end of *name*, tagged by what is in *body*."""
        media_type = MEDIA_TYPES[name.rpartition(".")[2]]
        return cls(body, media_type, f'"{_digest(body)}"')

    def response(self, if_none_match: str | None) -> Response:
        """The file, or 304 where the browser has it already."""
        headers = HEADERS | {"ETag": self.etag}
        # A proxy that compresses makes the tag weak (`W/"…"`); the text within stays ours.
        if if_none_match is not None and self.etag in if_none_match:
            return Response(status_code=304, headers=headers)
        return Response(self.body, media_type=self.media_type, headers=headers)


def _packaged(directory: str) -> dict[str, bytes]:
    found = (files(__package__) / directory).iterdir()
    return {file.name: file.read_bytes() for file in found if file.is_file()}


# Read at import, once: a request must not wait for a disk.
_SDK = _packaged("sdk")
_FILES = _packaged("static") | _SDK
SDK_VERSION: str = json.loads(_SDK["sdk.json"])["version"]
"""Of the npm package `centrifuge` whose browser build is part of the page; see `scripts/sdk`."""


def page_router(
    settings: Settings,
    *,
    websocket_path: str = "/ws",
    connection_path: str = "/connection/websocket",
) -> APIRouter:
    """Serve the page at `/` and its files under `/static/`.

    The page refers to everything relative to itself, so it works under any prefix, `root_path` or
    proxy; *websocket_path* and *connection_path* are counted from the same place (`/ws` beside a
    page under `/chat/` is `/chat/ws`).
    """
    router = APIRouter(include_in_schema=False)
    page = _page(settings, websocket_path, connection_path)
    static = {
        name: StaticFile.of(name, body)
        for name, body in _FILES.items()
        if name not in ("index.html", "sdk.json")
    }
    methods = ["GET", "HEAD"]

    @router.api_route("/", methods=methods)
    async def show_page(if_none_match: Annotated[str | None, Header()] = None) -> Response:
        return page.response(if_none_match)

    @router.api_route("/static/{name}", methods=methods)
    async def show_file(
        name: str, if_none_match: Annotated[str | None, Header()] = None
    ) -> Response:
        if name not in static:
            raise HTTPException(404)
        return static[name].response(if_none_match)

    return router


def _page(settings: Settings, websocket_path: str, connection_path: str) -> StaticFile:
    """The page with what its script must know of the settings, as escaped attributes.

    Its tag changes with each of its files and settings. The page knows it as its version, so that
    it can tell when the next server has another.
    """
    values = {
        "websocket_path": websocket_path.lstrip("/"),
        "heartbeat": settings.heartbeat,
        "heartbeat_interval": f"{settings.heartbeat_interval:g}",
        "shutdown_notice": settings.shutdown_notice,
        "shutdown_notice_interval": f"{settings.shutdown_notice_interval:g}",
        "max_message_size": str(settings.max_message_size),
        "connection_path": connection_path.lstrip("/"),
        "channel": _first_channel(settings),
        "sdk_version": SDK_VERSION,
    }
    values["version"] = _digest(repr((sorted(_FILES.items()), values)).encode())
    template = Template(_FILES["index.html"].decode())
    body = template.substitute({name: _attribute(value) for name, value in values.items()})
    return StaticFile(body.encode(), MEDIA_TYPES["html"], f'"{values["version"]}"')


def _first_channel(settings: Settings) -> str:
    """The channel that the page begins with: one that shows most, of those that are configured."""

    def worth(options: ChannelOptions) -> tuple[bool, bool]:
        return options.history_size > 0, options.presence

    name, _ = max(
        [("", settings.channels), *settings.namespaces.items()], key=lambda each: worth(each[1])
    )
    return f"{name}:lobby" if name else "lobby"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:20]


def _attribute(value: str) -> str:
    # A browser reads a bare carriage return as a line feed; the script compares whole texts.
    return escape(value).replace("\r", "&#13;")
