package zoom

import (
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/model"
)

// Form is what a URL of this kind looks like.
const Form = "zk://host:2181[,host:2181…][/root][?container=leave][&sessionTimeout=30s][&rescan=5m]"

// The defaults of the options. The session outlives a restart of the supervisor; the longer it is, the later the scheduler
// hears of a host that died (MidoNet's own is 30 s for objects, 5 s for the host's node).
const (
	DefaultPort           = "2181"
	DefaultSessionTimeout = 30 * time.Second
	DefaultRescan         = 5 * time.Minute
)

const (
	timeoutLeast, timeoutMost = time.Second, 2 * time.Minute
	rescanLeast, rescanMost   = 100 * time.Millisecond, time.Hour
)

// Location is what a URL names.
type Location struct {
	Servers        []string // host:port
	Tree           model.Tree
	LeaveContainer bool          // the host's `container` node is a patched agent's
	SessionTimeout time.Duration // asked for; the servers have limits of their own
	Rescan         time.Duration // the longest time until a change is seen that no event told of
}

// Endpoint names the location in logs and errors.
func (l Location) Endpoint() string { return "zk://" + strings.Join(l.Servers, ",") + l.Tree.Root() }

// ParseURL reads a zk URL. Every option that it does not know is refused: a misspelt one must not be the default.
func ParseURL(u *url.URL) (Location, error) {
	location := Location{SessionTimeout: DefaultSessionTimeout, Rescan: DefaultRescan}
	if u.User != nil || u.Opaque != "" || u.Fragment != "" {
		return location, &spec.Fault{Key: "URL", Value: u.Redacted(), Allowed: Form + ": no user, no fragment"}
	}
	for server := range strings.SplitSeq(u.Host, ",") {
		server, err := parseServer(server)
		if err != nil {
			return location, err
		}
		location.Servers = append(location.Servers, server)
	}
	var err error
	if location.Tree, err = model.ParseRoot(u.Path); err != nil {
		return location, err
	}
	options, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return location, &spec.Fault{Key: "options", Value: u.RawQuery, Allowed: Form}
	}
	for key, values := range options {
		if len(values) != 1 {
			return location, &spec.Fault{Key: key, Value: strings.Join(values, " "), Allowed: "one value"}
		}
		if err := location.parseOption(key, values[0]); err != nil {
			return location, err
		}
	}
	return location, nil
}

func (l *Location) parseOption(key, value string) (err error) {
	switch key {
	case "container":
		if value != "leave" {
			return &spec.Fault{Key: key, Value: value, Allowed: "leave: the agent writes the host's container node"}
		}
		l.LeaveContainer = true
	case "sessionTimeout":
		l.SessionTimeout, err = parseTime(key, value, timeoutLeast, timeoutMost)
	case "rescan":
		l.Rescan, err = parseTime(key, value, rescanLeast, rescanMost)
	default:
		err = &spec.Fault{Key: "option", Value: key, Allowed: "container, rescan, sessionTimeout"}
	}
	return err
}

const serverAllowed = "host:port, like zk1:2181 or [2001:db8::1]:2181, several of them with commas"

func parseServer(server string) (string, error) {
	fault := &spec.Fault{Key: "server", Value: server, Allowed: serverAllowed}
	host, port, err := net.SplitHostPort(server)
	if err != nil {
		host, port = strings.Trim(server, "[]"), DefaultPort
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 || host == "" {
		return "", fault
	}
	if strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("/@?#[]", r) }) {
		return "", fault
	}
	return net.JoinHostPort(host, port), nil
}

func parseTime(key, value string, least, most time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(value)
	if err != nil || d < least || d > most {
		return 0, &spec.Fault{Key: key, Value: value, Allowed: "a time from " + least.String() + " to " + most.String() + ", like 30s"}
	}
	return d, nil
}
