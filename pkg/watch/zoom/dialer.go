package zoom

import (
	"errors"
	"net"
	"sync"
	"time"
)

var errClosed = errors.New("the NSDB is closed")

// dialer opens the client's connections and records why the last attempts failed. The client itself waits many times
// its receive timeout, and so longer than a session lasts, for a server that accepts a connection and does not respond.
// The dialer limits that to a small part of the session timeout.
type dialer struct {
	openTimeout time.Duration // limit for opening a session

	mu     sync.Mutex
	faults map[string]string // why a server gave no session, by server
	open   *clientConn
	closed bool
}

func (d *dialer) dial(network, server string, timeout time.Duration) (net.Conn, error) {
	d.mu.Lock()
	closed, previous := d.closed, d.open
	d.mu.Unlock()
	if closed {
		return nil, errClosed
	}
	if previous != nil {
		previous.awaitLastClose()
	}
	conn, err := net.DialTimeout(network, server, min(timeout, d.openTimeout))
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.faults[server] = rootCause(err)
		return nil, err
	}
	if d.closed {
		_ = conn.Close()
		return nil, errClosed
	}
	if d.open != nil { // the client does not close it after a session has expired
		_ = d.open.Conn.Close()
	}
	d.open = newClientConn(conn, d, server)
	return d.open, nil
}

// rootCause returns the text of an error without the addresses in front of it.
func rootCause(err error) string {
	var operation *net.OpError
	if errors.As(err, &operation) && operation.Err != nil {
		if operation.Timeout() {
			return "no answer in time"
		}
		return operation.Err.Error()
	}
	return err.Error()
}

// setFault records why a server gave no session. An empty fault means that a server gave one, and clears all faults.
func (d *dialer) setFault(server, fault string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if fault == "" {
		clear(d.faults)
		return
	}
	d.faults[server] = fault
}

// fault returns why a server gave no session.
func (d *dialer) fault(server string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if fault := d.faults[server]; fault != "" {
		return fault
	}
	return "not tried yet"
}

// shutdown closes the connection so that nothing more is sent, and prevents new connections.
func (d *dialer) shutdown() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	if d.open != nil {
		_ = d.open.Conn.Close()
	}
}

// serverOrder is the client's host provider. It tries the servers one after the other, starting with the one after the
// last. Host names are resolved at each dial, so an unknown name is a failed dial. After each round of failures the
// client waits for a second.
type serverOrder struct {
	servers   []string
	next      int
	tried     int    // attempts since a server gave a session
	allFailed func() // called when all servers were tried and none gave a session
}

func (o *serverOrder) Init(servers []string) error {
	o.servers = servers
	return nil
}

func (o *serverOrder) Len() int { return len(o.servers) }

func (o *serverOrder) Next() (server string, rest bool) {
	rest = o.tried > 0 && o.tried%len(o.servers) == 0
	if rest {
		o.allFailed()
	}
	server = o.servers[o.next]
	o.next = (o.next + 1) % len(o.servers)
	o.tried++
	return server, rest
}

func (o *serverOrder) Connected() { o.tried = 0 }
