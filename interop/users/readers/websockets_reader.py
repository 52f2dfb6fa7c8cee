"""PyPI `websockets`, with its own reconnecting: `async for` over a connection."""

import asyncio
import json
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

import telling


async def read(way: str, edge: str):
    cursor = "oldest"
    async for link in connect(edge.replace("http", "ws", 1) + "/v1/ws", subprotocols=["push.v1.json"]):
        try:
            await link.send(json.dumps({"connect": {"user": "42", "cursor": cursor}}))
            async for message in link:
                telling.tell(way, "", message)
                cursor = json.loads(message).get("cursor") or cursor
        except ConnectionClosed:
            continue


async def main():
    await asyncio.gather(*(read(*argument.split("=", 1)) for argument in sys.argv[1:]))


asyncio.run(main())
