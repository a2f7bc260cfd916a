package zoom

import (
	"encoding/binary"
	"net"
	"testing"
	"time"
)

// openedConn returns a connection that looks as if the library had opened a session on it, and the server's end of it.
func openedConn(t *testing.T, session uint64) (*clientConn, net.Conn) {
	t.Helper()
	local, remote := net.Pipe()
	t.Cleanup(func() { _ = local.Close(); _ = remote.Close() })
	c := newClientConn(local, &dialer{openTimeout: time.Minute, faults: map[string]string{}}, "server")
	go func() {
		p := make([]byte, 44)
		_, _ = remote.Read(p)
		_, _ = remote.Write(make([]byte, 4))
	}()
	request := make([]byte, 44)
	binary.BigEndian.PutUint64(request[sessionIDOffset:], session)
	if _, err := c.Write(request); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_ = c.SetReadDeadline(time.Time{})
	}
	if _, err := c.Read(make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Time{})
	return c, remote
}

func request(operation uint32) []byte {
	p := make([]byte, 12)
	binary.BigEndian.PutUint32(p[operationOffset:], operation)
	return p
}

func TestResponsesOfAResumedSessionAreReadAfterSetWatches(t *testing.T) {
	c, server := openedConn(t, 7)
	read := make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, 4))
		read <- err
	}()
	taken := make(chan struct{})
	go func() {
		_, _ = server.Write([]byte("data")) // an immediate response
		close(taken)
	}()
	requests := make(chan []byte)
	go func() {
		for {
			p := make([]byte, 12)
			if _, err := server.Read(p); err != nil {
				return
			}
			requests <- p
		}
	}()
	go func() { _, _ = c.Write(request(4)) }()
	<-requests
	select {
	case <-taken:
		t.Fatal("a response was read before setWatches was written")
	case <-time.After(clientWait / 10):
	}
	go func() { _, _ = c.Write(request(setWatches)) }()
	<-requests
	if err := <-read; err != nil {
		t.Error(err)
	}
}

func TestResponsesOfANewSessionAreReadAtOnce(t *testing.T) {
	c, server := openedConn(t, 0)
	go func() { _, _ = server.Write([]byte("data")) }()
	start := time.Now()
	if _, err := c.Read(make([]byte, 4)); err != nil {
		t.Error(err)
	}
	select {
	case <-c.watchesSet:
	default:
		t.Error("a new session waits for setWatches")
	}
	t.Log(time.Since(start))
}

func TestTheNextDialWaitsForTheLastClose(t *testing.T) {
	for _, failed := range []bool{false, true} {
		c, server := openedConn(t, 0)
		closes := 1
		if failed {
			_ = server.Close()
			if _, err := c.Write(request(4)); err == nil {
				t.Fatal("the write did not fail")
			}
			closes = 2
		}
		for i := range closes {
			select {
			case <-c.lastClose:
				t.Errorf("write failed: %v: lastClose was closed after %d of %d calls", failed, i, closes)
			default:
			}
			_ = c.Close()
		}
		select {
		case <-c.lastClose:
		default:
			t.Errorf("write failed: %v: lastClose was not closed", failed)
		}
		c.awaitLastClose()
	}
}
