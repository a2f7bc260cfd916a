package file

import (
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Form is the form of a file URL.
const Form = "file:///directory[?rescan=10s][&status=/directory]"

// Defaults of the options.
const (
	DefaultStatus = "/run/svc-supervisor/status"
	DefaultRescan = 10 * time.Second
)

const (
	minRescan     = 100 * time.Millisecond
	maxRescan     = time.Hour
	rescanAllowed = "a duration from 100ms to 1h, like 10s"
	pathAllowed   = "an absolute path of printable characters"
)

// Location is a parsed file URL.
type Location struct {
	Dir    string        // the directory of objects
	Status string        // the directory of statuses
	Rescan time.Duration // the interval of full scans, which find changes that caused no event
}

// ParseURL parses a file URL. It refuses unknown options, so that the default is not used for a misspelt one.
func ParseURL(u *url.URL) (Location, error) {
	location := Location{Status: DefaultStatus, Rescan: DefaultRescan}
	if u.Host != "" || u.User != nil || u.Opaque != "" || u.Fragment != "" {
		return location, &spec.Fault{
			Key: "URL", Value: u.Redacted(), Allowed: Form + ": three slashes, no host, no fragment",
		}
	}
	for _, option := range []string{"&rescan=", "&status="} {
		if i := strings.Index(u.Path, option); i >= 0 {
			allowed := u.Path[:i] + "?" + u.Path[i+1:] + ": ? begins the options, & separates them"
			return location, &spec.Fault{Key: "directory", Value: u.Path, Allowed: allowed}
		}
	}
	var err error
	if location.Dir, err = parsePath("directory", u.Path); err != nil {
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
		switch key {
		case "status":
			location.Status, err = parsePath(key, values[0])
		case "rescan":
			location.Rescan, err = parseRescan(values[0])
		default:
			err = &spec.Fault{Key: "option", Value: key, Allowed: "rescan, status"}
		}
		if err != nil {
			return location, err
		}
	}
	if location.Status == location.Dir {
		const allowed = "another directory than that of the objects"
		return location, &spec.Fault{Key: "status", Value: location.Status, Allowed: allowed}
	}
	return location, nil
}

func parsePath(key, path string) (string, error) {
	if !filepath.IsAbs(path) || strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", &spec.Fault{Key: key, Value: path, Allowed: pathAllowed}
	}
	return filepath.Clean(path), nil
}

func parseRescan(value string) (time.Duration, error) {
	rescan, err := time.ParseDuration(value)
	if err != nil || rescan < minRescan || rescan > maxRescan {
		return 0, &spec.Fault{Key: "rescan", Value: value, Allowed: rescanAllowed}
	}
	return rescan, nil
}
