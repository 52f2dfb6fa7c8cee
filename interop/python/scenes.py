"""What must hold for a plain gRPC peer, one function per scene.

Played by resume_test.py; the means are in peer.py. A scene passes by returning and fails by raising.
"""

import pathlib
import random
import signal
import threading

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from peer import CALL_SECONDS, Contract, Hub, Line, OldClient, error_info


class Stage:
    """What one scene has: the contract, its own hubs and a publisher. Closed when the scene is over."""

    def __init__(self, contract: Contract, binary: pathlib.Path, log: pathlib.Path):
        self.contract = contract
        self.messages = contract.messages
        self.binary = binary
        self.log = log
        self.hubs = []
        self.channels = []
        self.published = 0

    def start_hub(self, *arguments: str) -> Hub:
        hub = Hub(self.binary, list(arguments), self.log)
        self.hubs.append(hub)
        return hub

    def channel(self, hub: Hub) -> grpc.Channel:
        channel = grpc.insecure_channel(hub.address)
        self.channels.append(channel)
        return channel

    def publisher(self, hub: Hub):
        return self.contract.stubs.PublisherStub(self.channel(hub))

    def event(self, id: str, **fields):
        fields = {"to": ["user:42"], "type": "turn.ready", "source": "interop", "data": b"{}", **fields}
        fields.setdefault("data_content_type", "application/json")
        return self.messages.Event(id=id, **fields)

    def publish(self, publisher, count: int) -> list:
        """Publishes the next so many events and returns their ids and cursors, in order."""
        ids = [f"e{self.published + number}" for number in range(count)]
        self.published += count
        request = self.messages.PublishRequest(events=[self.event(id) for id in ids])
        results = publisher.Publish(request, timeout=CALL_SECONDS).results
        equal([result.id for result in results], ids)
        equal([result.code for result in results], [0] * count)
        return [(result.id, result.cursor) for result in results]

    def client(self, gateway_client_id: str = "old-gateway", cursor: str = "") -> OldClient:
        return OldClient(self.contract, gateway_client_id, cursor)

    def close(self):
        for channel in self.channels:
            channel.close()
        for hub in self.hubs:
            hub.close()


def equal(found, expected):
    assert found == expected, f"found {found!r}, expected {expected!r}"


def kind(frame) -> str:
    return frame.WhichOneof("kind")


def ids_until_caught_up(frames) -> list:
    ids = []
    for frame in frames:
        if kind(frame) == "caught_up":
            return ids
        if kind(frame) == "event":
            ids.append(frame.event.id)
    raise AssertionError("the stream ended before CaughtUp")


def refused(call, code: grpc.StatusCode, reason: str = ""):
    """Runs the call, which must fail with this code and, if one is given, this ErrorInfo reason."""
    try:
        result = call()
    except grpc.RpcError as error:
        equal(error.code(), code)
        if reason:
            info = error_info(error)
            assert info is not None, f"no ErrorInfo in {error!r}"
            equal((info.domain, info.reason), ("push.v1", reason))
        return
    raise AssertionError(f"answered {result!r}, expected {code}")


def frames_come_in_order(stage: Stage):
    """Welcome, replay, CaughtUp, live; the cursor asked for is echoed and each event has its own.

    The cursors of the frames are those the publisher was given.
    """
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


def head_and_oldest(stage: Stage):
    """`""` starts at the head, `oldest` at the oldest event held; both end in CaughtUp."""
    hub = stage.start_hub()
    publisher = stage.publisher(hub)
    published = stage.publish(publisher, 3)
    head = publisher.Head(stage.messages.HeadRequest(), timeout=CALL_SECONDS)
    equal(head.cursor, published[-1][1])
    with stage.client("a").stream(hub.address) as frames:
        welcome = next(frames)
        equal((welcome.cursor, welcome.welcome.outcome), (head.cursor, stage.messages.OUTCOME_FRESH))
        equal(ids_until_caught_up(frames), [])
    with stage.client("b", "oldest").stream(hub.address) as frames:
        welcome = next(frames)
        equal(welcome.welcome.outcome, stage.messages.OUTCOME_FRESH)
        equal(ids_until_caught_up(frames), [id for id, _ in published])


