package main

// Where a reader starts and what it is told. SCENES.md says what each scene must show.

import (
	"fmt"
	"strings"
	"time"

	pushv1 "galaxy/backend/proto/push/v1"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
)

var reading = map[string]scene{
	"frames_come_in_order":                     framesComeInOrder,
	"empty_starts_at_the_head":                 emptyStartsAtTheHead,
	"oldest_starts_at_the_oldest":              oldestStartsAtTheOldest,
	"head_pairs_with_a_stream":                 headPairsWithAStream,
	"a_trimmed_reader_is_told":                 aTrimmedReaderIsTold,
	"a_lost_log_is_told":                       aLostLogIsTold,
	"a_foreign_cursor_counts_as_another_epoch": aForeignCursorCountsAsAnotherEpoch,
	"a_reader_ahead_is_told":                   aReaderAheadIsTold,
	"a_malformed_cursor_is_a_told_gap":         aMalformedCursorIsAToldGap,
}

func framesComeInOrder(stage *stage) string {
	hub := stage.startHub()
	publisher := stage.publisher(hub)
	all := stage.publish(publisher, 3)
	frames := stage.stream(stage.gateway(all[0].cursor), hub.address)
	isWelcome(frames.next(), all[0].cursor, pushv1.Outcome_OUTCOME_RESUMED, func(welcome *pushv1.Welcome) {
		equal(welcome.GetHead(), all[2].cursor)
		holds(welcome.GetGeneration() > 0, "no generation")
	})
	for _, expected := range all[1:] {
		isEvent(frames.next(), expected)
	}
	caughtUp := frames.next()
	equal([]string{kind(caughtUp), caughtUp.GetCursor()}, []string{"caught_up", all[2].cursor})
	live := stage.publish(publisher, 1)
	isEvent(frames.next(), live[0])
	return ""
}

func isWelcome(frame *pushv1.PushEvent, cursor string, outcome pushv1.Outcome, more ...func(*pushv1.Welcome)) {
	equal([]string{kind(frame), frame.GetCursor()}, []string{"welcome", cursor})
	equal(frame.GetWelcome().GetOutcome(), outcome)
	for _, look := range more {
		look(frame.GetWelcome())
	}
}

func isEvent(frame *pushv1.PushEvent, expected published) {
	equal(published{frame.GetEvent().GetId(), frame.GetCursor()}, expected)
}

func isGap(frame *pushv1.PushEvent, reason pushv1.GapReason) *pushv1.Gap {
	equal(kind(frame), "gap")
	equal(frame.GetGap().GetReason(), reason)
	equal(frame.GetCursor(), frame.GetGap().GetTo())
	return frame.GetGap()
}

func emptyStartsAtTheHead(stage *stage) string {
	hub := stage.startHub()
	publisher := stage.publisher(hub)
	all := stage.publish(publisher, 3)
	frames := stage.stream(stage.gateway(""), hub.address)
	isWelcome(frames.next(), all[2].cursor, pushv1.Outcome_OUTCOME_FRESH)
	equal(idsUntilCaughtUp(frames), []string{})
	equal(ids(stage.publish(publisher, 1)), nextIDs(frames, 1))
	return ""
}

func oldestStartsAtTheOldest(stage *stage) string {
	hub := stage.startHub("--window-events", "8")
	all := stage.publish(stage.publisher(hub), 10)
	frames := stage.stream(stage.gateway("oldest"), hub.address)
	isWelcome(frames.next(), all[1].cursor, pushv1.Outcome_OUTCOME_FRESH)
	equal(idsUntilCaughtUp(frames), ids(all[2:]))
	return ""
}

func headPairsWithAStream(stage *stage) string {
	hub := stage.startHub()
	publisher := stage.publisher(hub)
	stage.publish(publisher, 5)
	cursor := head(publisher)
	later := stage.publish(publisher, 5)
	frames := stage.stream(stage.gateway(cursor), hub.address)
	isWelcome(frames.next(), cursor, pushv1.Outcome_OUTCOME_RESUMED)
	equal(idsUntilCaughtUp(frames), ids(later))
	return ""
}

