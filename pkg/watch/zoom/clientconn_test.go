package zoom

import (
	"encoding/binary"
	"net"
	"testing"
	"time"
)

// opened returns a connection on which the library has opened a session, as far as the connection can see, and the
// server's end of it.
func opened(t *testing.T, session uint64) (*clientConn, net.Conn) {
	t.Helper()
	here, there := net.Pipe()
	t.Cleanup(func() { _ = here.Close(); _ = there.Close() })
	c := newClientConn(here, &dialer{greeting: time.Minute, faults: map[string]string{}}, "server")
	go func() {
		p := make([]byte, 44)
		_, _ = there.Read(p)
		_, _ = there.Write(make([]byte, 4))
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
	return c, there
}

func request(operation uint32) []byte {
	p := make([]byte, 12)
	binary.BigEndian.PutUint32(p[operationOffset:], operation)
	return p
}

func TestAnswersOfAResumedSessionAreReadAfterSetWatches(t *testing.T) {
	c, server := opened(t, 7)
	read := make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, 4))
		read <- err
	}()
	taken := make(chan struct{})
	go func() {
		_, _ = server.Write([]byte("data")) // an answer, at once
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
		t.Fatal("an answer was read before setWatches was written")
	case <-time.After(clientWait / 10):
	}
	go func() { _, _ = c.Write(request(setWatches)) }()
	<-requests
	if err := <-read; err != nil {
		t.Error(err)
	}
}

func TestAnswersOfANewSessionAreReadAtOnce(t *testing.T) {
	c, server := opened(t, 0)
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
		c, server := opened(t, 0)
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
				t.Errorf("write failed: %v: the last close is seen after %d of %d", failed, i, closes)
			default:
			}
			_ = c.Close()
		}
		select {
		case <-c.lastClose:
		default:
			t.Errorf("write failed: %v: the last close is not seen", failed)
		}
		c.awaitLastClose()
	}
}
