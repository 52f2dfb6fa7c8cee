"""gRPC itself: deadlines, cancelling, connections, metadata, pings. SCENES.md says what each scene must show."""

import contextlib

import grpc

from checks import CALL_SECONDS, equal, failure_of, ids_until_caught_up, kind, next_event, refused, wait_until
from gateway import PINGING
from line import GOAWAY, PING
from stage import Stage, ids

# Two fields that no message of the contract has: 1000, a number, and 1001, some bytes.
OF_A_LATER_CONTRACT = b"\xc0\x3e\x01\xca\x3e\x03abc"


def a_deadline_ends_the_call(stage: Stage):
    hub = stage.start_hub()
    with stage.client().stream(hub.address, timeout=0.3) as frames:
        refused(lambda: list(frames), grpc.StatusCode.DEADLINE_EXCEEDED)
        # The connection is still open: it is the stream that the hub frees.
        hub.wait_for_streams(0)


def a_cancelled_call_frees_the_hub(stage: Stage):
    hub = stage.start_hub()
    channel = stage.channel(stage.line(hub).address)
    with stage.client().stream_on(channel) as frames:
        equal(kind(next(frames)), "welcome")
        equal(hub.streams(), 1)
        frames.call.cancel()
        refused(lambda: list(frames), grpc.StatusCode.CANCELLED)
    hub.wait_for_streams(0)
    # A line takes one connection only, so this is the same one.
    stage.head(stage.contract.stubs.PublisherStub(channel))


def one_connection_carries_several_streams(stage: Stage):
    hub = stage.start_hub()
    channel = stage.channel(stage.line(hub).address)
    with contextlib.ExitStack() as open_streams:
        readers = [open_streams.enter_context(stage.client(name).stream_on(channel)) for name in "abc"]
        equal([kind(next(frames)) for frames in readers], ["welcome"] * 3)
        published = stage.publish(stage.contract.stubs.PublisherStub(channel), 50)
        for frames in readers:
            equal([next_event(frames).event.id for _ in published], ids(published))


def unknown_methods_are_unimplemented(stage: Stage):
    hub = stage.start_hub()
    channel = stage.channel(stage.line(hub).address)
    for path in ["/push.v1.Push/Nothing", "/push.v1.Publisher/Nothing", "/push.v1.Nothing/Publish", "/nothing.v9.Nothing/Do"]:
        refused(lambda: channel.unary_unary(path)(b"", timeout=CALL_SECONDS), grpc.StatusCode.UNIMPLEMENTED)
        refused(lambda: list(channel.unary_stream(path)(b"", timeout=CALL_SECONDS)), grpc.StatusCode.UNIMPLEMENTED)
    stage.head(stage.contract.stubs.PublisherStub(channel))


def unknown_fields_are_harmless(stage: Stage):
    hub = stage.start_hub()
    channel = stage.channel(hub.address)
    event = stage.event("later")
    event.MergeFromString(OF_A_LATER_CONTRACT)
    publish = stage.messages.PublishRequest(events=[event])
    publish.MergeFromString(OF_A_LATER_CONTRACT)
    result = stage.contract.stubs.PublisherStub(channel).Publish(publish, timeout=CALL_SECONDS).results[0]
    equal((result.id, result.code), ("later", 0))
    subscribe = stage.messages.GatewaySubscribeRequest(gateway_client_id="later", cursor="oldest", features=["from-the-future"])
    subscribe.MergeFromString(OF_A_LATER_CONTRACT)
    frames = stage.contract.stubs.PushStub(channel).SubscribePush(subscribe, timeout=CALL_SECONDS)
    equal(kind(next(frames)), "welcome")
    equal(ids_until_caught_up(frames), ["later"])
    frames.cancel()


def a_compressed_request_is_taken(stage: Stage):
    hub = stage.start_hub()
    publisher = stage.publisher(hub)
    request = stage.messages.PublishRequest(events=[stage.event("squeezed", data=b'"' + b"x" * 2000 + b'"')])

    def publish(compression):
        return publisher.Publish(request, timeout=CALL_SECONDS, compression=compression)

    # Compression is per message and needs one that gains by it.
    reader = stage.client(cursor="oldest", recipients=["user:42"] * 200)
    refused(lambda: publish(grpc.Compression.Deflate), grpc.StatusCode.UNIMPLEMENTED)
    with reader.stream(hub.address, compression=grpc.Compression.Deflate) as frames:
        refused(lambda: next(frames), grpc.StatusCode.UNIMPLEMENTED)
    publish(grpc.Compression.Gzip)
    with reader.stream(hub.address, compression=grpc.Compression.Gzip) as frames:
        equal(kind(next(frames)), "welcome")
        equal(ids_until_caught_up(frames), ["squeezed"])


def huge_metadata_is_refused(stage: Stage):
    hub = stage.start_hub()
    publisher = stage.publisher(hub)
    refusals = []
    with contextlib.ExitStack() as open_streams:

        def open_stream(channel, name, metadata_bytes):
            metadata = [("x-large", "a" * metadata_bytes)]
            return open_streams.enter_context(stage.client(name).stream_on(channel, metadata=metadata, timeout=5))

        shared = stage.channel(hub.address)
        for size, neighbours_channel in [(20 << 10, shared), (64 << 10, stage.channel(hub.address))]:
            neighbour = open_stream(neighbours_channel, "neighbour", 4 << 10)
            equal(kind(next(neighbour)), "welcome")
            error = failure_of(lambda: list(open_stream(shared, "huge", size)))
            assert error.code() != grpc.StatusCode.DEADLINE_EXCEEDED, "nobody refused it"
            refusals.append(f"{size >> 10} KiB: {error.code().name}")
            published = stage.publish(publisher, 1)
            equal(next_event(neighbour).event.id, published[0][0])
    return ", ".join(refusals)


def keepalive_pings_are_tolerated(stage: Stage):
    hub = stage.start_hub()
    line = stage.line(hub)
    with stage.client().stream(line.address, options=PINGING) as frames:
        equal(kind(next(frames)), "welcome")
        ids_until_caught_up(frames)
        before = line.up.counts[PING]
        wait_until(lambda: line.up.counts[PING] >= before + 3, "the peer has sent three more pings")
        published = stage.publish(stage.publisher(hub), 1)
        equal(next_event(frames).event.id, published[0][0])
        equal(line.down.counts[GOAWAY], 0)
    return f"{line.up.counts[PING]} pings"


SCENES = [
    a_deadline_ends_the_call,
    a_cancelled_call_frees_the_hub,
    one_connection_carries_several_streams,
    unknown_methods_are_unimplemented,
    unknown_fields_are_harmless,
    a_compressed_request_is_taken,
    huge_metadata_is_refused,
    keepalive_pings_are_tolerated,
]
