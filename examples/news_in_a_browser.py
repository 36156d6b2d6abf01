"""A browser hears a channel with the official SDK, and misses nothing over a restart.

Shows: a channel that remembers; clients without a name, who may hear it and nothing else; a page of
the application's own. The SDK is the one that comes with Lastcall; `npm install centrifuge` is the
same. Restart the server, with two workers or more: what was published meanwhile comes afterwards.

    uvicorn examples.news_in_a_browser:app --workers 2
    open http://127.0.0.1:8000/
    curl 127.0.0.1:8000/news --json '"It rains."'
"""

from typing import Annotated

from fastapi import Body, FastAPI
from fastapi.responses import HTMLResponse

from lastcall import Lastcall, page_router

NEWS = {
    "history_size": 100,
    "force_recovery": True,
    "allow_subscribe_for_client": True,
    "allow_subscribe_for_anonymous": True,
}

lastcall = Lastcall(allow_anonymous=True, namespaces={"news": NEWS})
app = FastAPI(lifespan=lastcall.lifespan)
app.include_router(lastcall.router)
app.include_router(page_router(lastcall.settings), prefix="/lastcall")

PAGE = """\
<!doctype html>
<title>News</title>
<p id="state"></p>
<ul id="news"></ul>
<script src="lastcall/static/centrifuge.js"></script>
<script>
  const url = `${location.origin.replace("http", "ws")}/connection/websocket`;
  const centrifuge = new Centrifuge(url);
  const news = centrifuge.newSubscription("news:all");
  const say = (id, text) => (document.getElementById(id).textContent = text);
  news.on("subscribing", () => say("state", "connecting"));
  news.on("subscribed", ({ recovered }) => say("state", recovered ? "nothing missed" : "live"));
  news.on("publication", ({ data }) => {
    const item = document.createElement("li");
    item.textContent = data;
    document.getElementById("news").append(item);
  });
  news.subscribe();
  centrifuge.connect();
</script>
"""


@app.get("/", response_class=HTMLResponse)
async def page() -> str:
    """Show the news."""
    return PAGE


@app.post("/news")
async def tell(text: Annotated[str, Body()]) -> dict[str, int]:
    """Tell everybody."""
    position = await lastcall.publish("news:all", text)
    return {"offset": position.offset}
