package lookup

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestNamesAreResolvedConcurrently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		answers := Names(t.Context(), func(ctx context.Context, network, name string) ([]netip.Addr, error) {
			if network != "ip4" {
				t.Errorf("network %s, want ip4", network)
			}
			switch name {
			case "slow":
				time.Sleep(2 * time.Second)
				return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
			case "none":
				return nil, &net.DNSError{Err: "no such host", Name: name, Server: "192.0.2.53:53", IsNotFound: true}
			case "refused":
				text := "read udp 127.0.0.1:34567->127.0.0.1:53: read: connection refused"
				return nil, &net.DNSError{Err: text, Name: name, Server: "192.0.2.53:53", IsTemporary: true}
			case "unreachable":
				text := "dial udp 192.0.2.53:53: connect: network is unreachable"
				return nil, &net.DNSError{Err: text, Name: name, Server: "192.0.2.53:53", IsTemporary: true}
			case "broken":
				return nil, errors.New("no resolver here")
			}
			<-ctx.Done()
			return nil, &net.DNSError{Err: "i/o timeout", Name: name, IsTimeout: true}
		}, "ip4", []string{"slow", "none", "timeout-1", "timeout-2", "broken", "refused", "unreachable"})
		if took := time.Since(start); took != lookupTimeout {
			t.Errorf("Names took %s, want %s", took, lookupTimeout)
		}
		for name, fault := range map[string]string{
			"slow": "", "none": "no such host", "timeout-1": "no answer from DNS", "timeout-2": "no answer from DNS",
			"broken": "no resolver here", "refused": "connection refused", "unreachable": "network is unreachable",
		} {
			if answers[name].Fault != fault || (len(answers[name].Addresses) == 1) != (fault == "") {
				t.Errorf("%s: %+v", name, answers[name])
			}
		}
	})
}

func TestUnusableAddressesAreDropped(t *testing.T) {
	given := []netip.Addr{}
	for _, s := range []string{
		"2001:db8::1", "::ffff:192.0.2.2", "192.0.2.1", "192.0.2.2",
		"127.0.0.1", "::1", "0.0.0.0", "224.0.0.1", "fe80::1", "169.254.0.1",
	} {
		given = append(given, netip.MustParseAddr(s))
	}
	want := []netip.Addr{
		netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::1"),
	}
	if a := answer(given, nil); a.Fault != "" || !slices.Equal(a.Addresses, want) {
		t.Errorf("got %+v", a)
	}
	if a := answer(given[4:], nil); a.Fault == "" {
		t.Errorf("got %+v", a)
	}
}
