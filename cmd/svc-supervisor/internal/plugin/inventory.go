package plugin

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/Masterminds/semver/v3"

	"github.com/svc-supervisor/svc-supervisor/internal/busyclock"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Executable is a file that serves one service type in one version.
type Executable struct {
	Path        string // without symbolic links
	Found       string // the file on the plugin path; may be a link to Path
	Type        spec.ServiceType
	Version     *semver.Version
	Reconfigure bool // ADD on a running container changes its configuration in place
	// UserNamespace means that the network namespace must be owned by a user namespace.
	UserNamespace bool
	LastValid     bool        // ADD accepts the last valid configuration
	Validate      bool        // supports the verb VALIDATE
	CheckOn       spec.Events // events after which CHECK is due soon
	Unready       string      // why STATUS failed, so that the host cannot serve the type now; "" if it succeeded
}

// Refusal is a file on the plugin path that is not used, with the reason.
type Refusal struct {
	Found  string
	Reason string
}

// Inventory knows the executables on the plugin path, and runs their verbs. It is safe for concurrent use, but Scan
// must not be called concurrently.
type Inventory struct {
	*Runner
	prober prober
	log    *slog.Logger

	mu       sync.Mutex
	files    map[string]*candidate // by path on the plugin path
	order    []string              // the keys of files: by directory, then by name
	unread   string                // why the last scan could not read the plugin path
	scanned  chan struct{}         // closed after the first complete scan: then a missing executable does not exist
	onChange func()                // called when files can be selected before the scan is complete

	canSelect   chan struct{} // closed when files can be selected for the first time
	allowSelect func()        // closes canSelect
}

// candidate is one file on the plugin path with the results of VERSION and STATUS.
type candidate struct {
	identity   identity
	executable *Executable // nil if refused
	refusal    string
	retryAt    time.Time // when VERSION is run again; zero if not before the file changes
	statusAt   time.Time // when STATUS was last run
}

// NewInventory returns an inventory of the directories of the plugin path, in this order. deadline is the deadline of
// VERSION and STATUS. The process becomes a child subreaper, so that orphaned descendants of verbs are found. Its
// existing children are not touched.
func NewInventory(dirs []string, deadline time.Duration, log *slog.Logger) (*Inventory, error) {
	runner, err := newRunner(dirs)
	if err != nil {
		return nil, err
	}
	canSelect := make(chan struct{})
	return &Inventory{
		Runner:      runner,
		prober:      prober{runner: runner, deadline: deadline, log: log},
		log:         log,
		files:       map[string]*candidate{},
		scanned:     make(chan struct{}),
		canSelect:   canSelect,
		allowSelect: sync.OnceFunc(func() { close(canSelect) }),
	}, nil
}

// Unread returns why the last scan could not read the plugin path, or "" if it could. Like Scan it must not be called
// concurrently with Scan.
func (v *Inventory) Unread() string { return v.unread }

// answerWithin is how long a scan waits for all new and changed files before those that have answered can be selected.
// If each file could be selected as soon as it has answered, a new container could get a lower version that answered
// first. If a scan waited for all files, one that hangs would delay the others.
const answerWithin = 2 * time.Second

// answer is a new or changed file with the results of VERSION and STATUS.
type answer struct {
	path      string
	candidate *candidate
	changed   bool // false if the file was refused before and is refused again
}

// Scan reads the plugin path. It runs VERSION and STATUS of new and changed files, concurrently, and STATUS of
// executables that were not ready if it is due. It reports whether anything changed, and logs each change once.
func (v *Inventory) Scan(ctx context.Context, statusInterval time.Duration) (changed bool) {
	found, err := listPath(v.pluginPath)
	if err != nil {
		if v.unread != err.Error() {
			v.unread = err.Error()
			v.log.Warn("plugin path not read: what was found stays", "error", err)
		}
		return false
	}
	v.unread = ""
	order := make([]string, 0, len(found))
	next := make(map[string]*candidate, len(found))
	answers, probes := make(chan answer), 0
	for _, f := range found {
		order = append(order, f.path)
		v.mu.Lock()
		known := v.files[f.path]
		v.mu.Unlock()
		if known != nil && known.identity == f.identity &&
			(known.retryAt.IsZero() || time.Now().Before(known.retryAt)) {
			next[f.path] = known
			continue
		}
		probes++
		go func() {
			c := v.prober.probe(ctx, f, statusInterval)
			// If a file is refused again, the text may differ, for example by a time stamp on stderr. That is not a
			// change.
			answers <- answer{f.path, c, known == nil || known.identity != c.identity ||
				(known.executable == nil) != (c.executable == nil)}
		}()
	}
	changed = v.collect(ctx, answers, probes, next)
	if ctx.Err() != nil {
		return false // the verbs may have failed because ctx was cancelled
	}

	v.mu.Lock()
	for path := range v.files {
		if next[path] == nil {
			changed = true
			v.log.Info("executable gone", "path", path)
		}
	}
	select {
	case <-v.scanned:
	default:
		close(v.scanned)
		changed = true // from now on, executables that were not found are known to be missing
	}
	v.files, v.order = next, order
	v.allowSelect()
	v.mu.Unlock()
	return v.retryStatus(ctx, statusInterval) || changed
}

