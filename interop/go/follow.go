package main

// An old gateway that runs until it is killed, for a harness that hurts the hubs it follows: it says line by line what it
// presents and what it is sent. Nothing here checks anything.

import (
	"bufio"
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// As old gateways have them: an answer is waited for as long as grpc-go waits by itself.
var patient = grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second})

const (
	firstWait   = 100 * time.Millisecond
	longestWait = 10 * time.Second
)

// A told is one line: what is presented to begin a stream, a frame of it, or why it ended.
type told struct {
	Open  *string `json:"open,omitempty"`
	Frame []byte  `json:"frame,omitempty"`
	End   string  `json:"end,omitempty"`
}

// follow reads from the hubs behind one name, whichever of them answers, and comes back after every end.
func follow(id, hubs string) {
	behind := manual.NewBuilderWithScheme("hubs")
	var state resolver.State
	for _, hub := range strings.Split(hubs, ",") {
		address := strings.TrimSuffix(strings.TrimPrefix(hub, "http://"), "/")
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: address}}})
	}
	behind.InitialState(state)
	conn := dial("hubs:///localhost", grpc.WithResolvers(behind), patient)
	out := bufio.NewWriter(os.Stdout)
	tell := func(line told) {
		out.Write(append(must(json.Marshal(line)), '\n'))
		check(out.Flush())
	}
	gateway := &gateway{id: id}
	for wait := firstWait; ; {
		tell(told{Open: &gateway.cursor})
		ctx, cancel := context.WithCancel(context.Background())
		frames := gateway.streamIn(ctx, cancel, conn)
		for {
			frame, err := frames.recv()
			if err != nil {
				tell(told{End: status.Code(err).String()})
				break
			}
			wait = firstWait
			tell(told{Frame: must(proto.Marshal(frame))})
		}
		cancel()
		time.Sleep(rand.N(wait))
		wait = min(2*wait, longestWait)
	}
}
