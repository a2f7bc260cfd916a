package file

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// belief is what is held to be true of one key.
type belief struct {
	known    bool // false: nothing is held yet
	absent   bool
	document *native.Document
	fault    error // why there is no document, though there is a file
	keys     bool  // the document holds keys

	sights []sight // the files as they were when this was believed; nil: to be read again at every look

	missedSince time.Time // when the files were first missed
	movingSince time.Time // since when there are files that are not believed
	latest      []sight   // those, as they were at the last look
	latestSince time.Time // since when they look so

	round uint64 // the look that asked for the key last
}

// Get answers with what is believed of a key, after a look at its files if they are in doubt.
func (t *tree) Get(_ context.Context, key native.Key) (*native.Document, error) {
	b := t.beliefs[key]
	if b != nil && t.doubtful != nil && !t.doubtful[key] {
		return b.answer()
	}
	if b == nil {
		b = new(belief)
		t.beliefs[key] = b
	}
	// A list of names may miss one that is renamed over meanwhile. It is enough where a missing name is doubted first.
	switch sights := t.files.see(string(key), b.known); {
	case len(sights) == 0:
		t.missed(key, b)
	case slices.Equal(sights, b.sights):
		b.rest()
	default:
		t.seen(key, b, sights)
	}
	b.round = t.round
	if b.settled() {
		delete(t.unsettled, key)
	} else {
		t.unsettled[key] = true
	}
	return b.answer()
}

// settled says whether the belief stands as long as no file changes.
func (b *belief) settled() bool {
	return b.known && b.missedSince.IsZero() && b.movingSince.IsZero() && b.latest == nil && (b.absent || b.sights != nil)
}

func (b *belief) answer() (*native.Document, error) {
	switch {
	case !b.known:
		return nil, errMoving
	case b.absent:
		return nil, native.ErrAbsent
	default:
		return b.document, b.fault
	}
}

// rest forgets what was seen since the belief, which holds.
func (b *belief) rest() {
	b.missedSince, b.movingSince, b.latest = time.Time{}, time.Time{}, nil
}

// missed notes that a key has no file. What stood there stands until the doubt is over; while the host's own object is in
// doubt, no other absence is believed: the whole directory may be on its way out.
func (t *tree) missed(key native.Key, b *belief) {
	b.latest, b.movingSince = nil, time.Time{}
	if !b.known || b.absent {
		*b = belief{known: true, absent: true}
		return
	}
	if b.missedSince.IsZero() {
		b.missedSince = t.now
	}
	gone := t.past(b.missedSince, t.patience.doubt) && t.atRest(b.missedSince)
	if key == native.HostKey(t.host) {
		t.hostDoubt = !gone
	}
	if gone && !t.hostDoubt {
		*b = belief{known: true, absent: true}
	}
}

// seen notes that a key's files are not those that its belief came from, and believes them once they rest.
func (t *tree) seen(key native.Key, b *belief, sights []sight) {
	b.missedSince = time.Time{}
	if !slices.Equal(sights, b.latest) {
		b.latest, b.latestSince = sights, t.now
	}
	for _, s := range sights {
		if s.fault != "" {
			*b = belief{known: true, fault: errors.New(s.fault)}
			return
		}
	}
	complete := len(sights) == 1 && t.renamed[key] == sights[0].name
	for _, s := range sights {
		if !complete && !s.signature.rested(t.now, t.patience.settle) && !t.past(b.latestSince, t.patience.settle) {
			t.moves(b)
			return
		}
	}
	if len(sights) > 1 {
		*b = belief{known: true, sights: sights, fault: twoFiles(sights)}
		return
	}
	t.believe(key, b, sights)
}

// moves notes that files of a key are being written, which holds the set for a moment.
func (t *tree) moves(b *belief) {
	if b.movingSince.IsZero() {
		b.movingSince = t.now
	}
	t.moving = true
	t.held = !t.past(b.movingSince, t.patience.hold) || t.held
}

func twoFiles(sights []sight) error {
	names := make([]string, len(sights))
	for i, s := range sights {
		names[i] = s.name
	}
	return fmt.Errorf("%s are files of one object: allowed: one of them", strings.Join(names, " and "))
}

// believe takes over a single file that rests, unless it moves after all.
func (t *tree) believe(key native.Key, b *belief, sights []sight) {
	_, format, _ := objectName(sights[0].name)
	value, w, err := t.files.read(path.Join(path.Dir(string(key)), sights[0].name), sights[0].signature)
	if errors.Is(err, errMoving) || w == hasWriter && !t.past(b.latestSince, t.patience.writer) ||
		w == unknownWriter && !sights[0].signature.rested(t.now, t.patience.unsure) && !t.past(b.latestSince, t.patience.unsure) {
		t.moves(b)
		t.lookAgain(t.now.Add(t.patience.settle))
		return
	}
	if err != nil { // of the file system: another look may fare better though nothing changes
		*b = belief{known: true, fault: err}
		return
	}
	document, err := native.Parse(value, format)
	holdsKeys := false
	if port, ok := strings.CutPrefix(string(key), string(native.BindingsKey(t.host))+"/"); ok && err == nil {
		document = native.ReducePort(document, t.host, spec.PortID(port))
	} else if strings.HasPrefix(string(key), native.Configurations+"/") && err == nil {
		holdsKeys = document.HoldsKeys()
	}
	*b = belief{known: true, document: document, fault: err, sights: sights, keys: holdsKeys}
}
