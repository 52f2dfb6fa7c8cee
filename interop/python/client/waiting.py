"""How long our client waits before it asks again, and for what it does not wait. SCENES.md says what each scene must show."""

import time

import grpc

from checks import equal, wait_until
from client.frames import cursor, ends, error_details, refuses, retry_info
from client.resuming import ids
from client.stage import ClientStage, stays
from line import GOAWAY, PING

# What a loaded machine may add to a wait.
SLACK_SECONDS = 0.5
# Full jitter over 200 ms, doubling, makes 6 tries in 3 s likely and 15 next to impossible.
RARELY_SECONDS, RARELY = 3, 15


def goodbye_is_obeyed(stage: ClientStage):
    def farewell(call):
        yield stage.frames.welcome(cursor(0), "FRESH")
        yield stage.frames.event(1)
        yield stage.frames.goodbye(1, retry_after=0.8)
        call.end(grpc.StatusCode.UNAVAILABLE)

    hub = stage.start_hub(farewell, stage.frames.log(2))
    tail = stage.tail(hub.address)
    wait_until(lambda: tail.events() == ids(2), "the stream goes on")
    equal(hub.calls[1].request.cursor, cursor(1))
    return waited(hub, 0.8, 1.0)


def waited(hub, at_least: float, at_most: float) -> str:
    """The wait between the first two streams must lie in these bounds."""
    wait = hub.gap_between(0, 1)
    assert at_least <= wait <= at_most + SLACK_SECONDS, f"waited {wait:.2f} s, not {at_least} to {at_most} s"
    return f"{wait:.2f} s"


def retry_info_is_obeyed(stage: ClientStage):
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    hub = stage.start_hub(refuses(code, details=error_details(code, retry_info(0.8))), stage.frames.log(1))
    stage.tail(hub.address)
    stage.wait_for_calls(hub, 2)
    return waited(hub, 0.8, 1.0)


def aborted_cools_down(stage: ClientStage):
    hub = stage.start_hub(stage.frames.log(1, then=ends(grpc.StatusCode.ABORTED)), stage.frames.log(2))
    stage.tail(hub.address)
    stage.wait_for_calls(hub, 2, seconds=12)
    return waited(hub, 5, 10)


def refusals_wait_long(stage: ClientStage):
    codes = [grpc.StatusCode[name] for name in ["UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED", "INVALID_ARGUMENT"]]
    hubs = [stage.start_hub(refuses(code, f"never, says {code.name}")) for code in codes]
    tails = [stage.tail(hub.address) for hub in hubs]
    for code, hub, tail in zip(codes, hubs, tails):
        stage.wait_for_calls(hub, 1)
        wait_until(lambda: f"never, says {code.name}" in tail.said(), "the refusal is shown")
    stays(lambda: all(len(hub.calls) == 1 for hub in hubs), "nobody asks again", 4)


def a_status_in_headers_is_understood(stage: ClientStage):
    hub = stage.start_hub(refuses(grpc.StatusCode.UNAVAILABLE, "come back – später"), stage.frames.log(1))
    tail = stage.tail(hub.address)
    wait_until(lambda: tail.events() == ids(1), "the second try succeeds")
    wait_until(lambda: "come back – später" in tail.said(), "the refusal is shown")


def broken_details_are_harmless(stage: ClientStage):
    broken = refuses(grpc.StatusCode.UNAVAILABLE, details=b"\xff\xff\xff\x07")
    hub = stage.start_hub(broken, stage.frames.log(1))
    tail = stage.tail(hub.address)
    wait_until(lambda: tail.events() == ids(1), "the second try succeeds", seconds=2)


def a_silent_stream_is_left(stage: ClientStage):
    hub = stage.start_hub(stage.frames.log(2))
    stage.tail(hub.address)
    stage.wait_for_calls(hub, 2, seconds=20)
    equal(hub.calls[1].request.cursor, cursor(2))
    return waited(hub, 14, 19)


def a_missing_welcome_is_not_waited_for(stage: ClientStage):
    def mute(call):
        call.hold()
        yield from ()

    hub = stage.start_hub(mute, stage.frames.log(1))
    stage.tail(hub.address)
    stage.wait_for_calls(hub, 2)
    return waited(hub, 4.5, 6)


def a_mute_server_is_left(stage: ClientStage):
    start = time.monotonic()
    hub = stage.start_hub(stage.frames.log(1))
    stage.tail(stage.port(hang_up=False).address, hub.address)
    stage.wait_for_calls(hub, 1, seconds=12)
    return f"{time.monotonic() - start:.1f} s"


def a_hub_that_hangs_up_is_dialled_rarely(stage: ClientStage):
    port = stage.port(hang_up=True)
    stage.tail(port.address)
    wait_until(lambda: port.taken, "it was dialled")
    return asked_rarely(lambda: len(port.taken))


def asked_rarely(count) -> str:
    stays(lambda: count() <= RARELY, f"there are at most {RARELY} tries", RARELY_SECONDS)
    assert count() > 1, "it gave up"
    return f"{count()} tries in {RARELY_SECONDS} s"


def a_stream_that_ends_at_once_is_asked_for_rarely(stage: ClientStage):
    hub = stage.start_hub(stage.frames.log(0, then=ends(grpc.StatusCode.UNAVAILABLE)))
    stage.tail(hub.address)
    stage.wait_for_calls(hub, 1)
    return asked_rarely(lambda: len(hub.calls))


def a_message_too_large_is_not_hammered(stage: ClientStage):
    def too_large(call):
        yield stage.frames.welcome(call.request.cursor or cursor(0))
        yield stage.frames.event(1)
        yield stage.frames.sized_event(2, (4 << 20) + 1)
        call.hold()

    hub = stage.start_hub(too_large)
    tail = stage.tail(hub.address)
    stage.wait_for_calls(hub, 2)
    note = asked_rarely(lambda: len(hub.calls))
    equal({call.request.cursor for call in hub.calls[1:]}, {cursor(1)})
    equal(tail.events(), ids(1))
    return note


def pings_are_never_too_many(stage: ClientStage):
    def hub_that_makes_progress(call):
        yield stage.frames.welcome(cursor(0))
        yield stage.frames.caught_up(0)
        while not call.gone.wait(5):
            yield stage.frames.progress(0)

    hub = stage.start_hub(hub_that_makes_progress)
    line = stage.line(hub)
    stage.tail(line.address)
    stage.wait_for_calls(hub, 1)
    stays(lambda: len(hub.calls) == 1 and not hub.calls[0].gone.is_set(), "the stream is open", 65)
    equal(line.down.counts[GOAWAY], 0)
    return f"{line.up.counts[PING]} pings in 65 s"


SCENES = [
    goodbye_is_obeyed,
    retry_info_is_obeyed,
    aborted_cools_down,
    refusals_wait_long,
    a_status_in_headers_is_understood,
    broken_details_are_harmless,
    a_silent_stream_is_left,
    a_missing_welcome_is_not_waited_for,
    a_mute_server_is_left,
    a_hub_that_hangs_up_is_dialled_rarely,
    a_stream_that_ends_at_once_is_asked_for_rarely,
    a_message_too_large_is_not_hammered,
    pings_are_never_too_many,
]
LONG = [pings_are_never_too_many]
