package reconcile

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Masterminds/semver/v3"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/observe"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/plugin"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

// world simulates everything outside a supervisor that outlives it: the NSDB, the state directory, the host and the
// executables. It is kept in memory and uses the time of a synctest bubble. An instance is one run of a supervisor in
// the world. Every side effect of an instance goes through instance.effect, which can end the instance after any of
// them.
type world struct {
	t testing.TB

	mu         sync.Mutex
	boot       string
	host       spec.Host
	bindings   map[spec.PortID]spec.Binding
	hostUnread string

	disk       map[spec.Name]map[spec.ServiceType][]byte
	namespaces map[spec.Name]tagged
	registry   sync.Mutex         // the lock of the user id registry; locked before mu
	users      map[spec.Name]bool // names that have a user id
	links      map[spec.Name]tagged
	packets    map[spec.Name]observe.Packets
	eventsLost time.Time
	units      map[string]*process
	exit       unit.Exit             // how every failed unit ended
	lines      map[string]string     // the last line that each unit logged
	restarts   map[string]int        // how often systemd restarted each unit
	held       map[spec.Name]holding // the state that the executables keep below /run/svc-<type>
	programs   []plugin.Executable
	scanning   bool // the plugin path has not been read completely yet
	script     map[scriptKey][]behaviour

	faults    faults
	down      bool                        // the host is shutting down
	unitsStay bool                        // Stop and DEL succeed, but the units keep running
	slow      map[spec.Name]time.Duration // how long the observation of a namespace takes

	published      map[spec.ContainerID]spec.ContainerStatus
	statusHistory  map[spec.ContainerID][]string // every status that was published, in order
	lastHostStatus spec.HostStatus
	calls          []verbCall
	lastValid      map[spec.Name]string // that the last ADD was given; "": none
	busy           map[spec.Name]spec.Verb
	trace          []string // the side effects, in order
	violations     []string // descriptions of events that must never happen
	logged         []string // log lines about connections and deletions
	warned         []string // those of them that are warnings
	holds          []string // log lines about holds
	current        *instance
}

// tagged is a namespace or a link. Without an owner it is foreign.
type tagged struct {
	owner spec.Owner
	stale bool // a plain file in the place of the namespace
}

type process struct {
	unit  unit.Unit
	owner spec.Owner
}

// holding is the state that an executable keeps of a container.
type holding struct {
	id            spec.ContainerID
	configuration string
}

// faults are the errors that operations return now.
type faults struct{ systemd, owner, namespaces, links, events, write, remove, read, published error }

// verbCall is a verb that was started.
type verbCall struct {
	at            time.Time
	verb          spec.Verb
	path          string
	name          spec.Name
	id            string
	configuration string
}

type scriptKey struct {
	verb spec.Verb
	name spec.Name
}

// behaviour is the outcome of one verb. The zero value succeeds after 100 ms.
type behaviour struct {
	takes   time.Duration
	works   bool        // it uses the processor, so it is not blocked
	hangs   bool        // it hangs until the deadline
	fails   *spec.Error // the error that it returns before any effect
	late    bool        // with fails or hangs: all effects happen first
	prints  string      // replaces the regular output
	unit    string      // ADD: the state of the unit one second after ADD
	noUnits bool        // ADD: there is no unit
}

func code(c spec.Code) *spec.Error { return &spec.Error{Code: c, Msg: "scripted"} }

const (
	ipsec   spec.ServiceType = "IPSEC"
	haproxy spec.ServiceType = "HAPROXY"
)

// inWorld runs a test with its own world in a synctest bubble.
func inWorld(t *testing.T, test func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.install("/opt/svc/bin/svc-ipsec", ipsec, "1.0.0", true)
		w.install("/opt/svc/bin/svc-haproxy", haproxy, "1.0.0", false)
		defer func() { // also if the test fails early
			if w.current != nil {
				w.current.stop()
			}
			for _, violation := range w.violations {
				t.Errorf("this must never happen: %s", violation)
			}
		}()
		test(w)
	})
}

