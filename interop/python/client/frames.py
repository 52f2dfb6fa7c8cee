"""The frames that a scripted hub sends, and the acts that many scenes share.

Used by the scenes of this folder. Cursors are made here as a hub makes them; the client takes them for opaque but for their epoch and order.
"""

from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

EPOCH, OTHER_EPOCH = "AAAAAAAAAAAAAAAAAAAAAQ", "AAAAAAAAAAAAAAAAAAAAAg"
# Two fields that no message of the contract has: 1000, a number, and 1001, some bytes.
OF_A_LATER_CONTRACT = b"\xc0\x3e\x01\xca\x3e\x03abc"
# A frame kind that no contract has yet: field 30 of PushEvent.
UNKNOWN_KIND = b"\xf2\x01\x04\x0a\x02hi"


def cursor(seq: int, epoch: str = EPOCH) -> str:
    return f"2.{epoch}.{chr(96 + len(str(seq)))}{seq}"


def seq_of(text: str) -> int:
    """The position in a request's cursor; 0 when it asks for none."""
    return int(text.rpartition(".")[2][1:]) if text.startswith("2.") else 0


class Frames:
    """Builds frames of one contract."""

    def __init__(self, messages):
        self.messages = messages

    def welcome(self, at: str, outcome: str = "RESUMED"):
        welcome = self.messages.Welcome(outcome=self.messages.Outcome.Value(f"OUTCOME_{outcome}"), generation=1)
        return self.messages.PushEvent(cursor=at, welcome=welcome)

    def event(self, seq: int, epoch: str = EPOCH, data: bytes = b"{}"):
        event = self.messages.Event(id=f"e{seq}", to=["user:42"], type="turn.ready", source="interop", data=data)
        event.data_content_type = "application/json" if data == b"{}" else "application/octet-stream"
        return self.messages.PushEvent(cursor=cursor(seq, epoch), event=event, appended_unix_ms=1)

    def sized_event(self, seq: int, size: int):
        """An event whose whole message has exactly so many bytes."""
        overhead = size - len(self.event(seq, data=b"x" * size).SerializeToString())
        event = self.event(seq, data=b"x" * (size + overhead))
        assert len(event.SerializeToString()) == size, "the length prefixes changed their width"
        return event

    def caught_up(self, seq: int, epoch: str = EPOCH):
        return self.messages.PushEvent(cursor=cursor(seq, epoch), caught_up=self.messages.CaughtUp())

    def progress(self, seq: int):
        return self.messages.PushEvent(cursor=cursor(seq), progress=self.messages.Progress())

    def gap(self, missed_from: str, to: str, reason: str):
        gap = self.messages.Gap(reason=self.messages.GapReason.Value(f"GAP_REASON_{reason}"), to=to)
        setattr(gap, "from", missed_from)
        return self.messages.PushEvent(cursor=to, gap=gap)

    def goodbye(self, seq: int, retry_after: float):
        goodbye = self.messages.Goodbye(
            reason=self.messages.GOODBYE_REASON_DRAINING, retry_after=seconds(retry_after), reconnect=True
        )
        return self.messages.PushEvent(cursor=cursor(seq), goodbye=goodbye)

    def log(self, count: int, then=None, **fields):
        """An act: an honest little hub whose log has so many events. Sends what follows the cursor, then ends as told or holds."""

        def act(call):
            at = seq_of(call.request.cursor)
            yield self.welcome(call.request.cursor or cursor(0), "RESUMED" if at else "FRESH")
            for seq in range(at + 1, count + 1):
                yield self.event(seq, **fields)
            yield self.caught_up(count)
            then(call) if then else call.hold()

        return act


def ends(code, message: str = "as the scene says", details: bytes = b""):
    """How a stream ends: with this status."""
    return lambda call: call.end(code, message, details)


def refuses(code, message: str = "as the scene says", details: bytes = b""):
    """An act that answers with a status and no frame."""

    def act(call):
        call.end(code, message, details)
        yield from ()  # what makes it an act; never reached

    return act


def seconds(number: float) -> duration_pb2.Duration:
    return duration_pb2.Duration(seconds=int(number), nanos=int(number % 1 * 1e9))


def error_details(code, *details) -> bytes:
    """A google.rpc.Status with these details, encoded."""
    status = status_pb2.Status(code=code.value[0], message="as the scene says")
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status.SerializeToString()


def error_info(reason: str) -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(domain="push.v1", reason=reason)


def retry_info(wait: float) -> error_details_pb2.RetryInfo:
    return error_details_pb2.RetryInfo(retry_delay=seconds(wait))
