"""A gateway of the old kind: it only knows "send back the last non-empty cursor".

Used by the scenes. Nothing here checks anything.
"""

import contextlib

import grpc

from checks import CALL_SECONDS
from contract import Contract

# A connection of its own for each channel, and neither a proxy nor retries behind the scene's back.
OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0), ("grpc.enable_http_proxy", 0)]

# HTTP/2 pings every second, also while nothing is sent; one that is not answered within a second ends the connection. The last
# line is needed, too: grpcio measures bandwidth with pings of its own, and while one of them waits no keepalive ping is sent.
PINGING = [
    ("grpc.keepalive_time_ms", 1000),
    ("grpc.keepalive_timeout_ms", 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.ping_timeout_ms", 1000),
]

# No more than 64 KiB ahead of the reader: grpcio otherwise widens the window by itself and buffers megabytes.
NARROW = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65535)]


class OldClient:
    """Remembers one cursor. Each stream of it has a connection of its own unless a channel is given."""

    def __init__(self, contract: Contract, gateway_client_id: str, cursor: str = "", **fields):
        self.contract = contract
        self.gateway_client_id = gateway_client_id
        self.cursor = cursor
        self.fields = fields

    @contextlib.contextmanager
    def stream(self, address: str, options=(), **call_options):
        """Subscribes over a connection of its own and yields the frames; leaving the block cuts the stream."""
        with grpc.insecure_channel(address, options=[*OWN_CONNECTION, *options]) as channel:
            with self.stream_on(channel, **call_options) as frames:
                yield frames

    @contextlib.contextmanager
    def stream_on(self, channel: grpc.Channel, **call_options):
        """Subscribes over this channel and yields the frames; leaving the block cancels the call."""
        request = self.contract.messages.GatewaySubscribeRequest(
            gateway_client_id=self.gateway_client_id, cursor=self.cursor, **self.fields
        )
        call_options.setdefault("timeout", CALL_SECONDS)
        frames = Frames(self, self.contract.stubs.PushStub(channel).SubscribePush(request, **call_options))
        try:
            yield frames
        finally:
            frames.call.cancel()


class Frames:
    """The frames of one stream; the client remembers the cursor of each."""

    def __init__(self, client: OldClient, call):
        self.client = client
        self.call = call

    def __iter__(self):
        return self

    def __next__(self):
        frame = next(self.call)
        if frame.cursor:
            self.client.cursor = frame.cursor
        return frame
