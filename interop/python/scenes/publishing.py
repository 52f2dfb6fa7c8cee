"""What a publisher may send and what it is answered. SCENES.md says what each scene must show."""

import grpc

from checks import CALL_SECONDS, equal, failure_of, ids_until_caught_up, kind, next_event, refused, sequence
from stage import Stage, data, ids

# The largest data of an event, unless the hub is told otherwise.
DATA_MAX = 64 << 10


def data_of_every_size_arrives(stage: Stage):
    hub = stage.start_hub()
    publisher = stage.publisher(hub)
    sizes = [0, 1, DATA_MAX]
    with stage.client().stream(hub.address) as frames:
        equal(kind(next(frames)), "welcome")
        for size in sizes:
            stage.publish(publisher, 1, **data(size))
        for size in sizes:
            equal(next_event(frames).event.data, b"x" * size)
    with stage.client(cursor="oldest").stream(hub.address) as frames:
        equal([len(next_event(frames).event.data) for _ in sizes], sizes)


def too_much_data_is_refused(stage: Stage):
    hub = stage.start_hub()
    publisher = stage.publisher(hub)
    head = stage.publish(publisher, 1)[0][1]
    events = [stage.event("fits"), stage.event("too-large", **data(DATA_MAX + 1))]
    refused(lambda: stage.send(publisher, events), grpc.StatusCode.INVALID_ARGUMENT, "EVENT_TOO_LARGE")
    equal(stage.head(publisher), head)


def a_bad_event_is_refused_before_append(stage: Stage):
    hub = stage.start_hub()
    publisher = stage.publisher(hub)
    head = stage.publish(publisher, 1)[0][1]
    for reason, fields in [
        ("RECIPIENT_INVALID", {"to": []}),
        ("RECIPIENT_INVALID", {"to": ["planet:earth"]}),
        ("RECIPIENT_INVALID", {"to": ["user:a b"]}),
        ("RECIPIENT_INVALID", {"to": [f"user:{number}" for number in range(257)]}),
        ("REQUEST_INVALID", {"id": ""}),
        ("REQUEST_INVALID", {"source": ""}),
        ("REQUEST_INVALID", {"type": ""}),
        ("REQUEST_INVALID", {"type": "push.gap"}),
        ("REQUEST_INVALID", {"data": b"{not json"}),
    ]:
        events = [stage.event("good"), stage.event(**{"id": "bad", **fields})]
        refused(lambda: stage.send(publisher, events), grpc.StatusCode.INVALID_ARGUMENT, reason)
    equal(stage.head(publisher), head)


def a_request_beyond_4_mib_is_refused(stage: Stage):
    hub = stage.start_hub()
    publisher = stage.contract.stubs.PublisherStub(stage.channel(stage.line(hub).address))
    head = stage.publish(publisher, 1)[0][1]
    events = [stage.event(f"large-{number}", **data(DATA_MAX)) for number in range(80)]
    error = failure_of(lambda: stage.send(publisher, events))
    equal(stage.head(publisher), head)
    stage.publish(publisher, 60, **data(DATA_MAX))
    return f"refused as {error.code().name}"


def a_batch_keeps_its_order(stage: Stage):
    hub = stage.start_hub()
    published = stage.publish(stage.publisher(hub), 1000)
    first = sequence(published[0][1])
    equal([sequence(cursor) for _, cursor in published], list(range(first, first + 1000)))
    with stage.client(cursor="oldest").stream(hub.address) as frames:
        equal(ids_until_caught_up(frames), ids(published))


def a_batch_of_1001_is_refused(stage: Stage):
    hub = stage.start_hub()
    publisher = stage.publisher(hub)
    head = stage.head(publisher)
    events = [stage.event(f"many-{number}") for number in range(1001)]
    refused(lambda: stage.send(publisher, events), grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_INVALID")
    equal(stage.head(publisher), head)


def publishing_again_is_idempotent(stage: Stage):
    hub = stage.start_hub()
    publisher = stage.publisher(hub)
    first, other, again = (
        stage.send(publisher, [stage.event("once", source=source)])[0] for source in ["here", "elsewhere", "here"]
    )
    equal((first.duplicate, other.duplicate, again.duplicate), (False, False, True))
    equal((again.cursor, other.cursor != first.cursor), (first.cursor, True))
    with stage.client(cursor="oldest").stream(hub.address) as frames:
        equal(ids_until_caught_up(frames), ["once", "once"])


def an_ephemeral_event_has_no_cursor(stage: Stage):
    hub = stage.start_hub()
    publisher = stage.publisher(hub)
    client = stage.client()
    with client.stream(hub.address) as frames:
        ids_until_caught_up(frames)
        kept = stage.publish(publisher, 1)
        result = stage.send(publisher, [stage.event("now", ephemeral=True)])[0]
        equal((result.cursor, result.code), ("", 0))
        equal([next_event(frames).event.id for _ in range(2)], [kept[0][0], "now"])
        equal(client.cursor, kept[0][1])
    with stage.client(cursor="oldest").stream(hub.address) as frames:
        equal(ids_until_caught_up(frames), ids(kept))


def other_namespaces_are_not_found(stage: Stage):
    hub = stage.start_hub()
    publisher = stage.publisher(hub)
    request = stage.messages.PublishRequest(events=[stage.event("a")], namespace="elsewhere")
    refused(lambda: publisher.Publish(request, timeout=CALL_SECONDS), grpc.StatusCode.NOT_FOUND)
    request = stage.messages.HeadRequest(namespace="elsewhere")
    refused(lambda: publisher.Head(request, timeout=CALL_SECONDS), grpc.StatusCode.NOT_FOUND)
    with stage.client(namespace="elsewhere").stream(hub.address) as frames:
        refused(lambda: next(frames), grpc.StatusCode.NOT_FOUND)
    with stage.client(namespace="default").stream(hub.address) as frames:
        equal(kind(next(frames)), "welcome")


SCENES = [
    data_of_every_size_arrives,
    too_much_data_is_refused,
    a_bad_event_is_refused_before_append,
    a_request_beyond_4_mib_is_refused,
    a_batch_keeps_its_order,
    a_batch_of_1001_is_refused,
    publishing_again_is_idempotent,
    an_ephemeral_event_has_no_cursor,
    other_namespaces_are_not_found,
]
