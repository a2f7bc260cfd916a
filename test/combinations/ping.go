package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netns"

	"github.com/svc-supervisor/svc-supervisor/internal/ownthread"
)

// inNamespace runs a function in a network namespace.
func inNamespace(namespace string, do func() error) error {
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

// ping sends one echo request from an address in a namespace and waits for the reply. It does not run a program,
// because that takes 150 ms in a guest. number is the sequence number, by which the reply is matched to the request.
func ping(namespace string, from, to netip.Addr, number int, limit time.Duration) error {
	return inNamespace(namespace, func() error {
		network, request, reply := "ip4:icmp", byte(8), byte(0)
		if from.Is6() {
			network, request, reply = "ip6:ipv6-icmp", 128, 129
		}
		connection, err := net.ListenPacket(network, from.String())
		if err != nil {
			return err
		}
		defer func() { _ = connection.Close() }()
		echo := make([]byte, 64)
		echo[0] = request
		binary.BigEndian.PutUint16(echo[4:], uint16(os.Getpid()))
		binary.BigEndian.PutUint16(echo[6:], uint16(number))
		if from.Is4() { // the kernel computes the checksum of ICMPv6
			binary.BigEndian.PutUint16(echo[2:], checksum(echo))
		}
		if _, err := connection.WriteTo(echo, &net.IPAddr{IP: to.AsSlice()}); err != nil {
			return err
		}
		if err := connection.SetReadDeadline(time.Now().Add(limit)); err != nil {
			return err
		}
		for answer := make([]byte, 1500); ; {
			n, peer, err := connection.ReadFrom(answer)
			if err != nil {
				return fmt.Errorf("ping %s from %s: %w", to, from, err)
			}
			if n == len(echo) && answer[0] == reply && peer.String() == to.String() &&
				string(answer[4:n]) == string(echo[4:]) {
				return nil
			}
		}
	})
}

// checksum returns the Internet checksum (RFC 1071).
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
