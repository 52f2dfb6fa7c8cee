package main

// One stream for each gateway id. SCENES.md says what each scene must show.

import (
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
)

var fencing = map[string]scene{
	"a_second_subscriber_fences_the_first": aSecondSubscriberFencesTheFirst,
	"replacement_works_both_ways":          replacementWorksBothWays,
	"the_last_old_client_always_wins":      theLastOldClientAlwaysWins,
	"a_bad_gateway_id_is_refused":          aBadGatewayIDIsRefused,
}

const takeovers = 8

func aSecondSubscriberFencesTheFirst(stage *stage) string {
	hub := stage.startHub()
	publisher := stage.publisher(hub)
	older := stage.stream(stage.gateway(""), hub.address)
	// The first is accepted before the second asks.
	generation := older.next().GetWelcome().GetGeneration()
	newer := stage.stream(stage.gateway(""), hub.address)
	holds(newer.next().GetWelcome().GetGeneration() > generation, "the generation did not rise")
	all := stage.publish(publisher, 1)
	endsReplaced(older)
	equal(nextIDs(newer, 1), ids(all))
	return ""
}

// endsReplaced says that the stream must end ABORTED and REPLACED, without another event.
func endsReplaced(frames *frames) {
	kinds, _, err := rest(frames)
	isStatus(err, codes.Aborted, "REPLACED")
	holds(!slices.Contains(kinds, "event"), "the fenced stream got an event")
}

func replacementWorksBothWays(stage *stage) string {
	hub := stage.startHub()
	publisher := stage.publisher(hub)
	a, b := stage.gateway("oldest"), stage.gateway("oldest")
	received := map[*gateway][]string{}
	others := stage.stream(&gateway{id: "somebody-else"}, hub.address)
	equal(kind(others.next()), "welcome")
	var all []string
	var current *frames
	for _, gateway := range []*gateway{a, b, a, b} {
		frames := stage.stream(gateway, hub.address)
		equal(kind(frames.next()), "welcome")
		if current != nil {
			endsReplaced(current)
		}
		all = append(all, ids(stage.publish(publisher, 1))...)
		// It goes on where it was: what the other one read meanwhile comes first.
		received[gateway] = append(received[gateway], nextIDs(frames, len(all)-len(received[gateway]))...)
		equal(received[gateway], all)
		equal(nextIDs(others, 1), all[len(all)-1:])
		current = frames
	}
	return ""
}

func theLastOldClientAlwaysWins(stage *stage) string {
	hub := stage.startHub()
	var streams []*frames
	for range 1 + takeovers {
		frames := stage.stream(stage.gateway(""), hub.address)
		equal(kind(frames.next()), "welcome")
		streams = append(streams, frames)
	}
	for _, older := range streams[:takeovers] {
		endsReplaced(older)
	}
	equal(ids(stage.publish(stage.publisher(hub), 1)), nextIDs(streams[takeovers], 1))
	hub.waitForStreams(1)
	return ""
}

func aBadGatewayIDIsRefused(stage *stage) string {
	hub := stage.startHub()
	for _, id := range []string{"", strings.Repeat("x", 256), "two words"} {
		_, err := stage.stream(&gateway{id: id}, hub.address).recv()
		isStatus(err, codes.InvalidArgument, "REQUEST_INVALID")
	}
	equal(hub.streams(), 0)
	return ""
}
