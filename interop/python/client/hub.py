"""A hub written in grpcio that does what a scene tells it to, and notes who asked for what and when.

Made by client/stage.py. It keeps no log: each act decides what its stream carries.
"""

import concurrent.futures
import threading
import time

import grpc

SUBSCRIBE = "SubscribePush"


class ScriptedHub:
    """Plays one act for each subscription, in order; the last one again for all that follow."""

    def __init__(self, contract, acts, address: str = "127.0.0.1:0", **server_options):
        self.contract = contract
        self.acts = acts
        self.calls = []
        self.ended = threading.Event()
        self.lock = threading.Lock()
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(32), **server_options)
        handler = grpc.unary_stream_rpc_method_handler(
            self._subscribe, contract.messages.GatewaySubscribeRequest.FromString, lambda frame: frame
        )
        self.server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("push.v1.Push", {SUBSCRIBE: handler})])
        port = self.server.add_insecure_port(address)
        self.address = "127.0.0.1:%d" % port
        self.server.start()

    def _subscribe(self, request, context):
        call = Call(request, context, self.ended)
        with self.lock:
            act = self.acts[min(len(self.calls), len(self.acts) - 1)]
            self.calls.append(call)
        for frame in act(call):
            yield frame if isinstance(frame, bytes) else frame.SerializeToString()

    def gap_between(self, earlier: int, later: int) -> float:
        """The seconds from the end of one call to the beginning of another."""
        return self.calls[later].began - self.calls[earlier].last_act

    def close(self):
        self.ended.set()
        self.server.stop(None).wait()


class Call:
    """One subscription."""

    def __init__(self, request, context, ended: threading.Event):
        self.request = request
        self.context = context
        self.ended = ended
        self.began = self.last_act = time.monotonic()
        self.gone = threading.Event()
        context.add_callback(self.gone.set)

    def hold(self):
        """Keeps the stream open and silent until the client leaves it or the hub ends."""
        while not self.gone.wait(0.05) and not self.ended.is_set():
            pass

    def end(self, code: grpc.StatusCode, message: str = "as the scene says", details: bytes = b""):
        """Ends the stream with this status and, if any are given, these encoded details."""
        if details:
            self.context.set_trailing_metadata([("grpc-status-details-bin", details)])
        self.last_act = time.monotonic()
        self.context.abort(code, message)
