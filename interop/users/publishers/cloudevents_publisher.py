"""PyPI `cloudevents`: publishes the events of its second argument (a JSON array) at its first, structured, binary and as a batch.

The SDK has no sender of batches; one is a JSON array of its structured events. Prints the results as JSON lines.
"""

import datetime
import json
import sys

import httpx
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent


def made(event: dict) -> CloudEvent:
    attributes = {key: value for key, value in event.items() if key != "data"}
    attributes["time"] = datetime.datetime.fromisoformat(attributes["time"])
    return CloudEvent(attributes=attributes, data=event["data"])


def main(hub: str, events: list):
    structured, binary, *batch = map(made, events)
    bodies = b",".join(to_structured_event(event).body for event in batch)
    messages = [(message.headers, message.body) for message in (to_structured_event(structured), to_binary_event(binary))]
    messages.append(({"content-type": "application/cloudevents-batch+json"}, b"[" + bodies + b"]"))
    for headers, body in messages:
        answer = httpx.post(f"{hub}/v1/events", headers=headers, content=body).json()
        for result in answer.get("results", [answer]):
            print(json.dumps(result), flush=True)


main(sys.argv[1], json.loads(sys.argv[2]))
