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

// monitor collects the texts that other users could read while the command ran, each text once. It also collects keys
// from the files that contain them by design.
type monitor struct {
	root     string
	held     string // the root of the files that contain keys by design
	keys     *keys
	polls    int
	running  map[string]process
	lastPID  string // the process id that the kernel assigned last, at the last poll
	young    bool   // a process is in its first polls
	versions map[string]fileVersion
	seen     map[uint64]bool
	seed     maphash.Seed
	texts    []capturedText
	counts   map[string]int
}

// process is the known state of a running process.
type process struct {
	command uint64 // the hash of its last command line
	since   int    // the number of the poll that found it first
}

type capturedText struct {
	what string
	text []byte
}

// fileVersion identifies the content of a file that was read.
type fileVersion struct {
	changed time.Time
	size    int64
}

// Most programs of the tests end within milliseconds. So a process is read in each of its first polls, in which it
// calls exec, and less often after them. Files change less often. The units are read even less often, because that
// needs a run of systemctl.
const (
	newProcessPolls    = 5
	pollsPerOldProcess = 25
	pollsPerFiles      = 20
	pollsPerUnits      = 700

	pollsPerContainers = 5 * pollsPerFiles
)

// publicFiles are the files that all users can read, or that only root can read but systemd shows to all users.
var publicFiles = []string{"run/svc-supervisor/status/*/*/*", "run/systemd/transient/*"}

// keyFiles are the files that contain keys by design, with the functions that read the keys.
var keyFiles = []struct {
	files string
	parse func(*keys, []byte, string)
}{
	{"run/svc-ipsec/*/etc/ipsec.secrets", (*keys).fromSecrets},
	{"run/svc-ipsec/*/state.json", (*keys).fromRecord}, // also the keys of refused connections
	{"run/svc-ipsec/*/conf.json", (*keys).fromRecord},  // the file of release 0.1.0 for the same purpose
	{"var/lib/svc-supervisor/containers/*", (*keys).fromRecord},
}

func newMonitor(root, held string, known *keys) *monitor {
	return &monitor{
		root: root, held: held, keys: known, running: map[string]process{}, versions: map[string]fileVersion{},
		seen: map[uint64]bool{}, seed: maphash.MakeSeed(), counts: map[string]int{},
	}
}

// poll collects the texts of the processes, and now and then those of the files and units.
func (m *monitor) poll() {
	m.processes()
	if m.polls%pollsPerFiles == 0 {
		m.files()
	}
	if m.polls%pollsPerUnits == 0 {
		if text, err := exec.Command("systemctl", "show", "--all", "svc-*").Output(); err == nil {
			m.capture("units", "systemctl show", text)
		}
	}
	m.polls++
}

// processes reads the processes that are new, and all of them at every pollsPerOldProcess-th poll.
func (m *monitor) processes() {
	last := m.lastAssigned()
	if last != "" && last == m.lastPID && !m.young && m.polls%pollsPerOldProcess != 0 {
		return
	}
	m.lastPID, m.young = last, false
	proc, err := os.Open(filepath.Join(m.root, "proc"))
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
		p, known := m.running[pid]
		if !known {
			p.since = m.polls
		}
		isNew := m.polls-p.since < newProcessPolls
		m.young = m.young || isNew
		if isNew || m.polls%pollsPerOldProcess == 0 {
			p.command = m.process(filepath.Join(proc.Name(), pid), p.command)
		}
		running[pid] = p
	}
	m.running = running
}

// lastAssigned returns the process id that the kernel assigned last, or "" if that is unknown. As long as it stays the
// same, there is no new process.
func (m *monitor) lastAssigned() string {
	text, err := os.ReadFile(filepath.Join(m.root, "proc/loadavg"))
	if err != nil {
		return ""
	}
	return string(text[bytes.LastIndexByte(text, ' ')+1:])
}

// process collects the command line and the environment of a process if its command line changed. before is the hash of
// its last command line. process returns the hash of the current one.
func (m *monitor) process(directory string, before uint64) uint64 {
	text, err := os.ReadFile(directory + "/cmdline")
	if err != nil || len(text) == 0 {
		return before
	}
	sum := maphash.Bytes(m.seed, text)
	if sum == before {
		return before
	}
	program, _ := os.ReadFile(directory + "/comm")
	program = bytes.TrimSpace(program)
	m.capture("command lines", fmt.Sprintf("command line of %s", program), text)
	if text, err := os.ReadFile(directory + "/environ"); err == nil {
		m.capture("environments", fmt.Sprintf("environment of %s", program), text)
	}
	return sum
}

func (m *monitor) files() {
	for _, pattern := range publicFiles {
		m.readChanged(filepath.Join(m.root, pattern), func(path string, text []byte) {
			m.capture("statuses and unit files", path, text)
		})
	}
	if m.polls%pollsPerContainers == 0 {
		for _, path := range exposedFiles(m.root) {
			m.read(path, func(path string, text []byte) {
				m.capture("files of containers that others can read", path, text)
			})
		}
	}
	for _, source := range keyFiles {
		m.readChanged(filepath.Join(m.held, source.files), func(path string, text []byte) {
			source.parse(m.keys, text, path)
		})
	}
}

// readChanged calls use for the files that match the pattern and have changed since they were last read.
func (m *monitor) readChanged(pattern string, use func(string, []byte)) {
	paths, _ := filepath.Glob(pattern)
	for _, path := range paths {
		m.read(path, use)
	}
}

// read calls use with the content of a regular file if that has changed since it was last read.
func (m *monitor) read(path string, use func(string, []byte)) {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || m.versions[path] == (fileVersion{info.ModTime(), info.Size()}) {
		return
	}
	if text, err := os.ReadFile(path); err == nil {
		m.versions[path] = fileVersion{info.ModTime(), info.Size()}
		use(path, text)
	}
}

// capture stores a text to be searched later, unless the same text is already stored.
func (m *monitor) capture(kind, what string, text []byte) {
	if sum := maphash.Bytes(m.seed, text); !m.seen[sum] {
		m.seen[sum] = true
		m.counts[kind]++
		m.texts = append(m.texts, capturedText{what, text})
	}
}

func (m *monitor) search(s *search) {
	for _, captured := range m.texts {
		s.text(captured.what, captured.text)
	}
}

func (m *monitor) String() string {
	return fmt.Sprintf("%d command lines, %d environments, %d statuses and unit files, %d lists of units",
		m.counts["command lines"], m.counts["environments"], m.counts["statuses and unit files"], m.counts["units"])
}
