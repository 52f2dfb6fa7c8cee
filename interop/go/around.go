package main

// Health, reflection and the end of a hub. SCENES.md says what each scene must show.

import (
	"context"
	"slices"

	pushv1 "galaxy/backend/proto/push/v1"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
)

var around = map[string]scene{
	"health_is_served":              healthIsServed,
	"health_can_be_watched":         healthCanBeWatched,
	"reflection_lists_the_services": reflectionListsTheServices,
	"draining_says_goodbye":         drainingSaysGoodbye,
}

const (
	serving        = grpc_health_v1.HealthCheckResponse_SERVING
	notServing     = grpc_health_v1.HealthCheckResponse_NOT_SERVING
	serviceUnknown = grpc_health_v1.HealthCheckResponse_SERVICE_UNKNOWN
)

func healthIsServed(stage *stage) string {
	health := grpc_health_v1.NewHealthClient(stage.dial(stage.startHub().address))
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	for _, service := range []string{"", "push.v1.Push", "push.v1.Publisher"} {
		answer := must(health.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service}))
		equal(answer.GetStatus(), serving)
	}
	_, err := health.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: "push.v1.Nothing"})
	isStatus(err, codes.NotFound, "")
	return ""
}

func healthCanBeWatched(stage *stage) string {
	hub := stage.startHub()
	health := grpc_health_v1.NewHealthClient(stage.dial(hub.address))
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	watch := func(service string) grpc.ServerStreamingClient[grpc_health_v1.HealthCheckResponse] {
		return must(health.Watch(ctx, &grpc_health_v1.HealthCheckRequest{Service: service}))
	}
	known, unknown := watch("push.v1.Push"), watch("push.v1.Nothing")
	equal(must(known.Recv()).GetStatus(), serving)
	equal(must(unknown.Recv()).GetStatus(), serviceUnknown)
	hub.terminate()
	equal(must(known.Recv()).GetStatus(), notServing)
	hub.endsWell()
	return ""
}

func reflectionListsTheServices(stage *stage) string {
	conn := stage.dial(stage.startHub().address)
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	// The two versions have the same messages; only the name of the service differs.
	for _, version := range []string{"v1", "v1alpha"} {
		path := "/grpc.reflection." + version + ".ServerReflection/ServerReflectionInfo"
		call := must(conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, path))
		list := &grpc_reflection_v1.ServerReflectionRequest_ListServices{ListServices: "*"}
		check(call.SendMsg(&grpc_reflection_v1.ServerReflectionRequest{MessageRequest: list}))
		check(call.CloseSend())
		var answer grpc_reflection_v1.ServerReflectionResponse
		check(call.RecvMsg(&answer))
		var names []string
		for _, service := range answer.GetListServicesResponse().GetService() {
			names = append(names, service.GetName())
		}
		for _, name := range []string{"push.v1.Push", "push.v1.Publisher", "grpc.health.v1.Health"} {
			holds(slices.Contains(names, name), "%s does not list %s, only %v", version, name, names)
		}
	}
	return ""
}

func drainingSaysGoodbye(stage *stage) string {
	hub := stage.startHub()
	all := stage.publish(stage.publisher(hub), 2)
	frames := stage.stream(stage.gateway("oldest"), hub.address)
	idsUntilCaughtUp(frames)
	hub.terminate()
	_, last, err := rest(frames)
	isStatus(err, codes.Unavailable, "DRAINING")
	equal([]string{kind(last), last.GetCursor()}, []string{"goodbye", all[1].cursor})
	equal(last.GetGoodbye().GetReason(), pushv1.GoodbyeReason_GOODBYE_REASON_DRAINING)
	equal(last.GetGoodbye().GetReconnect(), true)
	hub.endsWell()
	return ""
}
