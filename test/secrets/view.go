package main

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// view is what could be seen while the command ran, each text once, and meanwhile it learns keys.
type view struct {
	root    string
	held    string // the root of what holds keys
	keys    *keys
	looks   int
	running map[string]process
	stamps  map[string]stamp
	seen    map[uint64]bool
	seed    maphash.Seed
	sights  []sight
	counts  map[string]int
}

// process is what is known of one: what it ran when last looked at, and when it was seen first.
type process struct {
	command uint64
	since   int
}

type sight struct {
	what string
	text []byte
}

// stamp tells whether a file is the one that was read.
type stamp struct {
	changed time.Time
	size    int64
}

// Most programs that are run here end within milliseconds, so what is new is looked at each time, until it has become
// what it was forked for; the others now and then. Files change less often, and for the units a program has to be run.
const (
	young         = 5
	looksPerOld   = 5
	looksPerFiles = 20
	looksPerUnits = 700

	looksPerContainers = 5 * looksPerFiles
)

// What anybody may read, or root alone but may be shown by systemd to anybody.
var shown = []string{"run/svc-supervisor/status/*/*/*", "run/systemd/transient/*"}

// What holds keys by design.
var holders = []struct {
	files string
	take  func(*keys, []byte, string)
}{
	{"run/svc-ipsec/*/etc/ipsec.secrets", (*keys).fromSecrets},
	{"run/svc-ipsec/*/state.json", (*keys).fromRecord}, // also the keys of refused connections
	{"run/svc-ipsec/*/conf.json", (*keys).fromRecord},  // the same of release 0.1.0
	{"var/lib/svc-supervisor/containers/*", (*keys).fromRecord},
}

func newView(root, held string, known *keys) *view {
	return &view{root: root, held: held, keys: known, running: map[string]process{}, stamps: map[string]stamp{}, seen: map[uint64]bool{},
		seed: maphash.MakeSeed(), counts: map[string]int{}}
}

// look takes down what is there now.
func (v *view) look() {
	v.processes()
	if v.looks%looksPerFiles == 0 {
		v.files()
	}
	if v.looks%looksPerUnits == 0 {
		if text, err := exec.Command("systemctl", "show", "--all", "svc-*").Output(); err == nil {
			v.see("units", "systemctl show", text)
		}
	}
	v.looks++
}

func (v *view) processes() {
	proc, err := os.Open(filepath.Join(v.root, "proc"))
	if err != nil {
		return
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(-1)
	running := make(map[string]process, len(names))
	for _, pid := range names {
		if pid[0] < '0' || pid[0] > '9' {
			continue
		}
		p, known := v.running[pid]
		if !known {
			p.since = v.looks
		}
		if v.looks-p.since < young || v.looks%looksPerOld == 0 {
			p.command = v.process(filepath.Join(proc.Name(), pid), p.command)
		}
		running[pid] = p
	}
	v.running = running
}

// process takes down what a process runs now, if that is not what it ran before.
func (v *view) process(folder string, before uint64) uint64 {
	text, err := os.ReadFile(folder + "/cmdline")
	if err != nil || len(text) == 0 {
		return before
	}
	sum := maphash.Bytes(v.seed, text)
	if sum == before {
		return before
	}
	program, _ := os.ReadFile(folder + "/comm")
	program = bytes.TrimSpace(program)
	v.see("command lines", fmt.Sprintf("command line of %s", program), text)
	if text, err := os.ReadFile(folder + "/environ"); err == nil {
		v.see("environments", fmt.Sprintf("environment of %s", program), text)
	}
	return sum
}

func (v *view) files() {
	for _, pattern := range shown {
		v.changed(filepath.Join(v.root, pattern), func(path string, text []byte) { v.see("statuses and unit files", path, text) })
	}
	if v.looks%looksPerContainers == 0 {
		for _, path := range openFiles(v.root) {
			v.read(path, func(path string, text []byte) { v.see("files of containers that others can read", path, text) })
		}
	}
	for _, holder := range holders {
		v.changed(filepath.Join(v.held, holder.files), func(path string, text []byte) { holder.take(v.keys, text, path) })
	}
}

// changed hands over the files that are others than before.
func (v *view) changed(pattern string, use func(string, []byte)) {
	paths, _ := filepath.Glob(pattern)
	for _, path := range paths {
		v.read(path, use)
	}
}

func (v *view) read(path string, use func(string, []byte)) {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || v.stamps[path] == (stamp{info.ModTime(), info.Size()}) {
		return
	}
	if text, err := os.ReadFile(path); err == nil {
		v.stamps[path] = stamp{info.ModTime(), info.Size()}
		use(path, text)
	}
}

func (v *view) see(kind, what string, text []byte) {
	if sum := maphash.Bytes(v.seed, text); !v.seen[sum] {
		v.seen[sum] = true
		v.counts[kind]++
		v.sights = append(v.sights, sight{what, text})
	}
}

func (v *view) search(s *search) {
	for _, sight := range v.sights {
		s.text(sight.what, sight.text)
	}
}

func (v *view) String() string {
	return fmt.Sprintf("%d command lines, %d environments, %d statuses and unit files, %d lists of units", v.counts["command lines"],
		v.counts["environments"], v.counts["statuses and unit files"], v.counts["units"])
}