def resumes_across_cancelled_calls(stage: Stage):
    """Every event once and in order, though the call is cancelled nine times mid-way."""
    cut_and_resume(stage, lambda hub, random_numbers: (hub.address, random_numbers.randrange(1, 40)))


def resumes_across_cut_connections(stage: Stage):
    """Every event once and in order, though the connection breaks nine times in the middle of a frame."""

    def cut(hub, random_numbers):
        line = Line(hub.address, cut_after=random_numbers.randrange(200, 6000))
        return line.address, None

    cut_and_resume(stage, cut)


def cut_and_resume(stage: Stage, next_cut):
    hub = stage.start_hub()
    publisher = stage.publisher(hub)
    client = stage.client()
    with client.stream(hub.address) as frames:
        equal(kind(next(frames)), "welcome")  # from here on, nothing may be lost

    expected = []
    enough = threading.Event()

    def publish():
        # Until the last cut: a line that is cut after so many bytes needs somebody who sends them.
        while not enough.wait(0.005):
            expected.extend(id for id, _ in stage.publish(publisher, 4))

    background = threading.Thread(target=publish)
    background.start()
    received = []
    random_numbers = random.Random(7)
    try:
        for _ in range(9):
            address, frames_left = next_cut(hub, random_numbers)
            read_until_cut(client, address, frames_left, received)
    finally:
        enough.set()
        background.join()
    with client.stream(hub.address) as frames:
        received += ids_until_caught_up(frames)
    assert len(expected) > 100, f"only {len(expected)} events were published"
    equal(received, expected)


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


def a_trimmed_reader_is_told(stage: Stage):
    """A position that left the window: a Gap that names the hole, then everything held."""
    hub = stage.start_hub("--window-events", "8")
    publisher = stage.publisher(hub)
    early = stage.publish(publisher, 4)
    client = stage.client(cursor=early[-1][1])
    late = stage.publish(publisher, 20)
    with client.stream(hub.address) as frames:
        welcome = next(frames)
        equal(welcome.cursor, early[-1][1])
        equal(welcome.welcome.outcome, stage.messages.OUTCOME_TRIMMED)
        frame = next(frames)
        equal((kind(frame), frame.gap.reason), ("gap", stage.messages.GAP_REASON_TRIMMED))
        # Missing is (from, to]: the last of the missed ones is the one before the oldest held.
        equal((frame.gap.to, frame.cursor), (late[11][1], late[11][1]))
        equal((getattr(frame.gap, "from"), frame.gap.count), (early[-1][1], 12))
    # Cut right after the Gap: its cursor crosses the hole, so it is told once and the rest follows.
    with client.stream(hub.address) as frames:
        equal(next(frames).welcome.outcome, stage.messages.OUTCOME_RESUMED)
        equal(ids_until_caught_up(frames), [id for id, _ in late[12:]])


def a_lost_log_is_told(stage: Stage):
    """A hub that lost its log: a Gap with the new epoch, then everything held."""
    hub = stage.start_hub()
    client = stage.client(cursor=stage.publish(stage.publisher(hub), 3)[-1][1])
    hub.kill()
    hub = stage.start_hub()
    published = stage.publish(stage.publisher(hub), 3)
    with client.stream(hub.address) as frames:
        equal(next(frames).welcome.outcome, stage.messages.OUTCOME_EPOCH_CHANGED)
        frame = next(frames)
        equal((kind(frame), frame.gap.reason), ("gap", stage.messages.GAP_REASON_EPOCH_CHANGED))
        equal(ids_until_caught_up(frames), [id for id, _ in published])


def a_cursor_of_another_version_counts_as_another_epoch(stage: Stage):
    """A well-formed cursor that this hub cannot read: a Gap, then everything held."""
    hub = stage.start_hub()
    published = stage.publish(stage.publisher(hub), 2)
    with stage.client(cursor="9.from-the-future").stream(hub.address) as frames:
        welcome = next(frames)
        equal((welcome.cursor, welcome.welcome.outcome), ("9.from-the-future", stage.messages.OUTCOME_EPOCH_CHANGED))
        equal(kind(next(frames)), "gap")
        equal(ids_until_caught_up(frames), [id for id, _ in published])


