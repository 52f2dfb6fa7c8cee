"""What one scene with a real hub is played on: its own hubs, lines, channels and publisher.

Made by run.py for each scene, and closed when the scene is over.
"""

import contextlib
import pathlib

import grpc

from checks import CALL_SECONDS, equal
from contract import Contract
from gateway import OWN_CONNECTION, OldClient
from line import Line
from processes import ANY_PORT, Hub


class Stage:
    def __init__(self, contract: Contract, binary: pathlib.Path, log: pathlib.Path):
        self.contract = contract
        self.messages = contract.messages
        self.binary = binary
        self.log = log
        self.published = 0
        self.open = contextlib.ExitStack()

    def start_hub(self, *arguments: str, address: str = ANY_PORT) -> Hub:
        hub = Hub(self.binary, list(arguments), self.log, address)
        self.open.callback(hub.close)
        return hub

    def line(self, hub: Hub, **options) -> Line:
        line = Line(hub.address, **options)
        self.open.callback(line.close)
        return line

    def channel(self, address: str, *options) -> grpc.Channel:
        return self.open.enter_context(grpc.insecure_channel(address, options=[*OWN_CONNECTION, *options]))

    def publisher(self, hub: Hub):
        return self.contract.stubs.PublisherStub(self.channel(hub.address))

    def client(self, gateway_client_id: str = "old-gateway", cursor: str = "", **fields) -> OldClient:
        return OldClient(self.contract, gateway_client_id, cursor, **fields)

    def event(self, id: str, **fields):
        fields = {"to": ["user:42"], "type": "turn.ready", "source": "interop", "data": b"{}", **fields}
        fields.setdefault("data_content_type", "application/json")
        return self.messages.Event(id=id, **fields)

    def publish(self, publisher, count: int, **fields) -> list:
        """Publishes the next so many events as one batch and returns their ids and cursors, in order."""
        ids = [f"e{self.published + number}" for number in range(count)]
        self.published += count
        results = self.send(publisher, [self.event(id, **fields) for id in ids])
        equal([result.id for result in results], ids)
        equal([result.code for result in results], [0] * count)
        return [(result.id, result.cursor) for result in results]

    def send(self, publisher, events: list):
        """Publishes these events and returns the results."""
        return publisher.Publish(self.messages.PublishRequest(events=events), timeout=CALL_SECONDS).results

    def head(self, publisher) -> str:
        return publisher.Head(self.messages.HeadRequest(), timeout=CALL_SECONDS).cursor

    def close(self):
        self.open.close()


def ids(published: list) -> list:
    return [id for id, _ in published]


def data(size: int) -> dict:
    """The fields of an event with so many bytes of data."""
    return {"data": b"x" * size, "data_content_type": "application/octet-stream"}
