"""The backend of a stand-alone server, as a user may have written it: it says who may do what."""

import asyncio
import itertools
import time
from typing import Any

from fastapi import FastAPI, Request, Response

app = FastAPI()
asked: list[dict[str, Any]] = []
under_way = 0
most_under_way = 0
NOT_LET_IN: dict[str | None, Any] = {
    None: {"result": None},
    "strange": {"error": {"code": 441, "message": "who are you?", "temporary": False}},
    "banned": {"disconnect": {"code": 4501, "reason": "banned"}},
    "odd": {"error": {"code": 100}},
    "broken": Response(status_code=502),
    "endless": Response(b" " * 2_000_000, media_type="application/json"),
}
refreshed = itertools.count(1)


@app.middleware("http")
async def note(request: Request, call_next: Any) -> Response:
    """Remember what was asked, with which headers."""
    if request.method == "POST":
        asked.append(
            {
                "path": request.url.path,
                "headers": dict(request.headers),
                "body": await request.json(),
            }
        )
    response: Response = await call_next(request)
    return response


@app.get("/asked")
def all_asked() -> dict[str, Any]:
    """What was asked so far."""
    return {"asked": asked, "most": most_under_way}


@app.post("/connect")
async def connect(question: dict[str, Any]) -> Any:
    """Let clients in by the name that they say."""
    data = question.get("data")
    if data == "slow":
        await asyncio.sleep(30)
    return NOT_LET_IN[data] if data in NOT_LET_IN else welcome(data)


def welcome(data: str | None) -> Any:
    """What a client of this name gets."""
    return {
        "result": {
            "user": data,
            "info": {"name": data},
            "data": {"hello": data},
            "expire_at": int(time.time()) + 2 if data == "brief" else 0,
            "channels": ["room:lobby"],
            "subs": {"room:own": {"data": {"first": True}}},
            "meta": {"tenant": 7},
        }
    }


@app.post("/refresh")
def refresh(question: dict[str, Any]) -> Any:
    """Let everybody stay once more, and then no more."""
    assert question["user"]
    if next(refreshed) > 1:
        return {"result": {"expired": True}}
    return {"result": {"expire_at": int(time.time()) + 2}}


@app.post("/subscribe")
async def subscribe(question: dict[str, Any]) -> Any:
    """Let everybody into rooms that are open."""
    global under_way, most_under_way  # noqa: PLW0603  (one process, one test)
    if question["channel"] == "room:closed":
        return {"error": {"code": 403, "message": "closed"}}
    if question["channel"].startswith("room:slow"):
        under_way += 1
        most_under_way = max(most_under_way, under_way)
        await asyncio.sleep(0.1)
        under_way -= 1
    return {"result": {"info": {"seat": 4}, "data": question.get("data")}}


@app.post("/publish")
def publish(question: dict[str, Any]) -> Any:
    """Say everything louder."""
    return {"result": {"data": question["data"].upper(), "tags": {"by": question["user"]}}}


@app.post("/rpc")
def rpc(question: dict[str, Any]) -> Any:
    """Answer calls."""
    if question["method"] == "nothing":
        return {}
    return {"result": {"data": {question["method"]: question["data"]}}}