def a_reader_ahead_of_the_log_is_told(stage: Stage):
    """A cursor beyond the head: a Gap, then from the head."""
    hub = stage.start_hub()
    publisher = stage.publisher(hub)
    head = stage.publish(publisher, 2)[-1][1]
    position, _, seq = head.rpartition(".")
    client = stage.client(cursor=f"{position}.{int(seq) + 1000}")
    with client.stream(hub.address) as frames:
        equal(next(frames).welcome.outcome, stage.messages.OUTCOME_AHEAD)
        frame = next(frames)
        equal((kind(frame), frame.gap.reason, frame.cursor), ("gap", stage.messages.GAP_REASON_AHEAD, head))
        equal(ids_until_caught_up(frames), [])
        live = stage.publish(publisher, 1)
        equal(next(frames).cursor, live[0][1])


def a_second_subscriber_fences_the_first(stage: Stage):
    """The same gateway id again: the older stream ends ABORTED and gets nothing more."""
    hub = stage.start_hub()
    publisher = stage.publisher(hub)
    older, newer = stage.client(), stage.client()
    with older.stream(hub.address) as older_frames:
        # The first is accepted before the second asks.
        generation = next(older_frames).welcome.generation
        with newer.stream(hub.address) as newer_frames:
            assert next(newer_frames).welcome.generation > generation, "the generation did not rise"
            published = stage.publish(publisher, 1)
            rest = []
            refused(lambda: rest.extend(older_frames), grpc.StatusCode.ABORTED, "REPLACED")
            assert "event" not in map(kind, rest), "the fenced stream got an event"
            equal(next_event_id(newer_frames), published[0][0])


def next_event_id(frames) -> str:
    return next(frame.event.id for frame in frames if kind(frame) == "event")


def a_malformed_cursor_is_refused(stage: Stage):
    """INVALID_ARGUMENT with CURSOR_MALFORMED, and nobody else is disturbed."""
    hub = stage.start_hub()
    with stage.client("neighbour").stream(hub.address) as neighbour:
        equal(kind(next(neighbour)), "welcome")
        for cursor in ["garbage", "Oldest", "1.2", "9 9", "1" * 129]:
            with stage.client(cursor=cursor).stream(hub.address) as frames:
                refused(lambda: next(frames), grpc.StatusCode.INVALID_ARGUMENT, "CURSOR_MALFORMED")
        published = stage.publish(stage.publisher(hub), 1)
        equal(next_event_id(neighbour), published[0][0])


def a_bad_event_is_refused_before_append(stage: Stage):
    """No recipient, an unknown kind of it, too much data: refused with the reason, and the head stays."""
    hub = stage.start_hub()
    publisher = stage.publisher(hub)
    head = stage.publish(publisher, 1)[0][1]
    for event, reason in [
        (stage.event("a", to=[]), "RECIPIENT_INVALID"),
        (stage.event("b", to=["planet:earth"]), "RECIPIENT_INVALID"),
        (stage.event("c", to=["user:a b"]), "RECIPIENT_INVALID"),
        (stage.event("d", data=b'"' + b"x" * (64 * 1024) + b'"'), "EVENT_TOO_LARGE"),
    ]:
        equal(refusal(stage, publisher, event), reason)
    equal(publisher.Head(stage.messages.HeadRequest(), timeout=CALL_SECONDS).cursor, head)


def refusal(stage: Stage, publisher, event) -> str:
    """Why the hub refuses the event: a reason in the status, or in the result."""
    try:
        response = publisher.Publish(stage.messages.PublishRequest(events=[event]), timeout=CALL_SECONDS)
    except grpc.RpcError as error:
        info = error_info(error)
        return info.reason if info else f"{error.code()} without ErrorInfo"
    return response.results[0].reason


def publishing_again_is_idempotent(stage: Stage):
    """The same id and source: the first cursor again, and one delivery."""
    hub = stage.start_hub()
    publisher = stage.publisher(hub)
    request = stage.messages.PublishRequest(events=[stage.event("once")])
    first = publisher.Publish(request, timeout=CALL_SECONDS).results[0]
    again = publisher.Publish(request, timeout=CALL_SECONDS).results[0]
    equal((first.duplicate, again.duplicate, again.cursor), (False, True, first.cursor))
    with stage.client(cursor="oldest").stream(hub.address) as frames:
        equal(ids_until_caught_up(frames), ["once"])


