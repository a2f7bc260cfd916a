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

// Form is the form of the URLs of this kind of NSDB, for error messages.
const Form = "zk://host:2181[,host:2181…][/root][?container=leave][&sessionTimeout=30s][&rescan=5m]"

// The defaults of the options. The session must outlive a restart of the supervisor. The longer its timeout is, the
// later the scheduler learns of a host that died. (MidoNet's own timeouts are 30 s for objects and 5 s for the host's
// node.)
const (
	DefaultPort           = "2181"
	DefaultSessionTimeout = 30 * time.Second
	DefaultRescan         = 5 * time.Minute
)

const (
	minTimeout, maxTimeout = time.Second, 2 * time.Minute
	minRescan, maxRescan   = 100 * time.Millisecond, time.Hour
)

// Location is a parsed and checked URL of a ZooKeeper NSDB.
type Location struct {
	Servers        []string // host:port
	Tree           model.Tree
	LeaveContainer bool          // a patched agent writes the host's `container` node
	SessionTimeout time.Duration // requested; the servers have their own limits
	Rescan         time.Duration // the longest time until a change without an event is detected
}

// Endpoint returns the location for log messages and errors.
func (l Location) Endpoint() string { return "zk://" + strings.Join(l.Servers, ",") + l.Tree.Root() }

// ParseURL parses and checks a zk URL. It returns an error for every unknown option, so that a misspelt option does not
// silently get its default value.
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
		l.SessionTimeout, err = parseTime(key, value, minTimeout, maxTimeout)
	case "rescan":
		l.Rescan, err = parseTime(key, value, minRescan, maxRescan)
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
	if strings.ContainsFunc(host, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune("/@?#[]", r)
	}) {
		return "", fault
	}
	return net.JoinHostPort(host, port), nil
}

func parseTime(key, value string, lower, upper time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(value)
	if err != nil || d < lower || d > upper {
		allowed := "a time from " + lower.String() + " to " + upper.String() + ", like 30s"
		return 0, &spec.Fault{Key: key, Value: value, Allowed: allowed}
	}
	return d, nil
}
