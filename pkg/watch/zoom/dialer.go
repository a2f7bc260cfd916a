package zoom

import (
	"errors"
	"net"
	"sync"
	"time"
)

var errEnded = errors.New("the NSDB is closed here")

// dialer opens the client's connections and knows why the last ones failed. The client itself gives a server that accepts
// and says nothing many times its receive time-out, longer than a session lasts; here it gets a small share.
type dialer struct {
	greeting time.Duration // until a server has answered the opening of a session

	mu     sync.Mutex
	faults map[string]string // by server: why it gave no session
	open   *clientConn
	ended  bool
}

func (d *dialer) dial(network, server string, timeout time.Duration) (net.Conn, error) {
	d.mu.Lock()
	ended, previous := d.ended, d.open
	d.mu.Unlock()
	if ended {
		return nil, errEnded
	}
	if previous != nil {
		previous.awaitLastClose()
	}
	conn, err := net.DialTimeout(network, server, min(timeout, d.greeting))
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.faults[server] = cause(err)
		return nil, err
	}
	if d.ended {
		_ = conn.Close()
		return nil, errEnded
	}
	if d.open != nil { // the client forgets to, where a session has expired
		_ = d.open.Conn.Close()
	}
	d.open = newClientConn(conn, d, server)
	return d.open, nil
}

// cause is what went wrong, without the addresses that stand before it.
func cause(err error) string {
	var operation *net.OpError
	if errors.As(err, &operation) && operation.Err != nil {
		if operation.Timeout() {
			return "no answer in time"
		}
		return operation.Err.Error()
	}
	return err.Error()
}

// note keeps why a server gave no session; "" that it did.
func (d *dialer) note(server, fault string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if fault == "" {
		clear(d.faults)
		return
	}
	d.faults[server] = fault
}

// fault is why a server gave no session.
func (d *dialer) fault(server string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if fault := d.faults[server]; fault != "" {
		return fault
	}
	return "not tried yet"
}

// end breaks the connection, so that nothing more is said in it, and opens no other.
func (d *dialer) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended = true
	if d.open != nil {
		_ = d.open.Conn.Close()
	}
}

// order tries the servers one after the other, beginning with the one after the last. Names are resolved at each dial: one
// that is not known yet is a failed dial. The client rests for a second whenever all of them were tried.
type order struct {
	servers []string
	next    int
	tried   int    // since one gave a session
	around  func() // all servers were tried, and none gave one
}

func (o *order) Init(servers []string) error {
	o.servers = servers
	return nil
}

func (o *order) Len() int { return len(o.servers) }

func (o *order) Next() (server string, rest bool) {
	rest = o.tried > 0 && o.tried%len(o.servers) == 0
	if rest {
		o.around()
	}
	server = o.servers[o.next]
	o.next = (o.next + 1) % len(o.servers)
	o.tried++
	return server, rest
}

func (o *order) Connected() { o.tried = 0 }
