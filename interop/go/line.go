package main

// A relay between one client and one server that can be cut, reset or frozen, and that counts HTTP/2 frames. Nothing here checks
// anything.

import (
	"encoding/binary"
	"net"
	"sync"
	"sync/atomic"
)

const (
	dataFrame   = 0
	pingFrame   = 6
	goawayFrame = 7
	ackFlag     = 1
	preface     = len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	headBytes   = 9
)

// A line takes one connection; dialling again must not resurrect a line that was cut.
type line struct {
	address  string
	listener net.Listener
	reset    bool
	frozen   atomic.Bool
	closed   chan struct{}
	up, down *frameCounts

	lock sync.Mutex
	ends []*net.TCPConn
}

// openLine makes a line that is cut after so many bytes from the server, in the middle of whatever they are; below 0: never.
func openLine(server string, cutAfter int, reset bool) *line {
	listener := must(net.Listen("tcp", anyPort))
	line := &line{
		address: listener.Addr().String(), listener: listener, reset: reset, closed: make(chan struct{}),
		up: &frameCounts{skip: preface}, down: &frameCounts{},
	}
	go line.accept(server, cutAfter)
	return line
}

func (line *line) accept(server string, cutAfter int) {
	client, err := line.listener.Accept()
	line.listener.Close()
	if err != nil {
		return // closed before anybody came
	}
	up, err := net.Dial("tcp", server)
	if err != nil {
		client.Close()
		return
	}
	line.lock.Lock()
	line.ends = []*net.TCPConn{client.(*net.TCPConn), up.(*net.TCPConn)}
	line.lock.Unlock()
	go line.pass(client, up, line.up, -1)
	line.pass(up, client, line.down, cutAfter)
}

func (line *line) pass(source, sink net.Conn, counts *frameCounts, bytesLeft int) {
	buffer := make([]byte, 64<<10)
	for bytesLeft != 0 {
		room := buffer
		if bytesLeft > 0 {
			room = buffer[:min(bytesLeft, len(buffer))]
		}
		read, err := source.Read(room)
		if line.frozen.Load() {
			<-line.closed
			return
		}
		counts.count(room[:read])
		if _, failed := sink.Write(room[:read]); failed != nil || err != nil {
			break
		}
		if bytesLeft > 0 {
			bytesLeft -= read
		}
	}
	line.cut()
}

// freeze lets nothing pass from now on, and tells nobody.
func (line *line) freeze() {
	line.frozen.Store(true)
}

func (line *line) cut() {
	line.lock.Lock()
	defer line.lock.Unlock()
	for _, end := range line.ends {
		if line.reset {
			end.SetLinger(0) // closing then sends RST in place of FIN
		}
		end.Close()
	}
}

func (line *line) close() {
	close(line.closed)
	line.listener.Close()
	line.cut()
}

// frameCounts counts the HTTP/2 frames of one direction by their type, without acknowledgements of pings.
type frameCounts struct {
	lock   sync.Mutex
	counts [256]int
	skip   int
	head   []byte
}

func (counts *frameCounts) of(kind int) int {
	counts.lock.Lock()
	defer counts.lock.Unlock()
	return counts.counts[kind]
}

func (counts *frameCounts) count(data []byte) {
	counts.lock.Lock()
	defer counts.lock.Unlock()
	for len(data) > 0 {
		if counts.skip > 0 {
			passed := min(counts.skip, len(data))
			counts.skip -= passed
			data = data[passed:]
			continue
		}
		wanted := min(headBytes-len(counts.head), len(data))
		counts.head, data = append(counts.head, data[:wanted]...), data[wanted:]
		if len(counts.head) < headBytes {
			return
		}
		kind, flags := counts.head[3], counts.head[4]
		if kind != pingFrame || flags&ackFlag == 0 {
			counts.counts[kind]++
		}
		counts.skip = int(binary.BigEndian.Uint32(counts.head) >> 8)
		counts.head = counts.head[:0]
	}
}
