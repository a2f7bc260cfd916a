package server

import (
	"io"
	"net"
	"testing"
	"time"
)

func TestRelayHoldsDataBackWhileItIsCut(t *testing.T) {
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() {
		for {
			conn, err := echo.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
	relay := NewRelay(t, []string{echo.Addr().String()}, func(r *Relay, to, from net.Conn, _ bool) {
		buffer := make([]byte, 100)
		for {
			n, err := from.Read(buffer)
			if err != nil || !r.WaitOpen(from) {
				return
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
	})
	client, err := net.Dial("tcp", relay.Endpoints[0])
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	answer := make([]byte, 1)
	receive := func(limit time.Duration) error {
		if err := client.SetReadDeadline(time.Now().Add(limit)); err != nil {
			return err
		}
		_, err := client.Read(answer)
		return err
	}
	send := func(text string) {
		t.Helper()
		if _, err := client.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	send("a")
	if err := receive(time.Minute); err != nil {
		t.Fatal(err)
	}
	relay.Cut()
	send("b")
	if err := receive(50 * time.Millisecond); err == nil {
		t.Error("data went through a relay that is cut")
	}
	relay.Mend()
	if err := receive(time.Minute); err != nil || answer[0] != 'b' {
		t.Errorf("after Mend: %q, %v", answer, err)
	}
	relay.Cut()
	send("c")
	relay.Drop()
	if err := receive(time.Minute); err == nil {
		t.Error("a dropped connection is open")
	}
}
