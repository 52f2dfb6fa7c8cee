"""Broken lines: whatever happens to a connection, every event comes once and in order. SCENES.md says what each scene must show."""

import random
import threading

import grpc

from checks import equal, ids_until_caught_up, kind, next_event
from gateway import PINGING, OldClient
from stage import Stage, ids

CUTS = 9


def resumes_across_cancelled_calls(stage: Stage):
    return cut_and_resume(stage, lambda hub, numbers: (hub.address, numbers.randrange(1, 40)))


def resumes_across_cut_connections(stage: Stage):
    return cut_and_resume(stage, lambda hub, numbers: (stage.line(hub, cut_after=numbers.randrange(200, 6000)).address, None))


def resumes_across_reset_connections(stage: Stage):
    def reset(hub, numbers):
        return stage.line(hub, cut_after=numbers.randrange(200, 6000), reset=True).address, None

    return cut_and_resume(stage, reset)


def cut_and_resume(stage: Stage, next_cut):
    """Reads while somebody publishes, over connections that `next_cut` spoils."""
    hub = stage.start_hub()
    client = stage.client()
    with client.stream(hub.address) as frames:
        equal(kind(next(frames)), "welcome")  # from here on, nothing may be lost
    received, numbers = [], random.Random(7)
    with Publishing(stage, hub) as publishing:
        for _ in range(CUTS):
            address, frames_left = next_cut(hub, numbers)
            read_until_cut(client, address, frames_left, received)
    with client.stream(hub.address) as frames:
        received += ids_until_caught_up(frames)
    assert len(publishing.ids) > 100, f"only {len(publishing.ids)} events were published"
    equal(received, publishing.ids)
    return f"{len(received)} events over {CUTS} cuts"


class Publishing:
    """Publishes until the block is left: a line that is cut after so many bytes needs somebody who sends them."""

    def __init__(self, stage: Stage, hub):
        self.ids = []
        self.enough = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(stage, stage.publisher(hub)))

    def _run(self, stage, publisher):
        while not self.enough.wait(0.005):
            self.ids += ids(stage.publish(publisher, 4))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.enough.set()
        self.thread.join()


def read_until_cut(client: OldClient, address: str, frames_left, received: list):
    """Reads so many frames and cuts, or reads until the line is cut; what was read counts as handled."""
    with client.stream(address) as frames:
        try:
            for frame in frames:
                assert kind(frame) != "gap", f"told of a gap inside the window: {frame}"
                if kind(frame) == "event":
                    received.append(frame.event.id)
                if frames_left is not None:
                    frames_left -= 1
                    if frames_left <= 0:
                        return
        except grpc.RpcError as error:
            assert error.code() != grpc.StatusCode.DEADLINE_EXCEEDED, "the line was never cut"


def resumes_across_a_half_open_line(stage: Stage):
    hub = stage.start_hub()
    publisher = stage.publisher(hub)
    client = stage.client()
    line = stage.line(hub)
    with client.stream(line.address, options=PINGING) as frames:
        equal(kind(next(frames)), "welcome")
        before = stage.publish(publisher, 3)
        equal([next_event(frames).event.id for _ in before], ids(before))
        line.freeze()
        missed = stage.publish(publisher, 3)
        try:
            assert "event" not in map(kind, frames), "an event passed a frozen line"
        except grpc.RpcError as error:
            equal(error.code(), grpc.StatusCode.UNAVAILABLE)
        # The hub has not noticed anything: for it the older stream is still open.
        equal(hub.streams(), 1)
        with client.stream(hub.address) as frames:
            equal(next(frames).welcome.outcome, stage.messages.OUTCOME_RESUMED)
            equal(ids_until_caught_up(frames), ids(missed))
            hub.wait_for_streams(1)


SCENES = [
    resumes_across_cancelled_calls,
    resumes_across_cut_connections,
    resumes_across_reset_connections,
    resumes_across_a_half_open_line,
]