func newWorld(t testing.TB) *world {
	return &world{
		t:             t,
		lastValid:     map[spec.Name]string{},
		boot:          "boot-1",
		host:          spec.Host{ID: "host-1", Weight: 1, Limit: -1},
		bindings:      map[spec.PortID]spec.Binding{},
		disk:          map[spec.Name]map[spec.ServiceType][]byte{},
		namespaces:    map[spec.Name]tagged{},
		users:         map[spec.Name]bool{},
		links:         map[spec.Name]tagged{},
		packets:       map[spec.Name]observe.Packets{},
		units:         map[string]*process{},
		held:          map[spec.Name]holding{},
		script:        map[scriptKey][]behaviour{},
		published:     map[spec.ContainerID]spec.ContainerStatus{},
		statusHistory: map[spec.ContainerID][]string{},
		busy:          map[spec.Name]spec.Verb{},
		slow:          map[spec.Name]time.Duration{},
		lines:         map[string]string{},
		restarts:      map[string]int{},
	}
}

// install adds an executable to the plugin path, or replaces it by another version.
func (w *world) install(path string, t spec.ServiceType, version string, reconfigure bool) {
	w.mu.Lock()
	w.programs = slices.DeleteFunc(w.programs, func(e plugin.Executable) bool { return e.Path == path })
	w.programs = append(w.programs, plugin.Executable{
		Path:          path,
		Found:         path,
		Type:          t,
		Version:       semver.MustParse(version),
		Reconfigure:   reconfigure,
		UserNamespace: t == ipsec,
	})
	slices.SortStableFunc(w.programs, func(a, b plugin.Executable) int { return b.Version.Compare(a.Version) })
	w.mu.Unlock()
	w.rescan()
}

func (w *world) uninstall(path string) {
	w.mu.Lock()
	w.programs = slices.DeleteFunc(w.programs, func(e plugin.Executable) bool { return e.Path == path })
	w.mu.Unlock()
	w.rescan()
}

// unready makes STATUS of an executable bad with this reason, or good with "".
func (w *world) unready(path, reason string) {
	w.mu.Lock()
	for i := range w.programs {
		if w.programs[i].Path == path {
			w.programs[i].Unready = reason
		}
	}
	w.mu.Unlock()
	w.rescan()
}

func (w *world) rescan() {
	if w.current != nil {
		w.current.r.MarkAll()
	}
}

// on scripts a verb of a container: each call uses the next behaviour, and the last one repeats.
func (w *world) on(verb spec.Verb, name spec.Name, script ...behaviour) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.script[scriptKey{verb, name}] = script
}

// reboot simulates a reboot.
func (w *world) reboot() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.boot += "'"
	for name := range w.namespaces {
		w.namespaces[name] = tagged{stale: true}
	}
	clear(w.users)
	clear(w.links)
	clear(w.units)
	clear(w.held)
	clear(w.published)
}

// systemd sets the state of a unit ("" unloads it) and sends the signal.
func (w *world) systemd(name, activeState string) {
	w.mu.Lock()
	if activeState == "" {
		delete(w.units, name)
	} else if p := w.units[name]; p != nil {
		p.unit.ActiveState = activeState
	}
	w.mu.Unlock()
	if owner, ok := spec.UnitOwner(name); ok && w.current != nil {
		w.current.r.UnitChanged(owner)
	}
}

// change changes the world under its lock.
func (w *world) change(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

// after lets time pass.
func (w *world) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// until lets time pass until the condition holds. The test fails if it does not hold within the time.
func (w *world) until(within time.Duration, what string, condition func() bool) {
	w.t.Helper()
	for begin := time.Now(); ; w.after(max(50*time.Millisecond, within/100)) {
		synctest.Wait()
		if condition() {
			return
		}
		if time.Since(begin) > within {
			w.t.Fatalf("not within %v: %s\n%s", within, what, w)
		}
	}
}

// untilSettled waits until the actual state equals the desired state.
func (w *world) untilSettled(within time.Duration) {
	w.t.Helper()
	w.until(within, "the desired state", w.settled)
}
