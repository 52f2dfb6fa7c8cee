package main

// gRPC itself: deadlines, cancelling, connections, metadata, pings. SCENES.md says what each scene must show.

import (
	"context"
	"fmt"
	"strings"
	"time"

	pushv1 "galaxy/backend/proto/push/v1"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

var calls = map[string]scene{
	"a_deadline_ends_the_call":               aDeadlineEndsTheCall,
	"a_cancelled_call_frees_the_hub":         aCancelledCallFreesTheHub,
	"one_connection_carries_several_streams": oneConnectionCarriesSeveralStreams,
	"unknown_methods_are_unimplemented":      unknownMethodsAreUnimplemented,
	"unknown_fields_are_harmless":            unknownFieldsAreHarmless,
	"a_compressed_request_is_taken":          aCompressedRequestIsTaken,
	"huge_metadata_is_refused":               hugeMetadataIsRefused,
	"keepalive_pings_are_tolerated":          keepalivePingsAreTolerated,
}

// Two fields that no message of the contract has: 1000, a number, and 1001, some bytes.
var ofALaterContract = []byte("\xc0\x3e\x01\xca\x3e\x03abc")

func aDeadlineEndsTheCall(stage *stage) string {
	hub := stage.startHub()
	frames := stage.gateway("").streamOn(stage.dial(hub.address), 300*time.Millisecond)
	defer frames.cancel()
	_, _, err := rest(frames)
	isStatus(err, codes.DeadlineExceeded, "")
	// The connection is still open: it is the stream that the hub frees.
	hub.waitForStreams(0)
	return ""
}

func aCancelledCallFreesTheHub(stage *stage) string {
	hub := stage.startHub()
	conn := stage.dial(stage.line(hub).address)
	frames := stage.streamOn(stage.gateway(""), conn)
	equal(kind(frames.next()), "welcome")
	equal(hub.streams(), 1)
	frames.cancel()
	_, _, err := rest(frames)
	isStatus(err, codes.Canceled, "")
	hub.waitForStreams(0)
	// A line takes one connection only, so this is the same one.
	head(pushv1.NewPublisherClient(conn))
	return ""
}

func oneConnectionCarriesSeveralStreams(stage *stage) string {
	hub := stage.startHub()
	conn := stage.dial(stage.line(hub).address)
	var readers []*frames
	for _, id := range []string{"a", "b", "c"} {
		frames := stage.streamOn(&gateway{id: id}, conn)
		equal(kind(frames.next()), "welcome")
		readers = append(readers, frames)
	}
	all := stage.publish(pushv1.NewPublisherClient(conn), 50)
	for _, frames := range readers {
		equal(nextIDs(frames, 50), ids(all))
	}
	return ""
}

func unknownMethodsAreUnimplemented(stage *stage) string {
	hub := stage.startHub()
	conn := stage.dial(stage.line(hub).address)
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	nothing := &emptypb.Empty{}
	for _, path := range []string{
		"/push.v1.Push/Nothing", "/push.v1.Publisher/Nothing", "/push.v1.Nothing/Publish", "/nothing.v9.Nothing/Do",
	} {
		isStatus(conn.Invoke(ctx, path, nothing, nothing), codes.Unimplemented, "")
		stream := must(conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, path))
		check(stream.SendMsg(nothing))
		check(stream.CloseSend())
		isStatus(stream.RecvMsg(nothing), codes.Unimplemented, "")
	}
	head(pushv1.NewPublisherClient(conn))
	return ""
}

func unknownFieldsAreHarmless(stage *stage) string {
	conn := stage.dial(stage.startHub().address)
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	event := stage.event("later")
	request := &pushv1.PublishRequest{Events: []*pushv1.Event{event}}
	subscribe := &pushv1.GatewaySubscribeRequest{GatewayClientId: "later", Cursor: "oldest", Features: []string{"from-the-future"}}
	for _, message := range []proto.Message{event, request, subscribe} {
		message.ProtoReflect().SetUnknown(ofALaterContract)
	}
	result := must(pushv1.NewPublisherClient(conn).Publish(ctx, request)).GetResults()[0]
	holds(result.GetId() == "later" && result.GetCode() == 0, "answered %v", result)
	frames := &frames{gateway: &gateway{}, stream: must(pushv1.NewPushClient(conn).SubscribePush(ctx, subscribe)), cancel: cancel}
	equal(kind(frames.next()), "welcome")
	equal(idsUntilCaughtUp(frames), []string{"later"})
	return ""
}

func aCompressedRequestIsTaken(stage *stage) string {
	conn := stage.dial(stage.startHub().address)
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	request := &pushv1.PublishRequest{Events: []*pushv1.Event{stage.event("squeezed")}}
	result := must(pushv1.NewPublisherClient(conn).Publish(ctx, request, grpc.UseCompressor(gzip.Name))).GetResults()[0]
	holds(result.GetId() == "squeezed" && result.GetCode() == 0, "answered %v", result)
	frames := stage.streamOn(stage.gateway("oldest"), conn, grpc.UseCompressor(gzip.Name))
	equal(kind(frames.next()), "welcome")
	equal(idsUntilCaughtUp(frames), []string{"squeezed"})
	return ""
}

func hugeMetadataIsRefused(stage *stage) string {
	hub := stage.startHub()
	publisher := stage.publisher(hub)
	open := func(conn grpc.ClientConnInterface, id string, size int) *frames {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		stage.open = append(stage.open, cancel)
		ctx = metadata.AppendToOutgoingContext(ctx, "x-large", strings.Repeat("a", size))
		return (&gateway{id: id}).streamIn(ctx, cancel, conn)
	}
	shared := stage.dial(hub.address)
	refusals := []string{}
	for _, each := range []struct {
		size           int
		neighboursConn *grpc.ClientConn
	}{{20 << 10, shared}, {64 << 10, stage.dial(hub.address)}} {
		neighbour := open(each.neighboursConn, "neighbour", 4<<10)
		equal(kind(neighbour.next()), "welcome")
		_, err := open(shared, "huge", each.size).recv()
		holds(err != nil && status.Code(err) != codes.DeadlineExceeded, "nobody refused it")
		refusals = append(refusals, fmt.Sprintf("%d KiB: %s", each.size>>10, status.Code(err)))
		equal(ids(stage.publish(publisher, 1)), nextIDs(neighbour, 1))
	}
	return strings.Join(refusals, ", ")
}

func keepalivePingsAreTolerated(stage *stage) string {
	hub := stage.startHub()
	publisher := stage.publisher(hub)
	line := stage.line(hub)
	// grpc-go sends no keepalive ping within 10 s of the last frame, and the hub says something every 5 s. What it does send, with
	// the windows it has by default, is a ping after every other event, to measure bandwidth.
	frames := stage.stream(stage.gateway(""), line.address)
	idsUntilCaughtUp(frames)
	waitUntil(func() bool {
		equal(ids(stage.publish(publisher, 1)), nextIDs(frames, 1))
		return line.up.of(pingFrame) >= 20
	}, "the peer has sent twenty pings", callLimit)
	equal(ids(stage.publish(publisher, 1)), nextIDs(frames, 1))
	equal(line.down.of(goawayFrame), 0)
	return fmt.Sprintf("%d pings", line.up.of(pingFrame))
}