// collect receives the answers of the given number of probes, and adds them to next. After answerWithin, files that
// have answered can be selected before the scan is complete. It reports whether any answer is a change.
func (v *Inventory) collect(
	ctx context.Context, answers <-chan answer, probes int, next map[string]*candidate,
) (changed bool) {
	timeout, stop := busyclock.WithTimeout(ctx, answerWithin)
	defer stop()
	late, isLate := timeout.Done(), false
	var answered []answer // not selectable yet
	for probes > 0 {
		select {
		case a := <-answers:
			probes--
			next[a.path] = a.candidate
			if a.changed {
				changed = true
				v.logFound(a.path, a.candidate)
				answered = append(answered, a)
			}
		case <-late:
			late, isLate = nil, true
		}
		if isLate && probes > 0 && len(answered) > 0 {
			v.addCandidates(ctx, answered)
			answered = nil
		}
	}
	return changed
}

// addCandidates adds files to the inventory before the scan is complete, so that they can be selected.
func (v *Inventory) addCandidates(ctx context.Context, answered []answer) {
	if ctx.Err() != nil {
		return
	}
	v.mu.Lock()
	for _, a := range answered {
		if v.files[a.path] == nil {
			v.order = append(v.order, a.path)
		}
		v.files[a.path] = a.candidate
	}
	slices.SortStableFunc(v.order, v.byDirectory)
	v.allowSelect()
	onChange := v.onChange
	v.mu.Unlock()
	if onChange != nil {
		onChange()
	}
}

// byDirectory compares paths by the position of their directories on the plugin path, then by name.
func (v *Inventory) byDirectory(a, b string) int {
	position := func(path string) int { return slices.Index(v.pluginPath, filepath.Dir(path)) }
	if d := position(a) - position(b); d != 0 {
		return d
	}
	return strings.Compare(a, b)
}

// retryStatus runs STATUS of each executable that is not ready and whose last STATUS is at least interval ago. It
// reports whether the result of any of them changed.
func (v *Inventory) retryStatus(ctx context.Context, interval time.Duration) (changed bool) {
	v.mu.Lock()
	var due []*candidate
	for _, path := range v.order {
		if c := v.files[path]; c.executable != nil && c.executable.Unready != "" && time.Since(c.statusAt) >= interval {
			due = append(due, c)
		}
	}
	v.mu.Unlock()
	for _, c := range due {
		unready := v.prober.status(ctx, c.executable)
		if ctx.Err() != nil {
			return changed
		}
		v.mu.Lock()
		if c.executable.Unready != unready {
			changed = true
			executable := *c.executable
			executable.Unready = unready
			c.executable = &executable
			v.prober.logStatus(&executable)
		}
		c.statusAt = time.Now()
		v.mu.Unlock()
	}
	return changed
}

// Scanned reports whether the plugin path was scanned completely at least once. Before that, an executable that is not
// in the inventory may exist.
func (v *Inventory) Scanned() bool {
	select {
	case <-v.scanned:
		return true
	default:
		return false
	}
}

// AwaitSelectable waits until the files that have answered can be selected, or until ctx is cancelled.
func (v *Inventory) AwaitSelectable(ctx context.Context) {
	select {
	case <-v.canSelect:
	case <-ctx.Done():
	}
}

// AwaitScan waits until the plugin path was scanned completely once, or until ctx is cancelled.
func (v *Inventory) AwaitScan(ctx context.Context) {
	select {
	case <-v.scanned:
	case <-ctx.Done():
	}
}

func (v *Inventory) logFound(path string, c *candidate) {
	if c.executable == nil {
		v.log.Warn("executable refused", "path", path, "reason", c.refusal)
		return
	}
	v.log.Info("executable found", "path", path, "type", c.executable.Type, "version", c.executable.Version.String(),
		"reconfigure", c.executable.Reconfigure)
	if c.executable.Unready != "" {
		v.prober.logStatus(c.executable)
	}
}

// List returns the usable executables, sorted by type and with the highest version of each type first, and the refused
// files.
func (v *Inventory) List() ([]Executable, []Refusal) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var executables []Executable
	var refusals []Refusal
	for _, path := range v.order {
		switch c := v.files[path]; {
		case c == nil:
		case c.executable == nil:
			refusals = append(refusals, Refusal{path, c.refusal})
		default:
			executables = append(executables, *c.executable)
		}
	}
	// The sort must be stable: of equal versions, the first one on the plugin path comes first.
	slices.SortStableFunc(executables, func(a, b Executable) int {
		if a.Type != b.Type {
			if a.Type < b.Type {
				return -1
			}
			return 1
		}
		return b.Version.Compare(a.Version)
	})
	return executables, refusals
}

// Select returns the executable for new containers of the type: the one of the highest version.
func (v *Inventory) Select(t spec.ServiceType) (Executable, bool) {
	return v.first(func(e Executable) bool { return e.Type == t })
}

// ForRecorded returns the executable for CHECK and DEL of a container that was made by the file at path. It is that
// file if it still serves the type, and the one of the highest version otherwise.
func (v *Inventory) ForRecorded(t spec.ServiceType, path string) (Executable, bool) {
	if e, ok := v.first(func(e Executable) bool { return e.Type == t && e.Path == path }); ok {
		return e, true
	}
	return v.Select(t)
}

// ForReconfigure returns the executable that can reconfigure a container which was made by the given version. It is the
// highest version with the same major version that supports reconfiguring.
func (v *Inventory) ForReconfigure(t spec.ServiceType, version string) (Executable, bool) {
	made, err := semver.StrictNewVersion(version)
	if err != nil {
		return Executable{}, false
	}
	return v.first(func(e Executable) bool {
		return e.Type == t && e.Reconfigure && e.Version.Major() == made.Major()
	})
}

func (v *Inventory) first(fits func(Executable) bool) (Executable, bool) {
	executables, _ := v.List()
	if i := slices.IndexFunc(executables, fits); i >= 0 {
		return executables[i], true
	}
	return Executable{}, false
}
