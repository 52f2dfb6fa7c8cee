"""PyPI `httpx-sse`, reconnecting as its README shows: with the last id, after what `retry` says."""

import time

import httpx
from httpx_sse import connect_sse

import telling


def read(way: str, edge: str):
    last_id, retry_seconds = "", 1.0
    with httpx.Client(timeout=httpx.Timeout(5, read=60)) as client:
        while True:
            headers = {"Last-Event-ID": last_id} if last_id else {}
            parameters = {"user": "42", "cursor": "oldest"}
            try:
                with connect_sse(client, "GET", f"{edge}/v1/stream", params=parameters, headers=headers) as source:
                    for event in source.iter_sse():
                        last_id = event.id or last_id
                        retry_seconds = event.retry / 1000 if event.retry is not None else retry_seconds
                        telling.tell(way, event.event, event.data)
            except httpx.HTTPError:
                pass
            time.sleep(retry_seconds)


telling.on_all_ways(read)
