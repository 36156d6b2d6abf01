# ruff: noqa: T201  (an example shows what it does)
"""A Python program hears a channel with the official SDK: a backend, a bot, a test.

Shows: `centrifuge-python` as a client of Lastcall. It comes back by itself, and gets what it
missed. The server is that of `examples/news_in_a_browser.py`; each line is for a terminal.

    uvicorn examples.news_in_a_browser:app --workers 2
    python -m examples.news_in_python ws://127.0.0.1:8000/connection/websocket
    curl 127.0.0.1:8000/news --json '"It rains."'
"""

import asyncio
import sys

from centrifuge import (
    Client,
    PublicationContext,
    SubscribedContext,
    SubscriptionEventHandler,
)


class Reader(SubscriptionEventHandler):  # type: ignore[misc]  # the SDK says nothing of its types
    """What to do with the news."""

    async def on_subscribed(self, ctx: SubscribedContext) -> None:
        """Say whether something is missing."""
        print("nothing missed" if ctx.recovered else "live", flush=True)

    async def on_publication(self, ctx: PublicationContext) -> None:
        """Read it out."""
        print(ctx.pub.offset, ctx.pub.data, flush=True)


async def read(url: str) -> None:
    """Read until somebody stops us."""
    client = Client(url)
    news = client.new_subscription("news:all", Reader())
    await client.connect()
    await news.subscribe()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(read(sys.argv[1]))
