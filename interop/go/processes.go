package main

// A running `galaxy-push hub` on ports of the loopback. Every scene has its own. Nothing here checks anything.

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	readyLimit = 20 * time.Second
	anyPort    = "127.0.0.1:0"
)

type hub struct {
	process *exec.Cmd
	ended   chan error
	// Where the gRPC listener is, and the URL of the admin listener.
	address, admin string
}

func startHub(binary, log, address string, flags []string) *hub {
	arguments := append([]string{"hub", "--hub-addr", address, "--admin-addr", anyPort, "--ready-json"}, flags...)
	process := exec.Command(binary, arguments...)
	// What the caller's shell has set for its own hub is not meant for this one.
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "GALAXY_PUSH_") {
			process.Env = append(process.Env, variable)
		}
	}
	logFile := must(os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644))
	defer logFile.Close()
	process.Stderr = logFile
	output := must(process.StdoutPipe())
	check(process.Start())
	// A hub that never gets ready is ended, so that reading its first line ends too.
	watchdog := time.AfterFunc(readyLimit, func() { process.Process.Kill() })
	reader := bufio.NewReader(output)
	firstLine, _ := reader.ReadBytes('\n')
	watchdog.Stop()
	hub := &hub{process: process, ended: make(chan error, 1)}
	go func() {
		io.Copy(io.Discard, reader)
		hub.ended <- process.Wait()
	}()
	var urls map[string]string
	if err := json.Unmarshal(firstLine, &urls); err != nil {
		hub.kill()
		panic(fmt.Sprintf("the hub did not get ready; see %s", log))
	}
	hub.address, hub.admin = strings.TrimSuffix(strings.TrimPrefix(urls["hub"], "http://"), "/"), urls["admin"]
	return hub
}

// streams is how many gateway streams are open, by the hub's own count.
func (hub *hub) streams() int {
	answer := must(http.Get(strings.TrimSuffix(hub.admin, "/") + "/metrics"))
	defer answer.Body.Close()
	for line := range strings.Lines(string(must(io.ReadAll(answer.Body)))) {
		if count, found := strings.CutPrefix(line, "push_streams "); found {
			return must(strconv.Atoi(strings.TrimSpace(count)))
		}
	}
	panic("the hub does not count its streams")
}

func (hub *hub) waitForStreams(count int) {
	waitUntil(func() bool { return hub.streams() == count }, fmt.Sprintf("the hub has %d streams", count), callLimit)
}

// terminate asks it to end, as an operator would.
func (hub *hub) terminate() {
	check(hub.process.Process.Signal(syscall.SIGTERM))
}

// endsWell waits for its end, which must be a good one.
func (hub *hub) endsWell() {
	select {
	case err := <-hub.ended:
		hub.ended <- err
		check(err)
	case <-time.After(callLimit):
		panic("the hub does not end")
	}
}

// kill ends it as a crash would.
func (hub *hub) kill() {
	hub.process.Process.Kill()
	hub.ended <- <-hub.ended
}
