package userid

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"

	"github.com/svc-supervisor/svc-supervisor/internal/busyclock"
)

// batchSize is the number of ids that are checked at once. If the user database does not answer, the first allocation
// of each batch waits for it, and the others do not.
const batchSize = 32

// cursor is the position in the range, with the free ids before it.
type cursor struct {
	Position uint32 `json:"position"` // the last id that was considered
	// The ids up to Position that passed the checks and are not yet assigned, in order.
	Free []uint32 `json:"free"`
}

// take removes and returns the next id of Free. It drops ids that were registered since (by Adopt), and ids outside of
// ids, because the range may have been changed.
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

// advance moves the position forward by at most limit ids. It returns those of them that have no owner, at most
// batchSize, and the number of ids by which it moved.
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

// nextLocked returns the next free id. It saves the position in the range before the caller registers the id. After a
// crash in between, the id is not used until the position wraps around. In the reverse order, a released id could be
// assigned again at once.
func (r *Registry) nextLocked(ctx context.Context, registered table) (uint32, error) {
	ids, err := r.ranges.read()
	if err != nil {
		return 0, err
	}
	nss, cancel := busyclock.WithTimeout(ctx, nssTimeout)
	defer cancel()
	c := r.cursor.loadLocked(ids, registered)
	for considered := 0; ; {
		if id, found := c.take(ids, registered); found {
			return id, r.cursor.saveLocked(c)
		}
		if considered == ids.Size() {
			return 0, fmt.Errorf("%w in the range %s (%s): %d are registered in %s, "+
				"the others belong to users, groups or processes",
				ErrExhausted, ids, r.ranges.file, registered.within(ids), r.files.directory)
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

// cursorFile is the path of the file with the position in the range.
type cursorFile string

// loadLocked reads the position in the range. If it cannot be read, the position is the highest registered id of the
// range.
func (f cursorFile) loadLocked(ids Range, registered table) cursor {
	var c cursor
	content, err := os.ReadFile(string(f))
	if err == nil && json.Unmarshal(content, &c) == nil {
		return c
	}
	for _, id := range slices.Backward(slices.Sorted(maps.Keys(registered.owners))) {
		if ids.Contains(id) {
			return cursor{Position: id}
		}
	}
	return cursor{Position: ids.Last} // the next id is the first one of the range
}

// withdrawLocked removes an id from the saved list of free ids.
func (f cursorFile) withdrawLocked(id uint32) error {
	c := f.loadLocked(Range{}, table{})
	i := slices.Index(c.Free, id)
	if i < 0 {
		return nil
	}
	c.Free = slices.Delete(c.Free, i, i+1)
	return f.saveLocked(c)
}

func (f cursorFile) saveLocked(c cursor) error {
	content, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return replace(string(f), append(content, '\n'))
}
