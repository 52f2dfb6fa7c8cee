package main

// What one scene is played on: its own hubs, lines, connections and publisher. Closed when the scene is over.

import (
	"context"
	"fmt"
	"os"

	pushv1 "galaxy/backend/proto/push/v1"

	"google.golang.org/grpc"
)

type stage struct {
	binary, log string
	published   int
	open        []func()
}

// A published event as its publisher knows it.
type published struct{ id, cursor string }

func newStage(binary, log string) *stage {
	os.Remove(log)
	return &stage{binary: binary, log: log}
}

func (stage *stage) startHub(flags ...string) *hub {
	return stage.startHubAt(anyPort, flags...)
}

func (stage *stage) startHubAt(address string, flags ...string) *hub {
	hub := startHub(stage.binary, stage.log, address, flags)
	stage.open = append(stage.open, hub.kill)
	return hub
}

func (stage *stage) line(hub *hub) *line {
	return stage.lineCutAfter(hub, -1, false)
}

func (stage *stage) lineCutAfter(hub *hub, bytes int, reset bool) *line {
	line := openLine(hub.address, bytes, reset)
	stage.open = append(stage.open, line.close)
	return line
}

func (stage *stage) dial(address string, options ...grpc.DialOption) *grpc.ClientConn {
	conn := dial(address, options...)
	stage.open = append(stage.open, func() { conn.Close() })
	return conn
}

func (stage *stage) publisher(hub *hub) pushv1.PublisherClient {
	return pushv1.NewPublisherClient(stage.dial(hub.address))
}

func (stage *stage) gateway(cursor string) *gateway {
	return &gateway{id: "old-gateway", cursor: cursor}
}

// stream subscribes over a connection of its own.
func (stage *stage) stream(gateway *gateway, address string, options ...grpc.DialOption) *frames {
	return stage.streamOn(gateway, stage.dial(address, options...))
}

func (stage *stage) streamOn(gateway *gateway, conn grpc.ClientConnInterface, options ...grpc.CallOption) *frames {
	frames := gateway.streamOn(conn, callLimit, options...)
	stage.open = append(stage.open, frames.cancel)
	return frames
}

// event makes an event; `change` may alter it.
func (stage *stage) event(id string, change ...func(*pushv1.Event)) *pushv1.Event {
	event := &pushv1.Event{
		Id: id, To: []string{"user:42"}, Type: "turn.ready", Source: "interop", Data: []byte("{}"), DataContentType: "application/json",
	}
	for _, alter := range change {
		alter(event)
	}
	return event
}

// publish publishes the next so many events as one batch and returns them in order.
func (stage *stage) publish(publisher pushv1.PublisherClient, count int, change ...func(*pushv1.Event)) []published {
	var events []*pushv1.Event
	for range count {
		events = append(events, stage.event(fmt.Sprintf("e%d", stage.published), change...))
		stage.published++
	}
	results := must(send(publisher, events...))
	equal(len(results), count)
	var all []published
	for number, result := range results {
		holds(result.GetId() == events[number].GetId() && result.GetCode() == 0, "the result of event %d is %v", number, result)
		all = append(all, published{result.GetId(), result.GetCursor()})
	}
	return all
}

// send publishes these events and returns the results.
func send(publisher pushv1.PublisherClient, events ...*pushv1.Event) ([]*pushv1.PublishResult, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	answer, err := publisher.Publish(ctx, &pushv1.PublishRequest{Events: events})
	return answer.GetResults(), err
}

func head(publisher pushv1.PublisherClient) string {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	return must(publisher.Head(ctx, &pushv1.HeadRequest{})).GetCursor()
}

func (stage *stage) close() {
	// The youngest first, as a scene would leave them.
	for number := len(stage.open) - 1; number >= 0; number-- {
		stage.open[number]()
	}
}

func ids(all []published) []string {
	ids := []string{}
	for _, each := range all {
		ids = append(ids, each.id)
	}
	return ids
}

// data gives an event so many bytes of data.
func data(size int) func(*pushv1.Event) {
	return func(event *pushv1.Event) {
		event.Data, event.DataContentType = make([]byte, size), "application/octet-stream"
	}
}
