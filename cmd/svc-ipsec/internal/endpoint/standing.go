package endpoint

import (
	"bytes"
	"maps"
	"slices"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/render"
	"github.com/svc-supervisor/svc-supervisor/internal/lazyregexp"
)

// Chosen returns the connections that an ADD chose to run: their aliases, by their places in the configuration.
func Chosen(wanted []*config.Connection) map[string]string {
	chosen := map[string]string{}
	for _, connection := range wanted {
		chosen[connection.Place()] = connection.Alias()
	}
	return chosen
}

// CompareLoaded returns a function that reports whether a connection of the given configuration already runs, and
// whether it runs unchanged. loaded has the texts of the conns that the daemon has; chosen has the connections that the
// last successful ADD chose.
func CompareLoaded(loaded map[string][]byte, chosen map[string]string) func(*config.Connection) config.Standing {
	known := slices.Collect(maps.Values(chosen))
	return func(c *config.Connection) config.Standing {
		unchanged := func(p config.Pair) bool {
			return bytes.Equal(loaded[p.Conn], render.Conn(c, p)) ||
				bytes.Equal(loaded[p.Conn], render.FormerConn(c, p))
		}
		switch {
		case !slices.ContainsFunc(c.Pairs(), func(p config.Pair) bool { return !unchanged(p) }):
			return config.Unchanged
		case slices.Contains(known, c.Alias()) || runsConn(loaded, c.Alias()):
			return config.Edited
		default:
			return config.New
		}
	}
}

// CompareLastADD is like CompareLoaded for the configuration of the last successful ADD: what that ADD chose runs
// unchanged.
func CompareLastADD(loaded map[string][]byte, chosen map[string]string) func(*config.Connection) config.Standing {
	now := CompareLoaded(loaded, chosen)
	if len(chosen) == 0 {
		return now
	}
	return func(c *config.Connection) config.Standing {
		if chosen[c.Place()] == c.Alias() {
			return config.Unchanged
		}
		return min(now(c), config.Edited)
	}
}

// pairNumbers matches the end of a conn's name, after the alias of its connection.
var pairNumbers = lazyregexp.New(`^[0-9]+-[0-9]+$`)

// runsConn reports whether the daemon has accepted a conn of the connection with this alias.
func runsConn(loaded map[string][]byte, alias string) bool {
	for conn := range loaded {
		if rest, ok := strings.CutPrefix(conn, alias+"-"); ok && pairNumbers.MatchString(rest) {
			return true
		}
	}
	return false
}
