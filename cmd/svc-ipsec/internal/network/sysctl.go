package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// The settings. Those of conf/default are made before the interface, which inherits them. The kernel uses the greater one of
// conf/all and the interface for rp_filter, so conf/all must be 0 too.
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

// setting is a file below /proc/sys/net, with %s for the name of an interface, and its value.
type setting struct{ form, value string }

// scope is the lists of settings of one interface; "" is the namespace itself.
type scope struct {
	iface string
	lists [][]setting
}

// scopesBefore are the settings that are made before the interface, which starts with those of `default`.
var scopesBefore = []scope{
	{"", [][]setting{namespaceSettings}},
	{"all", [][]setting{interfaceSettings, ownInterfaceSettings}},
	{"default", [][]setting{interfaceSettings, ownInterfaceSettings}},
}

// scopeOf is the settings of the interface inside. In a runtime's namespace few of them are ours.
func scopeOf(iface string, own bool) scope {
	if own {
		return scope{iface, [][]setting{interfaceSettings, ownInterfaceSettings}}
	}
	return scope{iface, [][]setting{interfaceSettings}}
}

// prepare sets what new interfaces start with, and what holds for the whole namespace.
func (n *Namespace) prepare() error {
	return n.do(func() error {
		for _, s := range scopesBefore {
			if err := apply(s.iface, s.lists...); err != nil {
				return err
			}
		}
		return nil
	})
}

// settle sets one interface.
func (n *Namespace) settle(iface string, own bool) error {
	return n.do(func() error { return apply(iface, scopeOf(iface, own).lists...) })
}

// WrongSetting returns the first setting that ADD makes and that has another value now, "" if there is none.
func (n *Namespace) WrongSetting(p *Plan) (wrong string, err error) {
	scopes := []scope{scopeOf(p.Interface, !p.Chained)}
	if !p.Chained {
		scopes = append(scopes, scopesBefore...)
	}
	err = n.do(func() (err error) {
		wrong, err = wrongIn(scopes)
		return err
	})
	return wrong, err
}

// WrongHostSetting is WrongSetting for the host's side of a container.
func WrongHostSetting(owner spec.Owner) (string, error) {
	return wrongIn([]scope{{string(owner.Name), [][]setting{hostSettings}}})
}

func wrongIn(scopes []scope) (wrong string, err error) {
	for _, scope := range scopes {
		for _, s := range slices.Concat(scope.lists...) {
			now, err := os.ReadFile(s.path(scope.iface))
			if errors.Is(err, fs.ErrNotExist) {
				continue // a kernel without IPv6
			}
			if err != nil {
				return "", fmt.Errorf("read setting: %w", err)
			}
			if value := strings.TrimSpace(string(now)); value != s.value {
				return fmt.Sprintf("%s is %s, not %s", s.name(scope.iface), value, s.value), nil
			}
		}
	}
	return "", nil
}

// path is the file of a setting.
func (s setting) path(iface string) string {
	return filepath.Join("/proc/sys/net", s.key(iface))
}

// name is what sysctl(8) calls the setting.
func (s setting) name(iface string) string { return "net/" + s.key(iface) }

func (s setting) key(iface string) string {
	if iface == "" {
		return s.form
	}
	return fmt.Sprintf(s.form, iface)
}

func apply(iface string, lists ...[]setting) error {
	for _, list := range lists {
		for _, s := range list {
			path := s.path(iface)
			now, err := os.ReadFile(path)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				continue // a kernel without IPv6
			case err == nil && string(now) == s.value+"\n":
				continue // it may be read-only
			}
			if err := os.WriteFile(path, []byte(s.value), 0); err != nil {
				return fmt.Errorf("set %s=%s: %w", s.name(iface), s.value, err)
			}
		}
	}
	return nil
}
