package main

// Readers that take part of the log, take small frames, or take their time. SCENES.md says what each scene must show.

import (
	"fmt"
	"slices"
	"time"

	pushv1 "galaxy/backend/proto/push/v1"

	"google.golang.org/grpc/codes"
)

var readers = map[string]scene{
	"a_small_receiver_is_told_by_a_gap":      aSmallReceiverIsToldByAGap,
	"a_filtered_reader_is_told_its_progress": aFilteredReaderIsToldItsProgress,
	"an_idle_reader_is_told_its_progress":    anIdleReaderIsToldItsProgress,
	"a_slow_reader_is_told_it_fell_behind":   aSlowReaderIsToldItFellBehind,
	"a_lapped_reader_is_told":                aLappedReaderIsTold,
	"a_large_catch_up_keeps_the_connection":  aLargeCatchUpKeepsTheConnection,
	"tiny_events_before_a_paused_reader":     tinyEventsBeforeAPausedReader,
}

// Large events, so that the few hundred KiB which travel ahead of a reader are little beside the window.
const large = 32 << 10

var smallWindow = []string{"--window-bytes", "4MiB"}

func aSmallReceiverIsToldByAGap(stage *stage) string {
	hub := stage.startHub()
	publisher := stage.publisher(hub)
	var all []published
	for _, size := range []int{100, 10_000, 100} {
		all = append(all, stage.publish(publisher, 1, data(size))...)
	}
	reader := stage.gateway("oldest")
	reader.more = &pushv1.GatewaySubscribeRequest{MaxReceiveBytes: 4096}
	frames := stage.stream(reader, hub.address)
	equal(frames.next().GetWelcome().GetLimits().GetMaxFrameBytes(), uint32(4096))
	isEvent(frames.next(), all[0])
	gap := isGap(frames.next(), pushv1.GapReason_GAP_REASON_TOO_LARGE)
	equal([]string{gap.GetFrom(), gap.GetTo()}, []string{all[0].cursor, all[1].cursor})
	equal(gap.GetCount(), uint64(1))
	frames.cancel()
	// Its cursor crosses the event, so that resuming does not meet it again.
	equal(idsUntilCaughtUp(stage.stream(reader, hub.address)), ids(all[2:]))
	tiny := &gateway{id: "tiny", more: &pushv1.GatewaySubscribeRequest{MaxReceiveBytes: 100}}
	_, err := stage.stream(tiny, hub.address).recv()
	isStatus(err, codes.InvalidArgument, "REQUEST_INVALID")
	return ""
}

func aFilteredReaderIsToldItsProgress(stage *stage) string {
	hub := stage.startHub("--window-events", "64")
	publisher := stage.publisher(hub)
	reader := stage.gateway("")
	reader.more = &pushv1.GatewaySubscribeRequest{Recipients: []string{"user:7", "topic:news.*"}}
	frames := stage.stream(reader, hub.address)
	idsUntilCaughtUp(frames)
	start := sequence(reader.cursor)
	for range 10 {
		stage.publish(publisher, 4)
	}
	// Nothing of it is for this reader, and it is told so before the window has moved past its cursor.
	equal(kind(frames.next()), "progress")
	holds(sequence(reader.cursor) > start, "the cursor did not move")
	var wanted []string
	for _, to := range [][]string{{"user:1", "user:7"}, {"topic:news.uk"}, {"user:77"}, {"all"}} {
		wanted = append(wanted, ids(stage.publish(publisher, 1, func(event *pushv1.Event) { event.To = to }))...)
	}
	equal(nextIDs(frames, 2), wanted[:2])
	for range 20 {
		stage.publish(publisher, 4)
		for sequence(reader.cursor) < stage.published-8 {
			equal(kind(frames.next()), "progress")
		}
	}
	frames.cancel()
	equal(stage.stream(reader, hub.address).next().GetWelcome().GetOutcome(), pushv1.Outcome_OUTCOME_RESUMED)
	return ""
}

