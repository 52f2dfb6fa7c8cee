"""Where a reader starts and what it is told. SCENES.md says what each scene must show."""

import grpc

from checks import equal, ids_until_caught_up, kind, next_event, refused, sequence
from stage import Stage, ids


def frames_come_in_order(stage: Stage):
    hub = stage.start_hub()
    publisher = stage.publisher(hub)
    published = stage.publish(publisher, 3)
    client = stage.client(cursor=published[0][1])
    with client.stream(hub.address) as frames:
        welcome = next(frames)
        equal((kind(welcome), welcome.cursor), ("welcome", published[0][1]))
        equal(welcome.welcome.outcome, stage.messages.OUTCOME_RESUMED)
        equal((welcome.welcome.head, welcome.welcome.generation > 0), (published[2][1], True))
        equal([(frame.event.id, frame.cursor) for frame in (next(frames), next(frames))], published[1:])
        caught_up = next(frames)
        equal((kind(caught_up), caught_up.cursor), ("caught_up", published[2][1]))
        live = stage.publish(publisher, 1)
        frame = next(frames)
        equal([(frame.event.id, frame.cursor)], live)


def empty_starts_at_the_head(stage: Stage):
    hub = stage.start_hub()
    publisher = stage.publisher(hub)
    published = stage.publish(publisher, 3)
    with stage.client().stream(hub.address) as frames:
        welcome = next(frames)
        equal((welcome.cursor, welcome.welcome.outcome), (published[-1][1], stage.messages.OUTCOME_FRESH))
        equal(ids_until_caught_up(frames), [])
        equal(next_event_id(frames, stage, publisher), f"e{stage.published - 1}")


def next_event_id(frames, stage: Stage, publisher) -> str:
    stage.publish(publisher, 1)
    return next_event(frames).event.id


def oldest_starts_at_the_oldest(stage: Stage):
    hub = stage.start_hub("--window-events", "8")
    published = stage.publish(stage.publisher(hub), 10)
    with stage.client(cursor="oldest").stream(hub.address) as frames:
        welcome = next(frames)
        equal((welcome.cursor, welcome.welcome.outcome), (published[1][1], stage.messages.OUTCOME_FRESH))
        equal(ids_until_caught_up(frames), ids(published[2:]))


def head_pairs_with_a_stream(stage: Stage):
    hub = stage.start_hub()
    publisher = stage.publisher(hub)
    stage.publish(publisher, 5)
    head = stage.head(publisher)
    later = stage.publish(publisher, 5)
    with stage.client(cursor=head).stream(hub.address) as frames:
        equal(next(frames).welcome.outcome, stage.messages.OUTCOME_RESUMED)
        equal(ids_until_caught_up(frames), ids(later))


def a_trimmed_reader_is_told(stage: Stage):
    hub = stage.start_hub("--window-events", "8")
    publisher = stage.publisher(hub)
    early = stage.publish(publisher, 4)
    client = stage.client(cursor=early[-1][1])
    late = stage.publish(publisher, 20)
    with client.stream(hub.address) as frames:
        welcome = next(frames)
        equal((welcome.cursor, welcome.welcome.outcome), (early[-1][1], stage.messages.OUTCOME_TRIMMED))
        frame = next(frames)
        equal((kind(frame), frame.gap.reason), ("gap", stage.messages.GAP_REASON_TRIMMED))
        # Missing is (from, to]: the last of the missed ones is the one before the oldest held.
        equal((frame.gap.to, frame.cursor), (late[11][1], late[11][1]))
        equal((getattr(frame.gap, "from"), frame.gap.count), (early[-1][1], 12))
    # Cut right after the Gap: its cursor crosses the hole, so it is told once and the rest follows.
    with client.stream(hub.address) as frames:
        equal(next(frames).welcome.outcome, stage.messages.OUTCOME_RESUMED)
        equal(ids_until_caught_up(frames), ids(late[12:]))


def a_lost_log_is_told(stage: Stage):
    hub = stage.start_hub()
    channel = stage.channel(hub.address, ("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200))
    client = stage.client()
    with client.stream_on(channel) as frames:
        equal(kind(next(frames)), "welcome")
        before = stage.publish(stage.publisher(hub), 3)
        equal([next_event(frames).cursor for _ in before], [cursor for _, cursor in before])
        hub.kill()
        # Whatever this peer calls a broken connection; CaughtUp may come before it.
        refused(lambda: list(frames), grpc.StatusCode.UNAVAILABLE)
    hub = stage.start_hub(address=hub.address)
    after = stage.publish(stage.publisher(hub), 3)
    with client.stream_on(channel, wait_for_ready=True) as frames:
        welcome = next(frames)
        equal((welcome.cursor, welcome.welcome.outcome), (before[-1][1], stage.messages.OUTCOME_EPOCH_CHANGED))
        frame = next(frames)
        equal((kind(frame), frame.gap.reason), ("gap", stage.messages.GAP_REASON_EPOCH_CHANGED))
        equal(ids_until_caught_up(frames), ids(after))


def a_foreign_cursor_counts_as_another_epoch(stage: Stage):
    hub = stage.start_hub()
    published = stage.publish(stage.publisher(hub), 2)
    with stage.client(cursor="9.from-the-future").stream(hub.address) as frames:
        welcome = next(frames)
        equal((welcome.cursor, welcome.welcome.outcome), ("9.from-the-future", stage.messages.OUTCOME_EPOCH_CHANGED))
        equal(kind(next(frames)), "gap")
        equal(ids_until_caught_up(frames), ids(published))


def a_reader_ahead_is_told(stage: Stage):
    hub = stage.start_hub()
    publisher = stage.publisher(hub)
    head = stage.publish(publisher, 2)[-1][1]
    epoch, _, _ = head.rpartition(".")
    client = stage.client(cursor=f"{epoch}.d{sequence(head) + 1000}")
    with client.stream(hub.address) as frames:
        equal(next(frames).welcome.outcome, stage.messages.OUTCOME_AHEAD)
        frame = next(frames)
        equal((kind(frame), frame.gap.reason, frame.cursor), ("gap", stage.messages.GAP_REASON_AHEAD, head))
        equal(ids_until_caught_up(frames), [])
        live = stage.publish(publisher, 1)
        equal(next(frames).cursor, live[0][1])


def a_malformed_cursor_is_a_told_gap(stage: Stage):
    hub = stage.start_hub()
    with stage.client("neighbour").stream(hub.address) as neighbour:
        equal(kind(next(neighbour)), "welcome")
        for cursor in ["garbage", "Oldest", "2.2", "9 9", "3" * 129, "3" * 60_000]:
            with stage.client(cursor=cursor).stream(hub.address) as frames:
                equal(next(frames).welcome.outcome, stage.messages.OUTCOME_EPOCH_CHANGED)
                gap = next(frames).gap
                equal((gap.reason, getattr(gap, "from")), (stage.messages.GAP_REASON_CURSOR_UNREADABLE, ""))
                equal(ids_until_caught_up(frames), [])
        published = stage.publish(stage.publisher(hub), 1)
        equal(next_event(neighbour).event.id, published[0][0])


SCENES = [
    frames_come_in_order,
    empty_starts_at_the_head,
    oldest_starts_at_the_oldest,
    head_pairs_with_a_stream,
    a_trimmed_reader_is_told,
    a_lost_log_is_told,
    a_foreign_cursor_counts_as_another_epoch,
    a_reader_ahead_is_told,
    a_malformed_cursor_is_a_told_gap,
]