def what_comes_later_answers_unimplemented(stage: Stage):
    """Calls of the contract without behaviour yet say so."""
    hub = stage.start_hub()
    push = stage.contract.stubs.PushStub(stage.channel(hub))
    publisher = stage.publisher(hub)
    messages = stage.messages
    for call in [
        lambda: list(push.Replay(messages.ReplayRequest(gateway_client_id="g", after="oldest"), timeout=CALL_SECONDS)),
        lambda: push.Report(iter([messages.GatewayReport(gateway_client_id="g")]), timeout=CALL_SECONDS),
        lambda: publisher.Invalidate(messages.InvalidateRequest(), timeout=CALL_SECONDS),
        lambda: publisher.SetMembership(messages.SetMembershipRequest(), timeout=CALL_SECONDS),
        lambda: list(publisher.PublishStream(iter([messages.PublishRequest()]), timeout=CALL_SECONDS)),
    ]:
        refused(call, grpc.StatusCode.UNIMPLEMENTED)


def other_namespaces_are_not_found(stage: Stage):
    """Any namespace but the default one is NOT_FOUND until namespaces are built."""
    hub = stage.start_hub()
    publisher = stage.publisher(hub)
    request = stage.messages.PublishRequest(events=[stage.event("a")], namespace="elsewhere")
    refused(lambda: publisher.Publish(request, timeout=CALL_SECONDS), grpc.StatusCode.NOT_FOUND)


def health_is_served(stage: Stage):
    """grpc.health.v1: the whole server and each service are SERVING, an unknown one is NOT_FOUND."""
    health = health_pb2_grpc.HealthStub(stage.channel(stage.start_hub()))

    def status(service):
        return health.Check(health_pb2.HealthCheckRequest(service=service), timeout=CALL_SECONDS).status

    for service in ["", "push.v1.Push", "push.v1.Publisher"]:
        equal(status(service), health_pb2.HealthCheckResponse.SERVING)
    refused(lambda: status("push.v1.Nothing"), grpc.StatusCode.NOT_FOUND)


def reflection_lists_the_services(stage: Stage):
    """grpc.reflection v1 and v1alpha name every service of the hub."""
    channel = stage.channel(stage.start_hub())
    # The two versions have the same messages; only the name of the service differs.
    for version in ["v1", "v1alpha"]:
        ask = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        answer = next(ask(iter([request]), timeout=CALL_SECONDS))
        names = {service.name for service in answer.list_services_response.service}
        missing = {"push.v1.Push", "push.v1.Publisher", "grpc.health.v1.Health"} - names
        assert not missing, f"{version} does not list {missing}, only {names}"


def draining_says_goodbye(stage: Stage):
    """SIGTERM: a Goodbye with the last position passed, UNAVAILABLE, and the hub ends well."""
    hub = stage.start_hub()
    published = stage.publish(stage.publisher(hub), 2)
    client = stage.client(cursor="oldest")
    with client.stream(hub.address) as frames:
        equal(kind(next(frames)), "welcome")
        ids_until_caught_up(frames)
        hub.process.send_signal(signal.SIGTERM)
        last = []
        refused(lambda: last.extend(frames), grpc.StatusCode.UNAVAILABLE, "DRAINING")
        goodbye = last[-1]
        equal((kind(goodbye), goodbye.cursor), ("goodbye", published[-1][1]))
        equal((goodbye.goodbye.reason, goodbye.goodbye.reconnect), (stage.messages.GOODBYE_REASON_DRAINING, True))
    equal(hub.process.wait(timeout=CALL_SECONDS), 0)


SCENES = [
    frames_come_in_order,
    head_and_oldest,
    resumes_across_cancelled_calls,
    resumes_across_cut_connections,
    a_trimmed_reader_is_told,
    a_lost_log_is_told,
    a_cursor_of_another_version_counts_as_another_epoch,
    a_reader_ahead_of_the_log_is_told,
    a_second_subscriber_fences_the_first,
    a_malformed_cursor_is_refused,
    a_bad_event_is_refused_before_append,
    publishing_again_is_idempotent,
    what_comes_later_answers_unimplemented,
    other_namespaces_are_not_found,
    health_is_served,
    reflection_lists_the_services,
    draining_says_goodbye,
]
