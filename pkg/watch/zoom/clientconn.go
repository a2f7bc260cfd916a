package zoom

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Facts of ZooKeeper's protocol. Every packet begins with its length, 4 bytes.
const (
	maxGreeting     = 1024 // bytes; a server's answer to the opening of a session has 41
	sessionIDOffset = 20   // in the packet that opens a session: length, version, last zxid (8 bytes), timeout
	operationOffset = 8    // in every later packet: length, number of the request
	setWatches      = 101  // the operation that sets the watches again
)

// clientWait bounds each wait for a step of the client library that normally follows within a millisecond.
const clientWait = time.Second

// A clientConn is one connection that the client library (go-zookeeper v1.0.4) uses. It makes up for three faults of the
// library:
//
//   - The library waits for a server that accepts connections and does not answer much longer than a session lasts.
//     Here the opening of a session has a deadline. The library sets a read deadline before the first answer, clears
//     it, and sets one again before every later answer.
//   - When it resumes a session, it reads the last transaction id for its setWatches request while answers may already
//     raise that id. With the raised id, the server does not report the changes in between. Here no answer is read
//     before that request was written.
//   - It closes "the current connection" once more after it has begun to connect again, and so may close the new one.
//     Here the next dial waits for that call.
type clientConn struct {
	net.Conn
	dialer *dialer
	server string
	opened time.Time

	// Used by one goroutine of the library after the other: its loop, and then its reader.
	deadlines int // read deadlines set so far
	answered  bool
	waited    bool // for setWatches

	// Used by the library's loop, and then by its writer.
	writes int

	watchesSet chan struct{} // closed when a reader need not wait (any more) for setWatches
	lastClose  chan struct{} // closed at the library's last call of Close

	mu          sync.Mutex
	closes      int
	writeFailed bool // the library's writer then closes the connection once more
}

func newClientConn(conn net.Conn, d *dialer, server string) *clientConn {
	return &clientConn{Conn: conn, dialer: d, server: server, opened: time.Now(),
		watchesSet: make(chan struct{}), lastClose: make(chan struct{})}
}

// opening reports whether the session has not been opened yet.
func (c *clientConn) opening() bool { return c.deadlines <= 2 }

func (c *clientConn) SetReadDeadline(t time.Time) error {
	if c.deadlines++; c.opening() {
		t = c.opened.Add(c.dialer.greeting)
	}
	return c.Conn.SetReadDeadline(t)
}

func (c *clientConn) Write(p []byte) (int, error) {
	c.writes++
	switch {
	case c.writes == 1 && len(p) >= sessionIDOffset+8:
		if binary.BigEndian.Uint64(p[sessionIDOffset:]) == 0 { // a new session has no watches
			close(c.watchesSet)
		}
	case len(p) >= operationOffset+4 && binary.BigEndian.Uint32(p[operationOffset:]) == setWatches:
		select {
		case <-c.watchesSet:
		default:
			close(c.watchesSet)
		}
	}
	n, err := c.Conn.Write(p)
	if err != nil {
		c.mu.Lock()
		c.writeFailed = true
		c.mu.Unlock()
	}
	return n, err
}

func (c *clientConn) Read(p []byte) (int, error) {
	if !c.opening() {
		return c.readAnswer(p)
	}
	n, err := c.Conn.Read(p)
	if c.answered {
		return n, err
	}
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		c.dialer.note(c.server, "it accepts connections and answers none: it hangs, or it is overloaded")
	case err != nil:
		c.dialer.note(c.server, "it accepts connections and closes them: it has no quorum, or it is no ZooKeeper")
	case n == 4 && binary.BigEndian.Uint32(p) > maxGreeting:
		c.dialer.note(c.server, "it does not speak ZooKeeper's protocol")
		return 0, fmt.Errorf("%s does not speak ZooKeeper's protocol", c.server)
	default:
		c.answered = true
	}
	return n, err
}

// readAnswer reads after the session was opened. For a session without watches, the library sends no setWatches request:
// then the wait ends after clientWait.
func (c *clientConn) readAnswer(p []byte) (int, error) {
	if !c.waited {
		c.waited = true
		limit := time.NewTimer(clientWait)
		defer limit.Stop()
		select {
		case <-c.watchesSet:
		case <-c.lastClose:
		case <-limit.C:
		}
	}
	return c.Conn.Read(p)
}

func (c *clientConn) Close() error {
	c.mu.Lock()
	c.closes++
	last := 1
	if c.writeFailed {
		last = 2
	}
	if c.closes == last {
		close(c.lastClose)
	}
	c.mu.Unlock()
	return c.Conn.Close()
}

// awaitLastClose waits until the library has called Close for the last time. It returns at once for a connection whose
// session was not opened: the library closes that one, if at all, before it dials again.
func (c *clientConn) awaitLastClose() {
	if c.opening() {
		return
	}
	limit := time.NewTimer(clientWait)
	defer limit.Stop()
	select {
	case <-c.lastClose:
	case <-limit.C:
	}
}