func aTrimmedReaderIsTold(stage *stage) string {
	hub := stage.startHub("--window-events", "8")
	publisher := stage.publisher(hub)
	early := stage.publish(publisher, 4)
	gateway := stage.gateway(early[3].cursor)
	late := stage.publish(publisher, 20)
	frames := stage.stream(gateway, hub.address)
	isWelcome(frames.next(), early[3].cursor, pushv1.Outcome_OUTCOME_TRIMMED)
	gap := isGap(frames.next(), pushv1.GapReason_GAP_REASON_TRIMMED)
	// Missing is (from, to]: the last of the missed ones is the one before the oldest held.
	equal([]string{gap.GetFrom(), gap.GetTo()}, []string{early[3].cursor, late[11].cursor})
	equal(gap.GetCount(), uint64(12))
	frames.cancel()
	// Cut right after the Gap: its cursor crosses the hole, so it is told once and the rest follows.
	frames = stage.stream(gateway, hub.address)
	isWelcome(frames.next(), late[11].cursor, pushv1.Outcome_OUTCOME_RESUMED)
	equal(idsUntilCaughtUp(frames), ids(late[12:]))
	return ""
}

func aLostLogIsTold(stage *stage) string {
	hub := stage.startHub()
	quickly := backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, MaxDelay: 200 * time.Millisecond}
	conn := stage.dial(hub.address, grpc.WithConnectParams(grpc.ConnectParams{Backoff: quickly, MinConnectTimeout: time.Second}))
	gateway := stage.gateway("")
	frames := stage.streamOn(gateway, conn)
	equal(kind(frames.next()), "welcome")
	before := stage.publish(stage.publisher(hub), 3)
	equal(nextIDs(frames, 3), ids(before))
	hub.kill()
	_, _, err := rest(frames)
	isStatus(err, codes.Unavailable, "")
	hub = stage.startHubAt(hub.address)
	after := stage.publish(stage.publisher(hub), 3)
	frames = stage.streamOn(gateway, conn, grpc.WaitForReady(true))
	isWelcome(frames.next(), before[2].cursor, pushv1.Outcome_OUTCOME_EPOCH_CHANGED)
	isGap(frames.next(), pushv1.GapReason_GAP_REASON_EPOCH_CHANGED)
	equal(idsUntilCaughtUp(frames), ids(after))
	return ""
}

func aForeignCursorCountsAsAnotherEpoch(stage *stage) string {
	hub := stage.startHub()
	all := stage.publish(stage.publisher(hub), 2)
	frames := stage.stream(stage.gateway("9.from-the-future"), hub.address)
	isWelcome(frames.next(), "9.from-the-future", pushv1.Outcome_OUTCOME_EPOCH_CHANGED)
	isGap(frames.next(), pushv1.GapReason_GAP_REASON_EPOCH_CHANGED)
	equal(idsUntilCaughtUp(frames), ids(all))
	return ""
}

func aReaderAheadIsTold(stage *stage) string {
	hub := stage.startHub()
	publisher := stage.publisher(hub)
	last := stage.publish(publisher, 2)[1].cursor
	ahead := fmt.Sprintf("%sd%d", last[:strings.LastIndex(last, ".")+1], sequence(last)+1000)
	frames := stage.stream(stage.gateway(ahead), hub.address)
	isWelcome(frames.next(), ahead, pushv1.Outcome_OUTCOME_AHEAD)
	equal(isGap(frames.next(), pushv1.GapReason_GAP_REASON_AHEAD).GetTo(), last)
	equal(idsUntilCaughtUp(frames), []string{})
	live := stage.publish(publisher, 1)
	isEvent(frames.next(), live[0])
	return ""
}

func aMalformedCursorIsAToldGap(stage *stage) string {
	hub := stage.startHub()
	neighbour := stage.stream(&gateway{id: "neighbour"}, hub.address)
	equal(kind(neighbour.next()), "welcome")
	for _, cursor := range []string{"garbage", "Oldest", "2.2", "9 9", strings.Repeat("3", 129), strings.Repeat("3", 60_000)} {
		frames := stage.stream(stage.gateway(cursor), hub.address)
		equal(frames.next().GetWelcome().GetOutcome(), pushv1.Outcome_OUTCOME_EPOCH_CHANGED)
		equal(isGap(frames.next(), pushv1.GapReason_GAP_REASON_CURSOR_UNREADABLE).GetFrom(), "")
		equal(idsUntilCaughtUp(frames), []string{})
	}
	equal(ids(stage.publish(stage.publisher(hub), 1)), nextIDs(neighbour, 1))
	return ""
}
