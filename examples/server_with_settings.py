"""The notification server, made in code: settings as arguments, and a route of one's own beside.

Shows: `create_app` with settings; what is not an argument comes from `LASTCALL_…` and the defaults.

    uvicorn examples.server_with_settings:app --workers 4
"""

from lastcall import ServerSettings, create_app

settings = ServerSettings(
    shutdown_timeout=60,
    shutdown_notice="Back in a minute.",
    heartbeat_interval=1,
    announcements=False,
)
app = create_app(settings)


@app.get("/about")
async def about() -> dict[str, float]:
    """Say how long a deploy waits for clients."""
    return {"seconds_to_leave": settings.shutdown_timeout}
