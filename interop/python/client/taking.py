"""What our client makes of the frames it is sent. SCENES.md says what each scene must show."""

import grpc

from checks import equal, wait_until
from client.frames import EPOCH, OF_A_LATER_CONTRACT, OTHER_EPOCH, UNKNOWN_KIND, cursor
from client.resuming import ids
from client.stage import ClientStage
from client.waiting import asked_rarely

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


def unknown_frames_are_skipped(stage: ClientStage):
    frames = stage.frames

    def of_a_later_contract(call):
        yield frames.welcome(cursor(0))
        yield frames.event(1)
        yield frames.messages.PushEvent(cursor=cursor(2)).SerializeToString() + UNKNOWN_KIND
        yield frames.event(3)
        yield frames.messages.PushEvent(cursor=cursor(4)).SerializeToString() + UNKNOWN_KIND
        call.end(UNAVAILABLE)

    hub = stage.start_hub(of_a_later_contract, frames.log(5))
    tail = stage.tail(hub.address)
    wait_until(lambda: tail.events() == ["e1", "e3", "e5"], "the known events are printed")
    equal(hub.calls[1].request.cursor, cursor(4))
    equal(tail.kinds()[:3], ["welcome", "event", "event"])


def unknown_fields_are_passed_over(stage: ClientStage):
    frames = stage.frames

    def of_a_later_contract(call):
        yield frames.welcome(cursor(0)).SerializeToString() + OF_A_LATER_CONTRACT
        yield OF_A_LATER_CONTRACT + frames.event(1).SerializeToString()
        event = frames.event(2)
        event.event.MergeFromString(OF_A_LATER_CONTRACT)
        yield event
        yield frames.event(3).SerializeToString() + OF_A_LATER_CONTRACT
        yield frames.caught_up(3).SerializeToString() + OF_A_LATER_CONTRACT
        yield frames.event(4)
        call.hold()

    tail = stage.tail(stage.start_hub(of_a_later_contract).address)
    wait_until(lambda: "e4" in tail.events(), "the last event is printed")
    equal(tail.kinds(), ["welcome", "event", "event", "event", "caughtUp", "event"])


def an_epoch_change_is_passed_on(stage: ClientStage):
    frames = stage.frames

    def another_epoch(call):
        yield frames.welcome(call.request.cursor, "EPOCH_CHANGED")
        yield frames.gap(call.request.cursor, cursor(0, OTHER_EPOCH), "EPOCH_CHANGED")
        yield frames.event(1, OTHER_EPOCH)
        yield frames.event(2, OTHER_EPOCH)
        yield frames.caught_up(2, OTHER_EPOCH)
        call.end(UNAVAILABLE)

    hub = stage.start_hub(another_epoch, another_epoch)
    tail = stage.tail(hub.address, arguments=["--from", cursor(9, EPOCH)])
    stage.wait_for_calls(hub, 2)
    equal(tail.kinds()[:5], ["welcome", "gap", "event", "event", "caughtUp"])
    equal(tail.frames[1]["gap"]["reason"], "EPOCH_CHANGED")
    equal(hub.calls[1].request.cursor, cursor(2, OTHER_EPOCH))


def another_epoch_without_a_gap_is_not_believed(stage: ClientStage):
    frames = stage.frames

    def silent_change(call):
        yield frames.welcome(call.request.cursor or cursor(0))
        yield frames.event(1)
        yield frames.event(1000, OTHER_EPOCH)
        call.hold()

    hub = stage.start_hub(silent_change, frames.log(2))
    tail = stage.tail(hub.address)
    wait_until(lambda: tail.events()[-1:] == ["e2"], "the stream goes on")
    equal((tail.events(), hub.calls[1].request.cursor), (ids(2), cursor(1)))


def positions_are_handed_over_once(stage: ClientStage):
    frames = stage.frames

    def repeats(*positions, then):
        def act(call):
            yield frames.welcome(call.request.cursor or cursor(0))
            for seq in positions:
                yield frames.event(seq)
            then(call)

        return act

    hub = stage.start_hub(
        repeats(1, 2, 2, 1, 3, then=lambda call: call.end(UNAVAILABLE)),
        repeats(2, 3, 4, then=lambda call: call.hold()),
    )
    tail = stage.tail(hub.address)
    wait_until(lambda: "e4" in tail.events(), "the last event is printed")
    equal((tail.events(), hub.calls[1].request.cursor), (ids(4), cursor(3)))


def progress_moves_the_cursor(stage: ClientStage):
    def scanned(call):
        yield stage.frames.welcome(cursor(0))
        yield stage.frames.event(1)
        yield stage.frames.progress(50)
        call.end(UNAVAILABLE)

    hub = stage.start_hub(scanned, stage.frames.log(50))
    stage.tail(hub.address)
    stage.wait_for_calls(hub, 2)
    equal(hub.calls[1].request.cursor, cursor(50))


def the_largest_message_arrives(stage: ClientStage):
    def large(call):
        yield stage.frames.welcome(cursor(0))
        yield stage.frames.sized_event(1, 4 << 20)
        for seq in range(2, 42):
            yield stage.frames.sized_event(seq, 512 << 10)
        call.hold()

    hub = stage.start_hub(large)
    tail = stage.tail(hub.address)
    wait_until(lambda: len(tail.events()) == 41, "all events are printed")
    equal((tail.events(), len(hub.calls)), (ids(41), 1))


def a_compressing_server_is_named(stage: ClientStage):
    # grpcio compresses whatever the client's `grpc-accept-encoding` says.
    hub = stage.start_hub(stage.frames.log(20, data=b"x" * 2000), compression=grpc.Compression.Gzip)
    tail = stage.tail(hub.address, arguments=["--from", "oldest"])
    wait_until(lambda: "compressed" in tail.said(), "it is said")
    note = asked_rarely(lambda: len(hub.calls))
    equal(tail.events(), [])
    return note


SCENES = [
    unknown_frames_are_skipped,
    unknown_fields_are_passed_over,
    an_epoch_change_is_passed_on,
    another_epoch_without_a_gap_is_not_believed,
    positions_are_handed_over_once,
    progress_moves_the_cursor,
    the_largest_message_arrives,
    a_compressing_server_is_named,
]
