"""Health, reflection and the end of a hub. SCENES.md says what each scene must show."""

import signal

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from checks import CALL_SECONDS, equal, ids_until_caught_up, kind, refused
from stage import Stage

STATUS = health_pb2.HealthCheckResponse


def health_is_served(stage: Stage):
    hub = stage.start_hub()
    health = health_pb2_grpc.HealthStub(stage.channel(hub.address))

    def status(service):
        return health.Check(health_pb2.HealthCheckRequest(service=service), timeout=CALL_SECONDS).status

    for service in ["", "push.v1.Push", "push.v1.Publisher"]:
        equal(status(service), STATUS.SERVING)
    refused(lambda: status("push.v1.Nothing"), grpc.StatusCode.NOT_FOUND)


def health_can_be_watched(stage: Stage):
    hub = stage.start_hub()
    health = health_pb2_grpc.HealthStub(stage.channel(hub.address))
    watch, unknown = (
        health.Watch(health_pb2.HealthCheckRequest(service=service), timeout=CALL_SECONDS)
        for service in ["push.v1.Push", "push.v1.Nothing"]
    )
    equal((next(watch).status, next(unknown).status), (STATUS.SERVING, STATUS.SERVICE_UNKNOWN))
    hub.process.send_signal(signal.SIGTERM)
    equal(next(watch).status, STATUS.NOT_SERVING)
    equal(hub.process.wait(timeout=CALL_SECONDS), 0)


def reflection_lists_the_services(stage: Stage):
    channel = stage.channel(stage.start_hub().address)
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
    hub = stage.start_hub()
    published = stage.publish(stage.publisher(hub), 2)
    with stage.client(cursor="oldest").stream(hub.address) as frames:
        equal(kind(next(frames)), "welcome")
        ids_until_caught_up(frames)
        hub.process.send_signal(signal.SIGTERM)
        last = []
        refused(lambda: last.extend(frames), grpc.StatusCode.UNAVAILABLE, "DRAINING")
        goodbye = last[-1]
        equal((kind(goodbye), goodbye.cursor), ("goodbye", published[-1][1]))
        equal((goodbye.goodbye.reason, goodbye.goodbye.reconnect), (stage.messages.GOODBYE_REASON_DRAINING, True))
    equal(hub.process.wait(timeout=CALL_SECONDS), 0)


SCENES = [health_is_served, health_can_be_watched, reflection_lists_the_services, draining_says_goodbye]
