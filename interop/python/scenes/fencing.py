"""One stream for each gateway id. SCENES.md says what each scene must show."""

import contextlib

import grpc

from checks import equal, kind, next_event, refused
from stage import Stage, ids

TAKEOVERS = 8


def a_second_subscriber_fences_the_first(stage: Stage):
    hub = stage.start_hub()
    publisher = stage.publisher(hub)
    older, newer = stage.client(), stage.client()
    with older.stream(hub.address) as older_frames:
        # The first is accepted before the second asks.
        generation = next(older_frames).welcome.generation
        with newer.stream(hub.address) as newer_frames:
            assert next(newer_frames).welcome.generation > generation, "the generation did not rise"
            published = stage.publish(publisher, 1)
            ends_replaced(older_frames)
            equal(next_event(newer_frames).event.id, published[0][0])


def ends_replaced(frames):
    """The stream must end ABORTED and REPLACED, without another event."""
    rest = []
    refused(lambda: rest.extend(frames), grpc.StatusCode.ABORTED, "REPLACED")
    assert "event" not in map(kind, rest), "the fenced stream got an event"


def replacement_works_both_ways(stage: Stage):
    hub = stage.start_hub()
    publisher = stage.publisher(hub)
    a, b = stage.client(cursor="oldest"), stage.client(cursor="oldest")
    received = {a: [], b: []}
    with stage.client("somebody-else").stream(hub.address) as others, contextlib.ExitStack() as open_streams:
        equal(kind(next(others)), "welcome")
        published, current = [], None
        for client in [a, b, a, b]:
            frames = open_streams.enter_context(client.stream(hub.address))
            equal(kind(next(frames)), "welcome")
            if current:
                ends_replaced(current)
            published += ids(stage.publish(publisher, 1))
            # It goes on where it was: what the other one read meanwhile comes first.
            while len(received[client]) < len(published):
                received[client].append(next_event(frames).event.id)
            equal((received[client], next_event(others).event.id), (published, published[-1]))
            current = frames


def the_last_old_client_always_wins(stage: Stage):
    hub = stage.start_hub()
    with contextlib.ExitStack() as open_streams:
        streams = []
        for _ in range(1 + TAKEOVERS):
            streams.append(open_streams.enter_context(stage.client().stream(hub.address)))
            equal(kind(next(streams[-1])), "welcome")
        for older in streams[:-1]:
            ends_replaced(older)
        published = stage.publish(stage.publisher(hub), 1)
        equal(next_event(streams[-1]).event.id, published[0][0])
        hub.wait_for_streams(1)


def a_bad_gateway_id_is_refused(stage: Stage):
    hub = stage.start_hub()
    for gateway_client_id in ["", "x" * 256, "two words"]:
        with stage.client(gateway_client_id).stream(hub.address) as frames:
            refused(lambda: next(frames), grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_INVALID")
    equal(hub.streams(), 0)


SCENES = [
    a_second_subscriber_fences_the_first,
    replacement_works_both_ways,
    the_last_old_client_always_wins,
    a_bad_gateway_id_is_refused,
]
