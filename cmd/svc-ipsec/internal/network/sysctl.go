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

// The settings of conf/default are written before the interface is created, because the interface inherits them. For
// rp_filter the kernel uses the greater value of conf/all and the interface, so conf/all must be 0 too.
var (
	namespaceSettings = []setting{
		{"ipv4/conf/all/forwarding", "1"},
		{"ipv4/conf/default/forwarding", "1"},
		{"ipv6/conf/all/forwarding", "1"},
		{"ipv6/conf/default/forwarding", "1"},
	}
	interfaceSettings = []setting{
		{"ipv4/conf/%s/rp_filter", "0"},
		// Packets enter and leave through one interface. With redirects, the container would tell the router to send
		// packets to the peers directly.
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

// setting is a file below /proc/sys/net and its value. The path may contain %s for the name of an interface.
type setting struct{ form, value string }

// scope has the settings of one interface, or those of the whole namespace if iface is "".
type scope struct {
	iface string
	lists [][]setting
}

// defaultScopes are the settings that are written before the interface is created, which inherits those of `default`.
var defaultScopes = []scope{
	{"", [][]setting{namespaceSettings}},
	{"all", [][]setting{interfaceSettings, ownInterfaceSettings}},
	{"default", [][]setting{interfaceSettings, ownInterfaceSettings}},
}

// interfaceScope returns the settings of the interface in the namespace. On a runtime's interface (own is false) only
// some of them are set.
func interfaceScope(iface string, own bool) scope {
	if own {
		return scope{iface, [][]setting{interfaceSettings, ownInterfaceSettings}}
	}
	return scope{iface, [][]setting{interfaceSettings}}
}

// Sysctls are the settings of a namespace and its interfaces.
type Sysctls struct{ do inside }

// applyDefaults writes the settings of new interfaces and of the whole namespace.
func (c Sysctls) applyDefaults() error {
	return c.do(func() error {
		for _, s := range defaultScopes {
			if err := writeSettings(s.iface, s.lists...); err != nil {
				return err
			}
		}
		return nil
	})
}

// applyInterface writes the settings of one interface.
func (c Sysctls) applyInterface(iface string, own bool) error {
	return c.do(func() error { return writeSettings(iface, interfaceScope(iface, own).lists...) })
}

// Wrong returns the first setting of ADD that has another value now, or "" if there is none.
func (c Sysctls) Wrong(p *Plan) (wrong string, err error) {
	scopes := []scope{interfaceScope(p.Interface, !p.Chained)}
	if !p.Chained {
		scopes = append(scopes, defaultScopes...)
	}
	err = c.do(func() (err error) {
		wrong, err = firstWrong(scopes)
		return err
	})
	return wrong, err
}

// WrongHostSetting is like Sysctls.Wrong, for the host's end of a container's veth.
func WrongHostSetting(owner spec.Owner) (string, error) {
	return firstWrong([]scope{{string(owner.Name), [][]setting{hostSettings}}})
}

func firstWrong(scopes []scope) (wrong string, err error) {
	for _, scope := range scopes {
		for _, s := range slices.Concat(scope.lists...) {
			now, err := os.ReadFile(s.path(scope.iface))
			if errors.Is(err, fs.ErrNotExist) {
				continue // the kernel has no IPv6
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

// path returns the file of a setting.
func (s setting) path(iface string) string {
	return filepath.Join("/proc/sys/net", s.key(iface))
}

// name returns the name of a setting for sysctl(8).
func (s setting) name(iface string) string { return "net/" + s.key(iface) }

func (s setting) key(iface string) string {
	if iface == "" {
		return s.form
	}
	return fmt.Sprintf(s.form, iface)
}

func writeSettings(iface string, lists ...[]setting) error {
	for _, list := range lists {
		for _, s := range list {
			path := s.path(iface)
			now, err := os.ReadFile(path)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				continue // the kernel has no IPv6
			case err == nil && string(now) == s.value+"\n":
				continue // not written, because the file may be read-only
			}
			if err := os.WriteFile(path, []byte(s.value), 0); err != nil {
				return fmt.Errorf("set %s=%s: %w", s.name(iface), s.value, err)
			}
		}
	}
	return nil
}
