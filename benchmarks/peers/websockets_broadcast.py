"""`websockets` with its `broadcast`: a set of connections, one frame for all."""

import asyncio
import sys

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

connections: set[ServerConnection] = set()


async def chat(connection: ServerConnection) -> None:
    """Pass on what the client sends."""
    connections.add(connection)
    try:
        async for message in connection:
            broadcast(connections, message)
    finally:
        connections.discard(connection)


async def main(port: int) -> None:
    """Serve until killed. Without compression: the load generator offers none either."""
    async with serve(chat, "127.0.0.1", port, compression=None):
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
