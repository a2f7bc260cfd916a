package zoom

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Offsets and constants of ZooKeeper's protocol. Every packet begins with its length in 4 bytes.
const (
	maxConnectResponse = 1024 // bytes; the response to the request that opens a session has 41
	sessionIDOffset    = 20   // in the packet that opens a session: length, version, last zxid (8 bytes), timeout
	operationOffset    = 8    // in every later packet: length, number of the request
	setWatches         = 101  // the operation that sets the watches again
)

// clientWait limits each wait for a step of the client library that normally takes less than a millisecond.
const clientWait = time.Second

// A clientConn is one connection of the client library (go-zookeeper v1.0.4). It works around three faults of the
// library:
//
//   - The library waits much longer than the session timeout for a server that accepts a connection and does not
//     respond. Here opening a session has a deadline. The library sets a read deadline before the first response,
//     clears it, and sets one again before every later response.
//   - When the library resumes a session, it reads the last transaction id for its setWatches request while responses
//     may already increase that id. With the increased id, the server does not report the changes in between. Here no
//     response is read before that request was written.
//   - The library closes "the current connection" once more after it has started to reconnect, and so may close the new
//     connection. Here the next dial waits for that call.
type clientConn struct {
	net.Conn
	dialer *dialer
	server string
	opened time.Time

	// Used by one goroutine of the library at a time: first by its loop, then by its reader.
	deadlines int // read deadlines set so far
	answered  bool
	waited    bool // readAnswer has waited for setWatches

	// Used first by the library's loop, then by its writer.
	writes int

	watchesSet chan struct{} // closed when readers need not wait for setWatches
	lastClose  chan struct{} // closed by the library's last call of Close

	mu          sync.Mutex
	closes      int
	writeFailed bool // the library's writer then closes the connection a second time
}

func newClientConn(conn net.Conn, d *dialer, server string) *clientConn {
	return &clientConn{Conn: conn, dialer: d, server: server, opened: time.Now(),
		watchesSet: make(chan struct{}), lastClose: make(chan struct{})}
}

// opening reports whether the session is not open yet.
func (c *clientConn) opening() bool { return c.deadlines <= 2 }

func (c *clientConn) SetReadDeadline(t time.Time) error {
	if c.deadlines++; c.opening() {
		t = c.opened.Add(c.dialer.openTimeout)
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
		c.dialer.setFault(c.server, "accepts connections but does not respond: it hangs or is overloaded")
	case err != nil:
		c.dialer.setFault(
			c.server, "accepts connections and closes them: it has no quorum, or it is not a ZooKeeper server")
	case n == 4 && binary.BigEndian.Uint32(p) > maxConnectResponse:
		c.dialer.setFault(c.server, "does not speak ZooKeeper's protocol")
		return 0, fmt.Errorf("%s does not speak ZooKeeper's protocol", c.server)
	default:
		c.answered = true
	}
	return n, err
}

// readAnswer reads after the session was opened. If a resumed session has no watches, the library sends no setWatches
// request; the wait then ends after clientWait.
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

// awaitLastClose waits until the library has called Close for the last time. It returns immediately for a connection
// whose session was not opened: if the library closes such a connection at all, it does so before it dials again.
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
