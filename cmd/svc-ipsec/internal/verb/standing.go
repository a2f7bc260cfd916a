package verb

import (
	"bytes"
	"maps"
	"slices"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/render"
	"github.com/svc-supervisor/svc-supervisor/internal/lazyregexp"
)

// chosen returns the connections that this ADD chose to run, in the form of state.State.
func (c *change) chosen() map[string]string {
	chosen := map[string]string{}
	for _, connection := range c.request.configuration.Wanted() {
		chosen[connection.Place()] = connection.Alias()
	}
	return chosen
}

// standing tells of each connection that ADD is given whether it runs already, and whether as it is wanted.
func standing(loaded map[string][]byte, ran map[string]string) func(*config.Connection) config.Standing {
	known := slices.Collect(maps.Values(ran))
	return func(c *config.Connection) config.Standing {
		unchanged := func(p config.Pair) bool {
			return bytes.Equal(loaded[p.Conn], render.Conn(c, p)) || bytes.Equal(loaded[p.Conn], render.FormerConn(c, p))
		}
		switch {
		case !slices.ContainsFunc(c.Pairs(), func(p config.Pair) bool { return !unchanged(p) }):
			return config.Unchanged
		case slices.Contains(known, c.Alias()) || runs(loaded, c.Alias()):
			return config.Edited
		default:
			return config.New
		}
	}
}

// stood tells it of the configuration that the last good ADD was given: what that chose, runs.
func stood(loaded map[string][]byte, ran map[string]string) func(*config.Connection) config.Standing {
	now := standing(loaded, ran)
	if len(ran) == 0 {
		return now
	}
	return func(c *config.Connection) config.Standing {
		if ran[c.Place()] == c.Alias() {
			return config.Unchanged
		}
		return min(now(c), config.Edited)
	}
}

// numbers are what a pair's name has behind its connection's.
var numbers = lazyregexp.New(`^[0-9]+-[0-9]+$`)

// runs says whether a connection has a conn that the daemon accepted.
func runs(loaded map[string][]byte, alias string) bool {
	for conn := range loaded {
		if rest, ok := strings.CutPrefix(conn, alias+"-"); ok && numbers.MatchString(rest) {
			return true
		}
	}
	return false
}
