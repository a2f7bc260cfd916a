package userid

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
)

const (
	// batchSize is how many ids are checked at once. While the user database does not answer, one container in a batch waits
	// for it.
	batchSize = 32
)

// cursor is the position in the range and what is known of the ids up to it.
type cursor struct {
	Position uint32   `json:"position"` // the last id that was considered
	Free     []uint32 `json:"free"`     // the ids up to it that passed the checks and were not handed out, in order
}

// take removes the next id from Free. Ids that were adopted since, or that a changed range does not have, are
// dropped.
func (c *cursor) take(ids Range, registered table) (uint32, bool) {
	for len(c.Free) > 0 {
		id := c.Free[0]
		c.Free = c.Free[1:]
		if _, taken := registered.owners[id]; !taken && ids.Contains(id) {
			return id, true
		}
	}
	return 0, false
}

// advance moves the position past at most limit ids and returns those that have no owner, at most batchSize, and
// past how many it moved.
func (c *cursor) advance(ids Range, registered table, limit int) (candidates []uint32, moved int) {
	for moved < limit && len(candidates) < batchSize {
		c.Position = ids.after(c.Position)
		moved++
		if _, taken := registered.owners[c.Position]; !taken {
			candidates = append(candidates, c.Position)
		}
	}
	return candidates, moved
}

// nextLocked finds the next free id. The position in the range is saved before the id is registered: a crash in between
// skips one id until the position wraps around. In the reverse order a released id could be given out again at once.
func (r *Registry) nextLocked(ctx context.Context, registered table) (uint32, error) {
	ids, err := r.Range()
	if err != nil {
		return 0, err
	}
	nss, cancel := context.WithTimeout(ctx, nssPatience)
	defer cancel()
	c := r.loadLocked(ids, registered)
	for considered := 0; ; {
		if id, found := c.take(ids, registered); found {
			return id, r.saveLocked(c)
		}
		if considered == ids.Size() {
			return 0, fmt.Errorf("%w in the range %s (%s): %d are registered in %s, "+
				"the others belong to users, groups or processes",
				ErrUsedUp, ids, r.rangeFile, registered.within(ids), r.directory)
		}
		candidates, moved := c.advance(ids, registered, ids.Size()-considered)
		considered += moved
		if len(candidates) == 0 {
			continue
		}
		used, err := idsOfProcesses()
		if err != nil {
			return 0, err
		}
		known, err := usersAndGroups(nss, candidates)
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		c.Free = slices.DeleteFunc(candidates, func(id uint32) bool { return used[id] || known[id] })
		if err != nil {
			r.log.Warn("user database not available, user ids not compared with it", slog.Any("error", err))
		}
	}
}
