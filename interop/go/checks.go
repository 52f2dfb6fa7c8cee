package main

// How scenes say what must hold. Each check fails by a panic, which main.go catches. Knows frames and statuses, and no process.

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"time"

	pushv1 "galaxy/backend/proto/push/v1"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// No call and no wait may hang the scenes: everything here takes milliseconds, but for what says otherwise.
const callLimit = 20 * time.Second

func holds(condition bool, format string, values ...any) {
	if !condition {
		panic(fmt.Sprintf(format, values...))
	}
}

func equal(found, expected any) {
	holds(reflect.DeepEqual(found, expected), "found %v, expected %v", found, expected)
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// waitUntil asks again and again until the condition holds.
func waitUntil(condition func() bool, what string, limit time.Duration) {
	for end := time.Now().Add(limit); !condition(); time.Sleep(5 * time.Millisecond) {
		holds(time.Now().Before(end), "after %s it still does not hold that %s", limit, what)
	}
}

// kind names what a frame is, as the contract does.
func kind(frame *pushv1.PushEvent) string {
	field := frame.ProtoReflect().WhichOneof(frame.ProtoReflect().Descriptor().Oneofs().ByName("kind"))
	if field == nil {
		return ""
	}
	return string(field.Name())
}

// idsUntilCaughtUp reads the ids of the events up to CaughtUp. A Gap on the way fails.
func idsUntilCaughtUp(frames *frames) []string {
	ids := []string{}
	for {
		frame := frames.next()
		switch kind(frame) {
		case "caught_up":
			return ids
		case "gap":
			panic(fmt.Sprintf("told of a gap: %v", frame))
		case "event":
			ids = append(ids, frame.GetEvent().GetId())
		}
	}
}

func nextEvent(frames *frames) *pushv1.PushEvent {
	for {
		if frame := frames.next(); kind(frame) == "event" {
			return frame
		}
	}
}

// nextIDs reads the ids of the next so many events.
func nextIDs(frames *frames, count int) []string {
	ids := []string{}
	for len(ids) < count {
		ids = append(ids, nextEvent(frames).GetEvent().GetId())
	}
	return ids
}

// rest reads to the end, which must be a failure; returns the kinds of the frames, the last frame, and the failure.
func rest(frames *frames) (kinds []string, last *pushv1.PushEvent, err error) {
	for {
		frame, err := frames.recv()
		if err != nil {
			holds(!errors.Is(err, io.EOF), "the stream ended with OK")
			return kinds, last, err
		}
		kinds, last = append(kinds, kind(frame)), frame
	}
}

// isStatus checks a failure's code and, if a reason is given, its ErrorInfo.
func isStatus(err error, code codes.Code, reason string) {
	holds(err != nil, "answered, expected %s", code)
	found := status.Convert(err)
	holds(found.Code() == code, "found %s, expected %s: %s", found.Code(), code, found.Message())
	if reason == "" {
		return
	}
	for _, detail := range found.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			equal([]string{info.GetDomain(), info.GetReason()}, []string{"push.v1", reason})
			return
		}
	}
	panic(fmt.Sprintf("no ErrorInfo in %v", err))
}

// sequence is the position in a cursor. Clients never look; a check of the hub may.
func sequence(cursor string) int {
	return must(strconv.Atoi(cursor[strings.LastIndex(cursor, ".")+2:]))
}
