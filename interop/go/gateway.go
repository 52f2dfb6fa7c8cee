package main

// A gateway of the old kind: it only knows "send back the last non-empty cursor". Nothing here checks anything.

import (
	"context"
	"time"

	pushv1 "galaxy/backend/proto/push/v1"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// HTTP/2 pings as often as grpc-go lets a client send them; one that is not answered within a second ends the connection. The
// fixed window stops grpc-go from sending more pings to measure bandwidth.
var pinging = []grpc.DialOption{
	grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: time.Second, PermitWithoutStream: true}),
	narrow,
}

// No more than 64 KiB ahead of the reader: grpc-go otherwise widens the window by itself.
var narrow = grpc.WithStaticStreamWindowSize(64 << 10)

// dial opens a connection of its own, with neither a proxy nor retries behind the scene's back.
func dial(address string, options ...grpc.DialOption) *grpc.ClientConn {
	own := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(), grpc.WithDisableRetry()}
	return must(grpc.NewClient(address, append(own, options...)...))
}

// A gateway remembers one cursor. Other fields of its request are for what only newer gateways ask.
type gateway struct {
	id, cursor string
	more       *pushv1.GatewaySubscribeRequest
}

// frames are the frames of one stream.
type frames struct {
	gateway *gateway
	stream  grpc.ServerStreamingClient[pushv1.PushEvent]
	cancel  context.CancelFunc
}

// streamOn subscribes over this connection, for so long at most.
func (gateway *gateway) streamOn(conn grpc.ClientConnInterface, limit time.Duration, options ...grpc.CallOption) *frames {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	return gateway.streamIn(ctx, cancel, conn, options...)
}

func (gateway *gateway) streamIn(
	ctx context.Context, cancel context.CancelFunc, conn grpc.ClientConnInterface, options ...grpc.CallOption,
) *frames {
	request := &pushv1.GatewaySubscribeRequest{GatewayClientId: gateway.id, Cursor: gateway.cursor}
	if more := gateway.more; more != nil {
		request.Recipients, request.MaxReceiveBytes, request.Namespace = more.Recipients, more.MaxReceiveBytes, more.Namespace
	}
	stream, err := pushv1.NewPushClient(conn).SubscribePush(ctx, request, options...)
	if err != nil {
		return &frames{gateway: gateway, stream: refusedStream{err: err}, cancel: cancel}
	}
	return &frames{gateway: gateway, stream: stream, cancel: cancel}
}

// A refusedStream is one that could not even be asked for: it fails when it is read, as the others do.
type refusedStream struct {
	grpc.ServerStreamingClient[pushv1.PushEvent]
	err error
}

func (stream refusedStream) Recv() (*pushv1.PushEvent, error) { return nil, stream.err }

// recv returns the next frame, or the end.
func (frames *frames) recv() (*pushv1.PushEvent, error) {
	frame, err := frames.stream.Recv()
	if err == nil && frame.GetCursor() != "" {
		frames.gateway.cursor = frame.GetCursor()
	}
	return frame, err
}

// next returns the next frame; an end fails.
func (frames *frames) next() *pushv1.PushEvent {
	return must(frames.recv())
}
