// Command user reads with github.com/coder/websocket, which leaves reconnecting to the program: the last cursor goes into the
// next connect. The ways are its arguments, NAME=URL; it tells what it was handed as one JSON line each.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
)

var telling sync.Mutex

func tell(way string, data []byte) {
	line, err := json.Marshal(map[string]string{"way": way, "type": "", "data": string(data)})
	if err != nil {
		panic(err)
	}
	telling.Lock()
	defer telling.Unlock()
	fmt.Println(string(line))
}

// read reads one connection to its end and returns the last cursor.
func read(way, edge, cursor string) string {
	ctx := context.Background()
	dialled := &websocket.DialOptions{Subprotocols: []string{"push.v1.json"}}
	link, _, err := websocket.Dial(ctx, edge+"/v1/ws", dialled)
	if err != nil {
		return cursor
	}
	defer link.CloseNow()
	connect := map[string]any{"connect": map[string]string{"user": "42", "cursor": cursor}}
	if wsjson.Write(ctx, link, connect) != nil {
		return cursor
	}
	for {
		_, data, err := link.Read(ctx)
		if err != nil {
			return cursor
		}
		tell(way, data)
		var frame struct{ Cursor string }
		if json.Unmarshal(data, &frame) == nil && frame.Cursor != "" {
			cursor = frame.Cursor
		}
	}
}

func main() {
	for _, argument := range os.Args[1:] {
		way, edge, _ := strings.Cut(argument, "=")
		go func() {
			for cursor := "oldest"; ; time.Sleep(300 * time.Millisecond) {
				cursor = read(way, edge, cursor)
			}
		}()
	}
	select {}
}