func anIdleReaderIsToldItsProgress(stage *stage) string {
	hub := stage.startHub()
	all := stage.publish(stage.publisher(hub), 2)
	frames := stage.gateway("oldest").streamOn(stage.dial(hub.address), 7*time.Second)
	defer frames.cancel()
	idsUntilCaughtUp(frames)
	progress := frames.next()
	equal([]string{kind(progress), progress.GetCursor()}, []string{"progress", all[1].cursor})
	return ""
}

func aSlowReaderIsToldItFellBehind(stage *stage) string {
	hub := stage.startHub(smallWindow...)
	frames := stage.stream(stage.gateway(""), hub.address, narrow)
	idsUntilCaughtUp(frames)
	all := publishLarge(stage, hub, 10)
	var kinds, received []string
	for len(received) < len(all) {
		frame := frames.next()
		kinds = append(kinds, kind(frame))
		if kind(frame) == "event" {
			received = append(received, frame.GetEvent().GetId())
		}
	}
	equal(received, ids(all))
	holds(slices.Contains(kinds, "fell_behind"), "only told %v", slices.Compact(kinds))
	holds(!slices.Contains(kinds, "gap"), "told of a gap inside the window")
	equal(kind(frames.next()), "caught_up")
	return fmt.Sprintf("told after %d of %d events", slices.Index(kinds, "fell_behind"), len(all))
}

func publishLarge(stage *stage, hub *hub, batches int) (all []published) {
	publisher := stage.publisher(hub)
	for range batches {
		all = append(all, stage.publish(publisher, 8, data(large))...)
	}
	return all
}

func aLappedReaderIsTold(stage *stage) string {
	hub := stage.startHub(smallWindow...)
	frames := stage.stream(stage.gateway(""), hub.address, narrow)
	idsUntilCaughtUp(frames)
	all := publishLarge(stage, hub, 40)
	var gap *pushv1.Gap
	var received []string
	before := 0
	for frame := frames.next(); kind(frame) != "caught_up"; frame = frames.next() {
		switch kind(frame) {
		case "event":
			received = append(received, frame.GetEvent().GetId())
		case "gap":
			holds(gap == nil, "told of two gaps, though nobody published in between")
			gap, before = isGap(frame, pushv1.GapReason_GAP_REASON_LAPPED), len(received)
		}
	}
	holds(gap != nil, "the reader was never lapped")
	goesOn := before + int(gap.GetCount())
	equal(received, append(ids(all[:before]), ids(all[goesOn:])...))
	equal([]string{gap.GetFrom(), gap.GetTo()}, []string{all[before-1].cursor, all[goesOn-1].cursor})
	return fmt.Sprintf("%d before the gap, %d missed", before, gap.GetCount())
}

func aLargeCatchUpKeepsTheConnection(stage *stage) string {
	return readAfterAPause(stage, 200, 1000)
}

func tinyEventsBeforeAPausedReader(stage *stage) string {
	return readAfterAPause(stage, 1, 100)
}

// readAfterAPause lets the reader pause while 20,000 events are published, then read on; then another one reads them all at once.
func readAfterAPause(stage *stage, size, batch int) string {
	hub := stage.startHub()
	publisher := stage.publisher(hub)
	line := stage.line(hub)
	frames := stage.stream(stage.gateway(""), line.address)
	idsUntilCaughtUp(frames)
	var all []published
	for len(all) < 20_000 {
		all = append(all, stage.publish(publisher, batch, data(size))...)
	}
	ahead := line.down.of(dataFrame)
	equal(nextIDs(frames, len(all)), ids(all))
	check(frames.stream.Context().Err())
	equal(line.down.of(goawayFrame), 0)
	equal(idsUntilCaughtUp(stage.stream(&gateway{id: "replay", cursor: "oldest"}, hub.address)), ids(all))
	return fmt.Sprintf("%d DATA frames ahead of the paused reader, %d in all", ahead, line.down.of(dataFrame))
}
