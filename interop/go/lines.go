package main

// Broken lines: whatever happens to a connection, every event comes once and in order. SCENES.md says what each scene must show.

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var lines = map[string]scene{
	"resumes_across_cancelled_calls":   resumesAcrossCancelledCalls,
	"resumes_across_cut_connections":   resumesAcrossCutConnections,
	"resumes_across_reset_connections": resumesAcrossResetConnections,
	"resumes_across_a_half_open_line":  resumesAcrossAHalfOpenLine,
}

const (
	cuts    = 9
	noLimit = -1
)

func resumesAcrossCancelledCalls(stage *stage) string {
	return cutAndResume(stage, func(hub *hub, random *rand.Rand) (string, int) { return hub.address, 1 + random.IntN(39) })
}

func resumesAcrossCutConnections(stage *stage) string {
	return cutAndResume(stage, func(hub *hub, random *rand.Rand) (string, int) {
		return stage.lineCutAfter(hub, 200+random.IntN(5800), false).address, noLimit
	})
}

func resumesAcrossResetConnections(stage *stage) string {
	return cutAndResume(stage, func(hub *hub, random *rand.Rand) (string, int) {
		return stage.lineCutAfter(hub, 200+random.IntN(5800), true).address, noLimit
	})
}

// cutAndResume reads while somebody publishes, over connections that nextCut spoils: an address, and after how many frames to cut.
func cutAndResume(stage *stage, nextCut func(*hub, *rand.Rand) (string, int)) string {
	hub := stage.startHub()
	gateway := stage.gateway("")
	first := stage.stream(gateway, hub.address)
	equal(kind(first.next()), "welcome") // from here on, nothing may be lost
	first.cancel()
	publisher := stage.publisher(hub)
	enough, publishedIDs := make(chan struct{}), make(chan any, 1)
	go func() {
		defer func() {
			if failure := recover(); failure != nil {
				publishedIDs <- failure
			}
		}()
		all := []string{}
		// Until the last cut: a line that is cut after so many bytes needs somebody who sends them.
		for tick := time.Tick(5 * time.Millisecond); ; <-tick {
			select {
			case <-enough:
				publishedIDs <- all
				return
			default:
				all = append(all, ids(stage.publish(publisher, 4))...)
			}
		}
	}()
	random := rand.New(rand.NewPCG(7, 7))
	received := []string{}
	for range cuts {
		address, framesLeft := nextCut(hub, random)
		received = append(received, readUntilCut(stage.stream(gateway, address), framesLeft)...)
	}
	close(enough)
	expected, ok := (<-publishedIDs).([]string)
	holds(ok, "publishing failed")
	received = append(received, idsUntilCaughtUp(stage.stream(gateway, hub.address))...)
	holds(len(expected) > 100, "only %d events were published", len(expected))
	equal(received, expected)
	return fmt.Sprintf("%d events over %d cuts", len(received), cuts)
}

// readUntilCut reads so many frames and cuts, or reads until the line is cut; what was read counts as handled.
func readUntilCut(frames *frames, framesLeft int) (received []string) {
	defer frames.cancel()
	for ; framesLeft != 0; framesLeft-- {
		frame, err := frames.recv()
		if err != nil {
			holds(status.Code(err) != codes.DeadlineExceeded, "the line was never cut")
			return received
		}
		switch kind(frame) {
		case "gap":
			panic("told of a gap inside the window")
		case "event":
			received = append(received, frame.GetEvent().GetId())
		}
	}
	return received
}

func resumesAcrossAHalfOpenLine(stage *stage) string {
	hub := stage.startHub()
	publisher := stage.publisher(hub)
	gateway := stage.gateway("")
	line := stage.line(hub)
	frames := stage.stream(gateway, line.address, pinging...)
	equal(kind(frames.next()), "welcome")
	equal(ids(stage.publish(publisher, 3)), nextIDs(frames, 3))
	line.freeze()
	missed := stage.publish(publisher, 3)
	kinds, _, err := rest(frames)
	isStatus(err, codes.Unavailable, "")
	holds(!slices.Contains(kinds, "event"), "an event passed a frozen line")
	// The hub has not noticed anything: for it the older stream is still open.
	equal(hub.streams(), 1)
	frames = stage.stream(gateway, hub.address)
	equal(kind(frames.next()), "welcome")
	equal(idsUntilCaughtUp(frames), ids(missed))
	hub.waitForStreams(1)
	return ""
}
