"""Where our client goes on after a stream has ended. SCENES.md says what each scene must show."""

import socket

import grpc

from checks import equal, sequence, wait_until
from client.frames import cursor, ends, error_details, error_info, refuses
from client.stage import ClientStage

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


def the_request_says_who_asks(stage: ClientStage):
    hub = stage.start_hub(stage.frames.log(1))
    tail = stage.tail(hub.address, arguments=["--to", "user:42", "--to", "topic:news.*"])
    wait_until(lambda: tail.events() == ["e1"], "the event is printed")
    request = hub.calls[0].request
    assert request.gateway_client_id and request.instance_id, f"no ids in {request}"
    equal((request.attempt, request.cursor, request.namespace), (1, "", ""))
    equal(list(request.recipients), ["user:42", "topic:news.*"])


def resumes_after_unavailable(stage: ClientStage):
    resumes_after(stage, ends(UNAVAILABLE))


def resumes_after_ok(stage: ClientStage):
    resumes_after(stage, lambda call: None)


def resumes_after(stage: ClientStage, end):
    """The first stream carries three events and ends so; the second carries two more."""
    hub = stage.start_hub(stage.frames.log(3, then=end), stage.frames.log(5))
    tail = stage.tail(hub.address, arguments=["--from", "oldest"])
    wait_until(lambda: tail.events() == ids(5), "all events are printed once")
    first, second = (call.request for call in hub.calls)
    equal((first.cursor, second.cursor), ("oldest", cursor(3)))
    equal((first.gateway_client_id, first.instance_id), (second.gateway_client_id, second.instance_id))
    equal((first.attempt, second.attempt), (1, 2))


def ids(count: int) -> list:
    return [f"e{seq}" for seq in range(1, count + 1)]


def resumes_after_a_reset(stage: ClientStage):
    hub = stage.start_hub(stage.frames.log(1000))
    line = stage.line(hub, cut_after=20_000, reset=True)
    # The line takes one connection only, for the question which log the hub holds and the stream; the second address is the way around it.
    tail = stage.tail(line.address, hub.address, arguments=["--from", "oldest"])
    wait_until(lambda: len(tail.events()) >= 1000, "all events are printed")
    equal(tail.events(), ids(1000))
    equal(len(hub.calls), 2)
    return f"resumed from {sequence(hub.calls[1].request.cursor)}"


def resumes_after_a_restart(stage: ClientStage):
    hub = stage.start_hub(stage.frames.log(3))
    tail = stage.tail(hub.address, arguments=["--from", "oldest"])
    wait_until(lambda: "caughtUp" in tail.kinds(), "the first stream is caught up")
    hub.close()
    hub = stage.start_hub(stage.frames.log(5), address=hub.address)
    wait_until(lambda: tail.events() == ids(5), "all events are printed once")
    equal([call.request.cursor for call in hub.calls], [cursor(3)])


def the_next_hub_is_tried(stage: ClientStage):
    # Bound and not listening: nobody answers there, and nobody else can come to.
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        hub = stage.start_hub(stage.frames.log(2))
        tail = stage.tail("127.0.0.1:%d" % nobody.getsockname()[1], hub.address, arguments=["--from", "oldest"])
        wait_until(lambda: tail.events() == ids(2), "the events are printed")


def a_malformed_cursor_becomes_a_gap(stage: ClientStage):
    code = grpc.StatusCode.INVALID_ARGUMENT
    refusal = refuses(code, "no cursor of mine", error_details(code, error_info("CURSOR_MALFORMED")))
    hub = stage.start_hub(refusal, stage.frames.log(2))
    tail = stage.tail(hub.address, arguments=["--from", cursor(77)])
    wait_until(lambda: tail.events() == ids(2), "the events are printed", seconds=2)
    equal([call.request.cursor for call in hub.calls], [cursor(77), "oldest"])
    gap = tail.frames[0]
    equal((gap["gap"]["reason"], gap["gap"]["from"]), ("CURSOR_UNREADABLE", cursor(77)))


SCENES = [
    the_request_says_who_asks,
    resumes_after_unavailable,
    resumes_after_ok,
    resumes_after_a_reset,
    resumes_after_a_restart,
    the_next_hub_is_tried,
    a_malformed_cursor_becomes_a_gap,
]
