"""How scenes say what must hold. Each check fails by raising.

Used by the stages and scenes. Knows frames and statuses, and no process.
"""

import time

import grpc
from google.protobuf import any_pb2  # noqa: F401  (so that details of this type can be unpacked)
from google.rpc import error_details_pb2, status_pb2

# No call and no wait may hang the scenes: everything here takes milliseconds, but for what says otherwise.
CALL_SECONDS = 20


def equal(found, expected):
    assert found == expected, f"found {found!r}, expected {expected!r}"


def wait_until(condition, what: str, seconds: float = CALL_SECONDS):
    """Asks again and again until the condition holds; returns how long that took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, f"after {seconds} s it still does not hold that {what}"
        time.sleep(0.005)
    return time.monotonic() - start


def kind(frame) -> str:
    return frame.WhichOneof("kind")


def ids_until_caught_up(frames) -> list:
    """The ids of the events up to CaughtUp. A Gap on the way fails."""
    ids = []
    for frame in frames:
        if kind(frame) == "caught_up":
            return ids
        assert kind(frame) != "gap", f"told of a gap: {frame}"
        if kind(frame) == "event":
            ids.append(frame.event.id)
    raise AssertionError("the stream ended before CaughtUp")


def next_event(frames):
    return next(frame for frame in frames if kind(frame) == "event")


def error_info(error: grpc.RpcError):
    """The google.rpc.ErrorInfo of a failed call, or None."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    return info
    return None


def failure_of(call) -> grpc.RpcError:
    """Runs the call, which must fail."""
    try:
        result = call()
    except grpc.RpcError as error:
        return error
    raise AssertionError(f"answered {result!r}, expected a failure")


def refused(call, code: grpc.StatusCode, reason: str = ""):
    """Runs the call, which must fail with this code and, if one is given, this ErrorInfo reason."""
    error = failure_of(call)
    assert error.code() == code, f"found {error.code()}, expected {code}: {error.details()}"
    if reason:
        info = error_info(error)
        assert info is not None, f"no ErrorInfo in {error!r}"
        equal((info.domain, info.reason), ("push.v1", reason))


def sequence(cursor: str) -> int:
    """The position in a cursor. Clients never look; a check of the hub may."""
    return int(cursor.rpartition(".")[2][1:])
