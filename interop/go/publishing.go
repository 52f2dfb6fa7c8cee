package main

// What a publisher may send and what it is answered. SCENES.md says what each scene must show.

import (
	"bytes"
	"context"
	"fmt"

	pushv1 "galaxy/backend/proto/push/v1"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var publishing = map[string]scene{
	"data_of_every_size_arrives":           dataOfEverySizeArrives,
	"too_much_data_is_refused":             tooMuchDataIsRefused,
	"a_bad_event_is_refused_before_append": aBadEventIsRefusedBeforeAppend,
	"a_request_beyond_4_mib_is_refused":    aRequestBeyond4MiBIsRefused,
	"a_batch_keeps_its_order":              aBatchKeepsItsOrder,
	"a_batch_of_1001_is_refused":           aBatchOf1001IsRefused,
	"publishing_again_is_idempotent":       publishingAgainIsIdempotent,
	"an_ephemeral_event_has_no_cursor":     anEphemeralEventHasNoCursor,
	"other_namespaces_are_not_found":       otherNamespacesAreNotFound,
}

// The largest data of an event, unless the hub is told otherwise.
const dataMax = 64 << 10

func dataOfEverySizeArrives(stage *stage) string {
	hub := stage.startHub()
	publisher := stage.publisher(hub)
	sizes := []int{0, 1, dataMax}
	live := stage.stream(stage.gateway(""), hub.address)
	equal(kind(live.next()), "welcome")
	for _, size := range sizes {
		stage.publish(publisher, 1, data(size))
	}
	replayed := stage.stream(&gateway{id: "another", cursor: "oldest"}, hub.address)
	for _, frames := range []*frames{live, replayed} {
		for _, size := range sizes {
			holds(bytes.Equal(nextEvent(frames).GetEvent().GetData(), make([]byte, size)), "%d bytes came out otherwise", size)
		}
	}
	return ""
}

func tooMuchDataIsRefused(stage *stage) string {
	publisher := stage.publisher(stage.startHub())
	before := stage.publish(publisher, 1)
	_, err := send(publisher, stage.event("fits"), stage.event("too-large", data(dataMax+1)))
	isStatus(err, codes.InvalidArgument, "EVENT_TOO_LARGE")
	equal(head(publisher), before[0].cursor)
	return ""
}

func aBadEventIsRefusedBeforeAppend(stage *stage) string {
	publisher := stage.publisher(stage.startHub())
	before := stage.publish(publisher, 1)
	to := func(recipients ...string) func(*pushv1.Event) {
		return func(event *pushv1.Event) { event.To = recipients }
	}
	tooMany := []string{}
	for number := range 257 {
		tooMany = append(tooMany, fmt.Sprintf("user:%d", number))
	}
	for _, each := range []struct {
		reason string
		spoil  func(*pushv1.Event)
	}{
		{"RECIPIENT_INVALID", to()},
		{"RECIPIENT_INVALID", to("planet:earth")},
		{"RECIPIENT_INVALID", to("user:a b")},
		{"RECIPIENT_INVALID", to(tooMany...)},
		{"REQUEST_INVALID", func(event *pushv1.Event) { event.Id = "" }},
		{"REQUEST_INVALID", func(event *pushv1.Event) { event.Source = "" }},
		{"REQUEST_INVALID", func(event *pushv1.Event) { event.Type = "" }},
		{"REQUEST_INVALID", func(event *pushv1.Event) { event.Type = "push.gap" }},
		{"REQUEST_INVALID", func(event *pushv1.Event) { event.Data = []byte("{not json") }},
	} {
		_, err := send(publisher, stage.event("good"), stage.event("bad", each.spoil))
		isStatus(err, codes.InvalidArgument, each.reason)
	}
	equal(head(publisher), before[0].cursor)
	return ""
}

func aRequestBeyond4MiBIsRefused(stage *stage) string {
	hub := stage.startHub()
	publisher := pushv1.NewPublisherClient(stage.dial(stage.line(hub).address))
	before := stage.publish(publisher, 1)
	var events []*pushv1.Event
	for number := range 80 {
		events = append(events, stage.event(fmt.Sprintf("large-%d", number), data(dataMax)))
	}
	_, err := send(publisher, events...)
	holds(err != nil, "it was accepted")
	equal(head(publisher), before[0].cursor)
	stage.publish(publisher, 60, data(dataMax))
	return fmt.Sprintf("refused as %s", status.Code(err))
}

func aBatchKeepsItsOrder(stage *stage) string {
	hub := stage.startHub()
	all := stage.publish(stage.publisher(hub), 1000)
	for number, each := range all {
		equal(sequence(each.cursor), sequence(all[0].cursor)+number)
	}
	equal(idsUntilCaughtUp(stage.stream(stage.gateway("oldest"), hub.address)), ids(all))
	return ""
}

func aBatchOf1001IsRefused(stage *stage) string {
	publisher := stage.publisher(stage.startHub())
	before := head(publisher)
	var events []*pushv1.Event
	for number := range 1001 {
		events = append(events, stage.event(fmt.Sprintf("many-%d", number)))
	}
	_, err := send(publisher, events...)
	isStatus(err, codes.InvalidArgument, "REQUEST_INVALID")
	equal(head(publisher), before)
	return ""
}

func publishingAgainIsIdempotent(stage *stage) string {
	hub := stage.startHub()
	publisher := stage.publisher(hub)
	publish := func(source string) *pushv1.PublishResult {
		return must(send(publisher, stage.event("once", func(event *pushv1.Event) { event.Source = source })))[0]
	}
	first, other, again := publish("here"), publish("elsewhere"), publish("here")
	equal([]bool{first.GetDuplicate(), other.GetDuplicate(), again.GetDuplicate()}, []bool{false, false, true})
	equal(again.GetCursor(), first.GetCursor())
	holds(other.GetCursor() != first.GetCursor(), "another source is another event")
	equal(idsUntilCaughtUp(stage.stream(stage.gateway("oldest"), hub.address)), []string{"once", "once"})
	return ""
}

func anEphemeralEventHasNoCursor(stage *stage) string {
	hub := stage.startHub()
	publisher := stage.publisher(hub)
	reader := stage.gateway("")
	frames := stage.stream(reader, hub.address)
	idsUntilCaughtUp(frames)
	kept := stage.publish(publisher, 1)
	result := must(send(publisher, stage.event("now", func(event *pushv1.Event) { event.Ephemeral = true })))[0]
	holds(result.GetCursor() == "" && result.GetCode() == 0, "answered %v", result)
	equal(nextIDs(frames, 2), append(ids(kept), "now"))
	equal(reader.cursor, kept[0].cursor)
	equal(idsUntilCaughtUp(stage.stream(&gateway{id: "another", cursor: "oldest"}, hub.address)), ids(kept))
	return ""
}

func otherNamespacesAreNotFound(stage *stage) string {
	hub := stage.startHub()
	publisher := stage.publisher(hub)
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	_, err := publisher.Publish(ctx, &pushv1.PublishRequest{Events: []*pushv1.Event{stage.event("a")}, Namespace: "elsewhere"})
	isStatus(err, codes.NotFound, "")
	_, err = publisher.Head(ctx, &pushv1.HeadRequest{Namespace: "elsewhere"})
	isStatus(err, codes.NotFound, "")
	reader := func(namespace string) *frames {
		return stage.stream(&gateway{id: "a", more: &pushv1.GatewaySubscribeRequest{Namespace: namespace}}, hub.address)
	}
	_, err = reader("elsewhere").recv()
	isStatus(err, codes.NotFound, "")
	equal(kind(reader("default").next()), "welcome")
	return ""
}
