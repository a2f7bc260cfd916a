package network

import (
	"encoding/json"
	"net"
	"net/netip"
	"reflect"
	"testing"
)

func TestCommon(t *testing.T) {
	mac := func(last byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, last} }
	a, b, c := netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("10.2.0.0/24"),
		netip.MustParsePrefix("fd01::/64")
	gateway := netip.MustParseAddr("169.254.0.1")
	old := &Plan{Interface: "svc0", MAC: mac(1), Bridge: "br", Addresses: []netip.Prefix{a, b},
		Gateways:   []netip.Addr{gateway},
		Neighbours: []Neighbour{{gateway, mac(2)}},
		Routes:     []Route{{Destination: a, Gateway: gateway}, {Destination: b, MTU: 1400}, {Destination: c}}}
	if common := old.Common(old); !reflect.DeepEqual(common, old) {
		t.Errorf("with itself: %+v, want %+v", common, old)
	}
	edited := &Plan{Interface: "svc0", MAC: mac(3), Bridge: "other", Addresses: []netip.Prefix{b, c},
		Gateways:   []netip.Addr{gateway},
		Neighbours: []Neighbour{{gateway, mac(4)}},
		Routes:     []Route{{Destination: a, Gateway: gateway}, {Destination: b, MTU: 1300}}}
	want := &Plan{Interface: "svc0", Addresses: []netip.Prefix{b}, Gateways: []netip.Addr{gateway},
		Neighbours: []Neighbour{},
		Routes:     []Route{{Destination: a, Gateway: gateway}}}
	if common := old.Common(edited); !reflect.DeepEqual(common, want) {
		t.Errorf("with an edited plan: %+v, want %+v", common, want)
	}
	text, err := json.Marshal(old)
	if err != nil {
		t.Fatal(err)
	}
	read := new(Plan)
	if err := json.Unmarshal(text, read); err != nil || !reflect.DeepEqual(read, old) {
		t.Errorf("%s is read as %+v, %v", text, read, err)
	}
}
