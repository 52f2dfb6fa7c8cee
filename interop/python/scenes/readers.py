"""Readers that take part of the log, take small frames, or take their time. SCENES.md says what each scene must show."""

import grpc

from checks import equal, ids_until_caught_up, kind, next_event, refused, sequence
from gateway import NARROW
from line import DATA, GOAWAY
from stage import Stage, data, ids

# Large events, so that the few hundred KiB which travel ahead of a reader are little beside the window.
LARGE = 32 << 10
WINDOW = ["--window-bytes", "4MiB"]


def a_small_receiver_is_told_by_a_gap(stage: Stage):
    hub = stage.start_hub()
    publisher = stage.publisher(hub)
    published = [stage.publish(publisher, 1, **data(size))[0] for size in [100, 10_000, 100]]
    client = stage.client(cursor="oldest", max_receive_bytes=4096)
    with client.stream(hub.address) as frames:
        equal(next(frames).welcome.limits.max_frame_bytes, 4096)
        equal(next(frames).event.id, published[0][0])
        gap = next(frames)
        equal((kind(gap), gap.gap.reason), ("gap", stage.messages.GAP_REASON_TOO_LARGE))
        equal((getattr(gap.gap, "from"), gap.gap.to, gap.cursor, gap.gap.count), (*cursors(published[:2]), published[1][1], 1))
    # Its cursor crosses the event, so that resuming does not meet it again.
    with client.stream(hub.address) as frames:
        equal(ids_until_caught_up(frames), [published[2][0]])
    with stage.client("tiny", max_receive_bytes=100).stream(hub.address) as frames:
        refused(lambda: next(frames), grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_INVALID")


def cursors(published: list) -> list:
    return [cursor for _, cursor in published]


def a_filtered_reader_is_told_its_progress(stage: Stage):
    hub = stage.start_hub("--window-events", "64")
    publisher = stage.publisher(hub)
    client = stage.client(recipients=["user:7", "topic:news.*"])
    with client.stream(hub.address) as frames:
        ids_until_caught_up(frames)
        start = client.cursor
        for _ in range(10):
            stage.publish(publisher, 4)
        # Nothing of it is for this reader, and it is told so before the window has moved past its cursor.
        progress = next(frames)
        equal((kind(progress), sequence(client.cursor) > sequence(start)), ("progress", True))
        wanted = [stage.publish(publisher, 1, to=to)[0][0] for to in (["user:1", "user:7"], ["topic:news.uk"], ["user:77"], ["all"])]
        equal([next_event(frames).event.id for _ in range(2)], wanted[:2])
        for _ in range(20):
            stage.publish(publisher, 4)
            while sequence(client.cursor) < stage.published - 8:
                equal(kind(next(frames)), "progress")
    with client.stream(hub.address) as frames:
        equal(next(frames).welcome.outcome, stage.messages.OUTCOME_RESUMED)


def an_idle_reader_is_told_its_progress(stage: Stage):
    hub = stage.start_hub()
    published = stage.publish(stage.publisher(hub), 2)
    with stage.client(cursor="oldest").stream(hub.address, timeout=7) as frames:
        ids_until_caught_up(frames)
        progress = next(frames)
        equal((kind(progress), progress.cursor), ("progress", published[-1][1]))


def a_slow_reader_is_told_it_fell_behind(stage: Stage):
    hub = stage.start_hub(*WINDOW)
    publisher = stage.publisher(hub)
    with stage.client().stream(hub.address, options=NARROW) as frames:
        ids_until_caught_up(frames)
        published = [event for _ in range(10) for event in stage.publish(publisher, 8, **data(LARGE))]
        kinds, received = read_up_to(frames, published[-1][0])
        equal(received, ids(published))
        assert "fell_behind" in kinds, f"only told {set(kinds)}"
        assert "gap" not in kinds, "told of a gap inside the window"
        equal(kind(next(frames)), "caught_up")
        return f"told after {kinds.index('fell_behind')} of {len(published)} events"


def read_up_to(frames, last_id: str):
    """The kinds of the frames up to this event, and the ids of the events among them."""
    kinds, received = [], []
    for frame in frames:
        kinds.append(kind(frame))
        if kind(frame) == "event":
            received.append(frame.event.id)
            if frame.event.id == last_id:
                return kinds, received
    raise AssertionError(f"the stream ended before {last_id}")


def a_lapped_reader_is_told(stage: Stage):
    hub = stage.start_hub(*WINDOW)
    publisher = stage.publisher(hub)
    client = stage.client()
    with client.stream(hub.address, options=NARROW) as frames:
        ids_until_caught_up(frames)
        published = [event for _ in range(40) for event in stage.publish(publisher, 8, **data(LARGE))]
        received, gap = [], None
        while kind(frame := next(frames)) != "caught_up":
            if kind(frame) == "event":
                received.append(frame.event.id)
            elif kind(frame) == "gap":
                assert gap is None, "told of two gaps, though nobody published in between"
                gap, before = frame.gap, len(received)
                equal((gap.reason, frame.cursor), (stage.messages.GAP_REASON_LAPPED, gap.to))
        assert gap, "the reader was never lapped"
        missed = published[before : before + gap.count]
        equal(received, ids(published[:before] + published[before + gap.count :]))
        equal((getattr(gap, "from"), gap.to), (published[before - 1][1], missed[-1][1]))
        return f"{before} before the gap, {gap.count} missed"


def a_large_catch_up_keeps_the_connection(stage: Stage):
    return read_after_a_pause(stage, size=200, batch=1000)


def tiny_events_before_a_paused_reader(stage: Stage):
    return read_after_a_pause(stage, size=1, batch=100)


def read_after_a_pause(stage: Stage, size: int, batch: int):
    """The reader pauses while 20,000 events are published, then reads on; then another one reads them all at once."""
    hub = stage.start_hub()
    publisher = stage.publisher(hub)
    line = stage.line(hub)
    with stage.client().stream(line.address) as frames:
        ids_until_caught_up(frames)
        published = [event for _ in range(20_000 // batch) for event in stage.publish(publisher, batch, **data(size))]
        ahead = line.down.counts[DATA]
        equal([next_event(frames).event.id for _ in published], ids(published))
        equal((kind_of_end(frames), line.down.counts[GOAWAY]), (None, 0))
    with stage.client("replay", cursor="oldest").stream(hub.address) as frames:
        equal(ids_until_caught_up(frames), ids(published))
    return f"{ahead} DATA frames ahead of the paused reader, {line.down.counts[DATA]} in all"


def kind_of_end(frames):
    """The status of a stream that has ended, or None while it is alive."""
    return None if frames.call.is_active() else frames.call.code()


SCENES = [
    a_small_receiver_is_told_by_a_gap,
    a_filtered_reader_is_told_its_progress,
    an_idle_reader_is_told_its_progress,
    a_slow_reader_is_told_it_fell_behind,
    a_lapped_reader_is_told,
    a_large_catch_up_keeps_the_connection,
    tiny_events_before_a_paused_reader,
]
