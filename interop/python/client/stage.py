"""What one scene with our own client is played on: scripted hubs, lines, ports that do nothing good, and `galaxy-push tail`.

Made by run.py for each scene, and closed when the scene is over.
"""

import contextlib
import pathlib
import socket
import threading
import time

from checks import wait_until
from client.frames import Frames
from client.hub import ScriptedHub
from contract import Contract
from line import Line
from processes import Tail


class ClientStage:
    def __init__(self, contract: Contract, binary: pathlib.Path, log: pathlib.Path):
        self.contract = contract
        self.frames = Frames(contract.messages)
        self.binary = binary
        self.log = log
        self.open = contextlib.ExitStack()

    def start_hub(self, *acts, **server_options) -> ScriptedHub:
        hub = ScriptedHub(self.contract, acts, **server_options)
        self.open.callback(hub.close)
        return hub

    def line(self, hub: ScriptedHub, **options) -> Line:
        line = Line(hub.address, **options)
        self.open.callback(line.close)
        return line

    def port(self, hang_up: bool) -> "Port":
        port = Port(hang_up)
        self.open.callback(port.close)
        return port

    def tail(self, *addresses: str, arguments=()) -> Tail:
        tail = Tail(self.binary, addresses, list(arguments), self.log)
        self.open.callback(tail.close)
        return tail

    def wait_for_calls(self, hub: ScriptedHub, count: int, seconds: float = 10):
        return wait_until(lambda: len(hub.calls) >= count, f"the hub was asked for {count} streams", seconds)

    def close(self):
        self.open.close()


class Port:
    """Takes connections and says nothing on them; or closes each as soon as it is made."""

    def __init__(self, hang_up: bool):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.hang_up = hang_up
        self.taken = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = self.listener.accept()
                self.taken.append(connection)
                if self.hang_up:
                    connection.close()

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        for each in [self.listener, *self.taken]:
            each.close()


def stays(condition, what: str, seconds: float):
    """The condition must hold all this time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert condition(), f"it does not stay so that {what}"
        time.sleep(0.01)
