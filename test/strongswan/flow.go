package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netns"

	"github.com/svc-supervisor/svc-supervisor/internal/ownthread"
)

// interval is the time between two packets of a flow.
const interval = 50 * time.Millisecond

// in calls a function in a network namespace, on a thread of its own.
func in(namespace string, do func() error) error {
	return ownthread.Do(func() error {
		handle, err := netns.GetFromName(namespace)
		if err != nil {
			return err
		}
		defer handle.Close()
		if err := netns.Set(handle); err != nil {
			return err
		}
		return do()
	})
}

// flow sends an ICMP echo request every 50 ms and counts the answers. It is used instead of the program ping, which
// takes 150 ms to start in a guest and does not print the time of each answer.
type flow struct {
	connection net.PacketConn
	to         netip.Addr
	id         uint16
	done       chan struct{}
	sender     sync.WaitGroup

	mu       sync.Mutex
	sent     int
	answered map[uint16]bool
}

var flows atomic.Uint32

// namespaceOf returns the namespace that has an address of the topology.
func namespaceOf(a netip.Addr) string {
	for prefix, namespace := range map[string]string{"10.1.0.0/16": "site-left", "fd01::/32": "site-left",
		"100.100.100.0/24": "vpn-left", "2001:db8:1::/48": "vpn-left"} {
		if netip.MustParsePrefix(prefix).Contains(a) {
			return namespace
		}
	}
	return "peer"
}

// startFlow starts a flow between two addresses, in the namespace of the first one.
func startFlow(from, to string) (*flow, error) {
	source, err := netip.ParseAddr(from)
	if err != nil {
		return nil, err
	}
	target, err := netip.ParseAddr(to)
	if err != nil {
		return nil, err
	}
	f := &flow{to: target, id: uint16(flows.Add(1)), done: make(chan struct{}), answered: map[uint16]bool{}}
	network := "ip4:icmp"
	if source.Is6() {
		network = "ip6:ipv6-icmp"
	}
	err = in(namespaceOf(source), func() (err error) {
		f.connection, err = net.ListenPacket(network, from)
		return err
	})
	if err != nil {
		return nil, err
	}
	go f.receive()
	f.sender.Add(1)
	go f.send()
	return f, nil
}

func (f *flow) send() {
	defer f.sender.Done()
	request := make([]byte, 64)
	request[0] = 8
	if f.to.Is6() {
		request[0] = 128
	}
	binary.BigEndian.PutUint16(request[4:], f.id)
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		f.mu.Lock()
		f.sent++
		binary.BigEndian.PutUint16(request[6:], uint16(f.sent))
		f.mu.Unlock()
		if f.to.Is4() { // the kernel computes the checksum of ICMPv6
			binary.BigEndian.PutUint16(request[2:], 0)
			binary.BigEndian.PutUint16(request[2:], checksum(request))
		}
		// A request that the kernel refuses to send counts as lost, because it gets no answer.
		_, _ = f.connection.WriteTo(request, &net.IPAddr{IP: f.to.AsSlice()})
		select {
		case <-f.done:
			return
		case <-ticker.C:
		}
	}
}

func (f *flow) receive() {
	reply := byte(0)
	if f.to.Is6() {
		reply = 129
	}
	for answer := make([]byte, 1500); ; {
		n, peer, err := f.connection.ReadFrom(answer)
		if err != nil {
			return // the connection was closed
		}
		if n >= 8 && answer[0] == reply && binary.BigEndian.Uint16(answer[4:]) == f.id &&
			peer.String() == f.to.String() {
			f.mu.Lock()
			f.answered[binary.BigEndian.Uint16(answer[6:])] = true
			f.mu.Unlock()
		}
	}
}

// answers returns the number of answers so far.
func (f *flow) answers() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.answered)
}

// awaitAnswers waits until n more requests are answered.
func (f *flow) awaitAnswers(n int, limit time.Duration) error {
	before := f.answers()
	for deadline := time.Now().Add(limit); f.answers() < before+n; time.Sleep(interval) {
		if time.Now().After(deadline) {
			return fmt.Errorf("ping to %s: %d of %d answers in %.0f s", f.to, f.answers()-before, n, limit.Seconds())
		}
	}
	return nil
}

// stop ends the flow. It returns the number of requests, the number of unanswered requests, and the length of the
// longest series of unanswered ones. It waits up to 2 s for the answer to the last request.
func (f *flow) stop() (sent, lost, series int) {
	close(f.done)
	f.sender.Wait()
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(interval) {
		f.mu.Lock()
		complete := f.answered[uint16(f.sent)]
		f.mu.Unlock()
		if complete {
			break
		}
	}
	_ = f.connection.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, run := 1, 0; i <= f.sent; i++ {
		if f.answered[uint16(i)] {
			run = 0
			continue
		}
		lost++
		run++
		series = max(series, run)
	}
	return f.sent, lost, series
}

// ping waits until a request from one address to another is answered.
func ping(from, to string, limit time.Duration) error {
	f, err := startFlow(from, to)
	if err != nil {
		return err
	}
	defer f.stop()
	if err := f.awaitAnswers(1, limit); err != nil {
		return fmt.Errorf("from %s: %w", from, err)
	}
	return nil
}

// checksum returns the checksum of RFC 1071.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
