package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Settings of the namespace, in order. `default` comes before the interface is made, so that it starts with them; a
// setting for `all` that is a maximum (rp_filter) is taken back to 0, since MidoNet's left the interface filtered.
var (
	namespaceSettings = []setting{
		{"ipv4/conf/all/forwarding", "1"},
		{"ipv4/conf/default/forwarding", "1"},
		{"ipv6/conf/all/forwarding", "1"},
		{"ipv6/conf/default/forwarding", "1"},
	}
	interfaceSettings = []setting{
		{"ipv4/conf/%s/rp_filter", "0"},
		// Traffic comes and goes by one interface: without this the router is told to talk to the peers itself.
		{"ipv4/conf/%s/send_redirects", "0"},
		{"ipv4/conf/%s/accept_redirects", "0"},
		{"ipv6/conf/%s/accept_redirects", "0"},
	}
	ownInterfaceSettings = []setting{
		{"ipv4/conf/%s/accept_source_route", "0"},
		{"ipv4/conf/%s/promote_secondaries", "1"},
		{"ipv6/conf/%s/accept_ra", "0"},
		{"ipv6/conf/%s/autoconf", "0"},
	}
	hostSettings = []setting{
		{"ipv4/conf/%s/accept_redirects", "0"},
		{"ipv6/conf/%s/accept_redirects", "0"},
		{"ipv6/conf/%s/accept_ra", "0"},
	}
)

type setting struct{ key, value string }

// prepare sets what new interfaces start with.
func (n *Namespace) prepare() error {
	return n.do(func() error {
		if err := apply("", namespaceSettings); err != nil {
			return err
		}
		for _, name := range []string{"all", "default"} {
			if err := apply(name, interfaceSettings, ownInterfaceSettings); err != nil {
				return err
			}
		}
		return nil
	})
}

// settle sets one interface.
func (n *Namespace) settle(iface string, own bool) error {
	return n.do(func() error {
		if own {
			return apply(iface, interfaceSettings, ownInterfaceSettings)
		}
		return apply(iface, interfaceSettings)
	})
}

func apply(iface string, lists ...[]setting) error {
	for _, list := range lists {
		for _, s := range list {
			key := s.key
			if iface != "" {
				key = fmt.Sprintf(s.key, iface)
			}
			path := filepath.Join("/proc/sys/net", key)
			err := os.WriteFile(path, []byte(s.value), 0)
			if errors.Is(err, fs.ErrNotExist) {
				continue // a kernel without IPv6
			}
			if err != nil {
				if now, readErr := os.ReadFile(path); readErr == nil && string(now) == s.value+"\n" {
					continue // read-only, and right
				}
				return fmt.Errorf("set %s=%s: %w", key, s.value, err)
			}
		}
	}
	return nil
}
