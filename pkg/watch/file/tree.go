package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// tree is what is believed of the directory: a native.Reader that answers with the last good content while it is not sure
// of a newer one. It is used by one goroutine.
type tree struct {
	dir      string
	host     spec.HostID
	patience patience

	beliefs   map[native.Key]*belief
	folders   map[string]signature // as last seen; the zero signature for one that is not there
	ports     []string             // what Bindings listed last, sorted
	unsettled map[native.Key]bool  // keys to look at at every look: not settled yet, or not readable
	assembler *native.Assembler

	changed    map[native.Key]bool   // the keys that events named since the last look
	renamed    map[native.Key]string // the file that was renamed into place since then, and not touched
	anyChanged bool                  // events were lost, or named a whole directory: every file must be looked at

	settings     map[string]string // as last assembled: a directory that goes does not take them along
	read         bool              // the last firm set was a read one
	readSince    time.Time         // when that could be read again which the last firm set had as unread
	changedAt    time.Time         // when a folder was last seen changing
	missingSince time.Time         // when the directory itself was first missed
	movingSince  time.Time         // since when every look met a file that is being written

	// Of the look that is under way:
	files     *nsdbDir
	now       time.Time
	again     time.Time           // when another look can tell more; zero: at the rescan
	moving    bool                // a file is being written
	held      bool                // one has been so for a moment only
	hostDoubt bool                // the host's own object is missed, and it is not believed yet
	round     uint64              // which look it is
	doubtful  map[native.Key]bool // whose files are looked at; nil: all
}

func newTree(dir string, host spec.HostID, p patience) *tree {
	t := &tree{
		dir: dir, host: host, patience: p,
		beliefs:   map[native.Key]*belief{},
		folders:   map[string]signature{},
		unsettled: map[native.Key]bool{},
		changed:   map[native.Key]bool{},
		renamed:   map[native.Key]string{},
	}
	t.assembler = native.NewAssembler(t, host)
	return t
}

// look is what one look at the directory came to.
type look struct {
	whole   bool // every file was looked at; false also where the directory could not be opened
	firm    bool // the set may be handed over; otherwise the last one stands
	desired spec.Desired
	faults  []native.Fault
	again   time.Time // when to look again, if it is before the rescan
}

// look reads the directory as it is believed to be at this moment.
func (t *tree) look(ctx context.Context, now time.Time) look {
	t.changed, t.anyChanged, t.doubtful = map[native.Key]bool{}, false, nil
	return t.lookAt(ctx, now)
}

// lookAtChanges looks at the files that events have told of since the last look, and at those that are not believed yet. The cost
// does not grow with the number of objects. It looks at every file where the events do not tell enough.
func (t *tree) lookAtChanges(ctx context.Context, now time.Time) look {
	if t.anyChanged || !t.read {
		return t.look(ctx, now)
	}
	t.doubtful, t.changed = t.changed, map[native.Key]bool{}
	maps.Copy(t.doubtful, t.unsettled)
	return t.lookAt(ctx, now)
}

func (t *tree) lookAt(ctx context.Context, now time.Time) look {
	t.now, t.again, t.moving, t.held, t.hostDoubt = now, time.Time{}, false, false, false
	t.round++
	reason := t.open()
	if reason != "" {
		t.anyChanged = true // what events told of was not looked at
		if t.read && !t.missingSince.IsZero() && !t.past(t.missingSince, t.patience.doubt) {
			return look{again: t.again}
		}
		t.lapse()
		return look{
			firm:    true,
			desired: spec.Desired{Unread: reason, Host: spec.Host{ID: t.host}, Settings: t.settings},
			faults:  []native.Fault{{Key: native.HostKey(t.host), Text: reason}},
		}
	}
	defer t.files.close()
	defer clear(t.renamed)
	t.seeFolders()
	desired, faults := t.assembler.Assemble(ctx, t.doubtful)
	t.settings = desired.Settings
	whole := t.doubtful == nil
	if desired.Unread == "" {
		t.forget()
	} else {
		t.anyChanged = true // Assemble stopped at the host, so the changed objects were not read
	}
	firm := t.firm(desired.Unread == "")
	return look{whole, firm, desired, faults, t.again}
}

// open opens the directory for one look, or says why it cannot be looked into.
func (t *tree) open() (reason string) {
	files, err := openDirectory(t.dir)
	if !errors.Is(err, fs.ErrNotExist) {
		t.missingSince = time.Time{}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if t.missingSince.IsZero() {
			t.missingSince = t.now
		}
		return fmt.Sprintf("the directory %s does not exist", t.dir)
	case errors.Is(err, errNotDirectory):
		return fmt.Sprintf("%s is not a directory", t.dir)
	case err != nil:
		return fmt.Sprintf("the directory %s cannot be read: %s", t.dir, cause(err))
	}
	t.files = files
	files.listed = t.doubtful == nil
	return ""
}

// firm says whether what was read may be handed over. A set is held for a moment while files in it are being written, so
// that a change of several files is one change. It is held while the host's own object is in doubt, since then all is. And
// the first one, or the first after an unread one, is held until the folders rest: a directory that is being filled has a
// Host object before it has all bindings, and no older content stands in for what is still missing.
func (t *tree) firm(read bool) bool {
	if !t.moving {
		t.movingSince = time.Time{}
	} else if t.movingSince.IsZero() {
		t.movingSince = t.now
	}
	if t.hostDoubt || t.held && !t.past(t.movingSince, t.patience.busy) {
		return false
	}
	switch {
	case !read:
		t.lapse()
		return true
	case !t.read:
		if t.readSince.IsZero() {
			t.readSince = t.now
		}
		if !t.atRest(t.readSince) {
			return false
		}
	}
	t.read = true
	return true
}

// lapse notes that the objects are not looked at: no doubt grows older, and the next read set comes from a new beginning.
func (t *tree) lapse() {
	t.read, t.readSince = false, time.Time{}
	for _, b := range t.beliefs {
		b.missedSince = time.Time{}
	}
}

// atRest says whether no folder changed for a while; where they do not come to rest, long enough since a moment is enough.
func (t *tree) atRest(since time.Time) bool {
	if t.now.Sub(since) >= t.patience.busy {
		return true
	}
	return t.past(t.changedAt, t.patience.doubt)
}

// past says whether a time has passed since a moment; if not, a look is due when it will have.
func (t *tree) past(since time.Time, d time.Duration) bool {
	due := since.Add(d)
	if !t.now.Before(due) {
		return true
	}
	t.lookAgain(due)
	return false
}

func (t *tree) lookAgain(due time.Time) {
	if t.again.IsZero() || due.Before(t.again) {
		t.again = due
	}
}

// forget drops what the set no longer refers to. A look at changes drops only keys that it was to look at.
func (t *tree) forget() {
	drop := maps.Keys(t.beliefs)
	if t.doubtful != nil {
		drop = maps.Keys(t.doubtful)
	}
	for key := range drop {
		if b := t.beliefs[key]; b == nil || b.round != t.round {
			delete(t.beliefs, key)
			delete(t.unsettled, key)
		}
	}
}
