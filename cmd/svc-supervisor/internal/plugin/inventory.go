package plugin

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/Masterminds/semver/v3"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Executable is a file that serves one service type in one version.
type Executable struct {
	Path        string // resolved
	Found       string // as it stands on the plugin path; a link's target is Path
	Type        spec.ServiceType
	Version     *semver.Version
	Reconfigure bool // ADD again brings a running container to a new configuration in place
	// UserNamespace asks for a network namespace that is owned by a user namespace.
	UserNamespace bool
	LastValid     bool        // ADD takes the last valid configuration
	Validate      bool        // serves the verb VALIDATE
	CheckOn       spec.Events // after which CHECK is due soon
	Unready       string      // why STATUS says that the host cannot serve the type now; "" if it can
}

// Refusal is a file on the plugin path that is not used, and why.
type Refusal struct {
	Found  string
	Reason string
}

// Inventory is what the plugin path holds. It is safe for concurrent use.
type Inventory struct {
	dirs     []string
	deadline time.Duration // of VERSION and STATUS
	log      *slog.Logger
	children children

	mu      sync.Mutex
	files   map[string]*candidate // by path as found
	order   []string              // of the last scan: by directory, then by name
	unread  string                // why the plugin path was not read at the last scan
	scanned chan struct{}         // closed when a whole scan is done: what is not here is not there
	news    func()                // called when a file has answered, before the scan is done
}

// candidate is one file on the plugin path with what is known of it.
type candidate struct {
	identity   identity
	executable *Executable // nil if refused
	refusal    string
	retryAt    time.Time // set if the refusal may pass without a change of the file
	statusAt   time.Time
}

// NewInventory takes the directories of the plugin path in order. deadline is that of VERSION and STATUS. The process
// becomes the parent of orphaned descendants, so that no verb can leave one behind unseen; children that it has already are left
// alone.
func NewInventory(dirs []string, deadline time.Duration, log *slog.Logger) (*Inventory, error) {
	if err := adoptOrphans(); err != nil {
		return nil, fmt.Errorf("become the parent of orphans: %w", err)
	}
	keepDescriptors()
	return &Inventory{
		dirs:     dirs,
		deadline: deadline,
		log:      log,
		children: children{running: map[int]bool{}, strangers: childrenOfThis(), ended: waitUnreaped},
		files:    map[string]*candidate{},
		scanned:  make(chan struct{}),
	}, nil
}

// Scan looks at every file of the plugin path and asks VERSION of those that are new or changed, and STATUS where it is
// due. It returns whether anything changed. Each event is logged once. A file that has answered can be selected at once: one
// that hangs keeps no other back.
func (v *Inventory) Scan(ctx context.Context, statusInterval time.Duration) (changed bool) {
	found, err := listPath(v.dirs)
	if err != nil {
		if v.unread != err.Error() {
			v.unread = err.Error()
			v.log.Warn("plugin path not read: what was found stays", "error", err)
		}
		return false
	}
	v.unread = ""
	order := make([]string, 0, len(found))
	var (
		asked sync.WaitGroup
		mu    sync.Mutex
	)
	next := make(map[string]*candidate, len(found))
	for _, f := range found {
		order = append(order, f.path)
		v.mu.Lock()
		known := v.files[f.path]
		v.mu.Unlock()
		if known != nil && known.identity == f.identity &&
			(known.retryAt.IsZero() || time.Now().Before(known.retryAt)) {
			mu.Lock()
			next[f.path] = known
			mu.Unlock()
			continue
		}
		asked.Go(func() {
			c := v.ask(ctx, f, statusInterval)
			mu.Lock()
			defer mu.Unlock()
			next[f.path] = c
			// The words of a refusal that is repeated may differ (a time stamp on stderr): that is no news.
			if known == nil || known.identity != c.identity || (known.executable == nil) != (c.executable == nil) {
				changed = true
				v.logFound(f.path, c)
				v.enter(ctx, f.path, c)
			}
		})
	}
	asked.Wait()
	if ctx.Err() != nil {
		return false // the answers may be of the end of the supervisor, not of the files
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
		changed = true // what was not found is known not to be there
	}
	v.files, v.order = next, order
	v.mu.Unlock()
	return v.askStatus(ctx, statusInterval) || changed
}

// enter makes a file selectable before the scan that found it is done.
func (v *Inventory) enter(ctx context.Context, path string, c *candidate) {
	if ctx.Err() != nil {
		return
	}
	v.mu.Lock()
	if v.files[path] == nil {
		v.order = append(v.order, path)
		slices.SortStableFunc(v.order, v.byDirectory)
	}
	v.files[path] = c
	news := v.news
	v.mu.Unlock()
	if news != nil {
		news()
	}
}

// byDirectory compares paths by the place of their directories on the plugin path, then by name.
func (v *Inventory) byDirectory(a, b string) int {
	place := func(path string) int { return slices.Index(v.dirs, filepath.Dir(path)) }
	if d := place(a) - place(b); d != 0 {
		return d
	}
	return strings.Compare(a, b)
}

// Scanned says whether the whole plugin path was looked at once: until then an executable that is not found may yet be.
func (v *Inventory) Scanned() bool {
	select {
	case <-v.scanned:
		return true
	default:
		return false
	}
}

// AwaitScan waits until the whole plugin path was looked at once, or ctx ends.
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
		v.logStatus(c.executable)
	}
}

// List returns the usable executables, best first for each type, and the refused files.
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
	// Stable: of equal versions the first on the path stays first.
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

// Select returns the executable that serves new containers of the type: the highest version.
func (v *Inventory) Select(t spec.ServiceType) (Executable, bool) {
	return v.first(func(e Executable) bool { return e.Type == t })
}

// ForRecorded returns the executable for CHECK and DEL of a container that the file at path made: that file while it
// serves the type, else the highest version.
func (v *Inventory) ForRecorded(t spec.ServiceType, path string) (Executable, bool) {
	if e, ok := v.first(func(e Executable) bool { return e.Type == t && e.Path == path }); ok {
		return e, true
	}
	return v.Select(t)
}

// ForChange returns the executable for ADD again of a container that the given version made: the highest of the same
// major version that can reconfigure.
func (v *Inventory) ForChange(t spec.ServiceType, version string) (Executable, bool) {
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
