"""What the scenes are played with: the contract, a running hub, an old client and a line that can be cut.

Used by scenes.py and resume_test.py. Nothing here checks anything.
"""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading

import grpc
import grpc_tools.protoc
from google.protobuf import any_pb2  # noqa: F401  (so that details of this type can be unpacked)
from google.rpc import error_details_pb2, status_pb2

# No call may hang the scenes: everything here takes milliseconds.
CALL_SECONDS = 20
READY_SECONDS = 20


class Contract:
    """The messages and stubs generated from the proto, now, into a folder of their own."""

    def __init__(self, proto: pathlib.Path, work: pathlib.Path):
        generated = work / "generated"
        generated.mkdir(parents=True, exist_ok=True)
        well_known = pathlib.Path(grpc_tools.__file__).parent / "_proto"
        arguments = ["protoc", f"-I{proto}", f"-I{well_known}", f"--python_out={generated}", f"--grpc_python_out={generated}"]
        if grpc_tools.protoc.main([*arguments, str(proto / "push/v1/push.proto")]) != 0:
            raise RuntimeError("protoc refused the contract")
        sys.path.insert(0, str(generated))
        from push.v1 import push_pb2, push_pb2_grpc

        self.messages = push_pb2
        self.stubs = push_pb2_grpc


class Hub:
    """A `galaxy-push hub` on free ports of the loopback. Every scene has its own."""

    def __init__(self, binary: pathlib.Path, arguments: list, log: pathlib.Path):
        any_port = "127.0.0.1:0"
        command = [binary, "hub", "--hub-addr", any_port, "--admin-addr", any_port, "--ready-json", *arguments]
        # What the caller's shell has set for its own hub is not meant for this one.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GALAXY_PUSH_")}
        with open(log, "ab") as log_file:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log_file, stdin=subprocess.DEVNULL, env=environment
            )
        # A hub that never gets ready is ended, so that reading its first line ends too.
        watchdog = threading.Timer(READY_SECONDS, self.process.kill)
        watchdog.start()
        first_line = self.process.stdout.readline()
        watchdog.cancel()
        if not first_line:
            raise RuntimeError(f"the hub did not get ready; see {log}")
        self.urls = json.loads(first_line)
        self.address = self.urls["hub"].removeprefix("http://").rstrip("/")

    def kill(self):
        """Ends the hub as a crash would."""
        self.process.kill()
        self.process.wait()

    def close(self):
        self.kill()
        self.process.stdout.close()


class OldClient:
    """A gateway that only knows "send back the last non-empty cursor"."""

    def __init__(self, contract: Contract, gateway_client_id: str, cursor: str = ""):
        self.contract = contract
        self.gateway_client_id = gateway_client_id
        self.cursor = cursor

    @contextlib.contextmanager
    def stream(self, address: str):
        """Subscribes over a connection of its own and yields the frames; leaving the block cuts the stream."""
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        with grpc.insecure_channel(address, options=options) as channel:
            request = self.contract.messages.GatewaySubscribeRequest(
                gateway_client_id=self.gateway_client_id, cursor=self.cursor
            )
            call = self.contract.stubs.PushStub(channel).SubscribePush(request, timeout=CALL_SECONDS)
            try:
                yield self._remembering(call)
            finally:
                call.cancel()

    def _remembering(self, call):
        for frame in call:
            if frame.cursor:
                self.cursor = frame.cursor
            yield frame


class Line:
    """A relay to the hub that is cut after so many bytes from it, in the middle of whatever they are."""

    def __init__(self, address: str, cut_after: int):
        host, port = address.rsplit(":", 1)
        self.hub = (host, int(port))
        self.bytes_left = cut_after
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self.listener.close()

    def _accept(self):
        try:
            client, _ = self.listener.accept()
        except OSError:  # closed before anybody came
            return
        # One connection only: dialling again must not resurrect a line that was cut.
        self.listener.close()
        hub = socket.create_connection(self.hub)
        threading.Thread(target=self._up, args=(client, hub), daemon=True).start()
        self._down(hub, client)

    def _up(self, client, hub):
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                hub.sendall(data)

    def _down(self, hub, client):
        with contextlib.suppress(OSError):
            while self.bytes_left > 0 and (data := hub.recv(min(65536, self.bytes_left))):
                client.sendall(data)
                self.bytes_left -= len(data)
        for end in (client, hub):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def error_info(error: grpc.RpcError):
    """The google.rpc.ErrorInfo of a failed call, or None."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    return info
    return None
