package etcd

import (
	"net"
	"net/url"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Form is the form of the URLs of this kind of NSDB, for error messages.
const Form = "etcd://[user@]host:2379[,host:2379…][/prefix][?passwordFile=/file][&ttl=15s], " +
	"or etcds:// with [&ca=/file][&cert=/file&key=/file]"

// DefaultTTL is how long statuses outlive a supervisor that was stopped. It covers a restart of the supervisor, and the
// time until the client has left a hanging member.
const DefaultTTL = 15 * time.Second

const (
	defaultPort = "2379"
	minTTL      = 2 * time.Second // the least that etcd grants with its default election timeout
	maxTTL      = time.Hour
	ttlAllowed  = "a duration of whole seconds from 2s to 1h, like 15s"
	fileAllowed = "an absolute path of printable characters"
	hostAllowed = "host or host:port, several with commas; an IPv6 address in brackets, one only"
)

// Location is a parsed and checked URL of an etcd NSDB.
type Location struct {
	Endpoints    []string // host:port
	TLS          bool
	Prefix       string // in front of each native key, with both slashes: "/svc/"
	User         string // "": no authentication
	PasswordFile string
	CA           string // "": the CA certificates of the system
	Cert, Key    string // "": no client certificate
	TTL          time.Duration
}

// ParseURL parses and checks an etcd URL. It returns an error for every unknown option, so that a misspelt option does
// not silently get its default value. It opens no file.
func ParseURL(u *url.URL) (Location, error) {
	location := Location{TLS: u.Scheme == "etcds", TTL: DefaultTTL}
	if u.Opaque != "" || u.Fragment != "" || u.Host == "" {
		return location, &spec.Fault{Key: "URL", Value: u.Redacted(), Allowed: Form}
	}
	if _, given := u.User.Password(); given { // command lines and logs can be read by others
		const allowed = "no password in the URL; ?passwordFile=/file names the file that holds it"
		return location, &spec.Fault{Key: "URL", Value: u.Redacted(), Allowed: allowed}
	}
	location.User = u.User.Username()
	if u.User != nil && location.User == "" || !printable(location.User) {
		return location, &spec.Fault{Key: "user", Value: location.User, Allowed: "a name of printable characters"}
	}
	var err error
	if location.Endpoints, err = parseEndpoints(u.Host); err != nil {
		return location, err
	}
	// An & in a prefix always comes from an option with a wrong separator, because no tool writes such keys.
	if name, _, found := strings.Cut(u.Path, "&"); found {
		allowed := name + "?…: ? begins the options, & separates them"
		return location, &spec.Fault{Key: "prefix", Value: u.Path, Allowed: allowed}
	}
	if location.Prefix, err = parsePrefix(u.Path); err != nil {
		return location, err
	}
	options, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return location, &spec.Fault{Key: "options", Value: u.RawQuery, Allowed: Form}
	}
	files := map[string]*string{
		"passwordFile": &location.PasswordFile, "ca": &location.CA, "cert": &location.Cert, "key": &location.Key,
	}
	for key, values := range options {
		if len(values) != 1 {
			return location, &spec.Fault{Key: key, Value: strings.Join(values, " "), Allowed: "one value"}
		}
		switch file := files[key]; {
		case file != nil:
			*file, err = parseFile(key, values[0])
		case key == "ttl":
			location.TTL, err = parseTTL(values[0])
		default:
			err = &spec.Fault{Key: "option", Value: key, Allowed: "ca, cert, key, passwordFile, ttl"}
		}
		if err != nil {
			return location, err
		}
	}
	return location, location.check()
}

// check checks constraints between the options.
func (l Location) check() error {
	const ofTLS = "with etcds:// only"
	switch {
	case (l.User == "") != (l.PasswordFile == ""):
		return &spec.Fault{Key: "passwordFile", Value: l.PasswordFile, Allowed: "together with a user, as in " + Form}
	case !l.TLS && l.CA != "":
		return &spec.Fault{Key: "ca", Value: l.CA, Allowed: ofTLS}
	case !l.TLS && l.Cert != "":
		return &spec.Fault{Key: "cert", Value: l.Cert, Allowed: ofTLS}
	case !l.TLS && l.Key != "":
		return &spec.Fault{Key: "key", Value: l.Key, Allowed: ofTLS}
	case l.Cert != "" && l.Key == "":
		return &spec.Fault{Key: "cert", Value: l.Cert, Allowed: "together with key"}
	case l.Key != "" && l.Cert == "":
		return &spec.Fault{Key: "key", Value: l.Key, Allowed: "together with cert"}
	}
	return nil
}

func parseEndpoints(hosts string) (endpoints []string, err error) {
	for host := range strings.SplitSeq(hosts, ",") {
		u := url.URL{Host: host}
		port := u.Port()
		if port == "" {
			port = defaultPort
		}
		n, err := strconv.Atoi(port)
		name := u.Hostname()
		if err != nil || n < 1 || n > 65535 || name == "" || strings.HasSuffix(host, ":") || !printable(name) ||
			strings.ContainsAny(name, `/\?#@&="; `) || strings.Contains(name, ":") != strings.HasPrefix(host, "[") {
			return nil, &spec.Fault{Key: "endpoint", Value: host, Allowed: hostAllowed}
		}
		endpoints = append(endpoints, net.JoinHostPort(name, port))
	}
	return endpoints, nil
}

// parsePrefix converts a URL path to a prefix: "/svc" to "/svc/", and an empty path to "/".
func parsePrefix(p string) (string, error) {
	trimmed := strings.Trim(p, "/")
	if trimmed == "" {
		return "/", nil
	}
	if path.Clean("/"+trimmed) != "/"+trimmed || !printable(trimmed) {
		return "", &spec.Fault{Key: "prefix", Value: p, Allowed: "names of printable characters with '/' between them"}
	}
	return "/" + trimmed + "/", nil
}

func parseFile(key, file string) (string, error) {
	if !filepath.IsAbs(file) || !printable(file) {
		return "", &spec.Fault{Key: key, Value: file, Allowed: fileAllowed}
	}
	return filepath.Clean(file), nil
}

func parseTTL(value string) (time.Duration, error) {
	ttl, err := time.ParseDuration(value)
	if err != nil || ttl < minTTL || ttl > maxTTL || ttl%time.Second != 0 {
		return 0, &spec.Fault{Key: "ttl", Value: value, Allowed: ttlAllowed}
	}
	return ttl, nil
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}
