package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	hostID   = "bench"
	root     = "/run/svc-bench-host" // NSDB, plugins and state directory of the benchmark
	parallel = 4                     // the default of --parallel on two processors, and the value for the floor
	unitName = "svc-supervisor-bench.service"
	statuses = "/run/svc-supervisor/status/containers/" + hostID
)

// host is the sandbox, in which at most one supervisor runs.
type host struct {
	binaries string
	runs     int // how often each measurement is repeated
	foreign  int // the number of foreign network namespaces, which belong to no container
}

func newHost(binaries string, runs int) (*host, error) {
	h := &host{binaries: binaries, runs: runs}
	for _, name := range []string{"hosts", "containers", "configurations", "groups", "bindings/" + hostID} {
		if err := os.MkdirAll(filepath.Join(root, "nsdb", name), 0o700); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(filepath.Join(root, "plugins"), 0o755); err != nil {
		return nil, err
	}
	for from, to := range map[string]string{"svc-ipsec": "svc-ipsec", "bench/svc-bench": "svc-bench"} {
		program, err := os.ReadFile(filepath.Join(binaries, from))
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(root, "plugins", to), program, 0o755); err != nil {
			return nil, err
		}
	}
	// The first `ip netns add` makes /run/netns a mount, which must not count in a measurement.
	if err := run("sh", "-c", "ip netns add warm && ip netns delete warm"); err != nil {
		return nil, err
	}
	return h, put("hosts/"+hostID, object{"id": hostID, "name": "bench", "containerWeight": 1, "containerLimit": -1})
}

func (h *host) close() {
	h.stop()
	h.setForeign(0)
}

// setForeign makes or removes foreign network namespaces until there are n.
func (h *host) setForeign(n int) error {
	for ; h.foreign < n; h.foreign++ {
		if err := run("ip", "netns", "add", "foreign-"+strconv.Itoa(h.foreign)); err != nil {
			return err
		}
	}
	for ; h.foreign > n; h.foreign-- {
		if err := run("ip", "netns", "delete", "foreign-"+strconv.Itoa(h.foreign-1)); err != nil {
			return err
		}
	}
	return nil
}

// start starts a supervisor with the NSDB of files, and waits until it is ready (READY=1). settings are environment
// variables.
func (h *host) start(settings ...string) error { return h.startOn("file://"+root+"/nsdb", settings...) }

// startOn starts a supervisor with the NSDB at a URL; see start.
func (h *host) startOn(nsdb string, settings ...string) error {
	args := []string{"--quiet", "--unit=" + unitName, "--property=Type=notify", "--property=CPUAccounting=yes",
		"--property=KillMode=mixed", "--property=TimeoutStopSec=60"}
	environment := append([]string{"SVC_HOST_ID=" + hostID, "SVC_NSDB=" + nsdb, "SVC_PLUGIN_PATH=" + root + "/plugins",
		"SVC_STATE_DIR=" + root + "/state"}, settings...)
	for _, e := range environment {
		args = append(args, "--setenv="+e)
	}
	return run("systemd-run", append(args, filepath.Join(h.binaries, "svc-supervisor"), "run")...)
}

// stop stops the supervisor if one runs. Its containers stay.
func (h *host) stop() {
	_ = exec.Command("systemctl", "stop", unitName).Run()
	_ = exec.Command("systemctl", "reset-failed", unitName).Run()
}

// pid returns the process id of the supervisor, and 0 if none runs.
func (h *host) pid() (int, error) {
	output, err := exec.Command("systemctl", "show", "-P", "MainPID", unitName).Output()
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(output)))
}

// cost is the result of a measurement.
type cost struct {
	wall  time.Duration
	cpu   time.Duration   // CPU time of the whole sandbox including systemd and the journal, but without this program
	own   time.Duration   // the share of the supervisor's process in cpu
	parts []time.Duration // the shares of the control groups of parts in cpu
}

// parts are the control groups whose shares are printed.
var parts = []struct {
	name   string
	groups []string
}{
	{"supervisor with verbs", []string{"system.slice/" + unitName}},
	{"units", []string{"svc.slice", "floor.slice"}},
	{"systemd", []string{"init.scope"}},
	{"journal", []string{"system.slice/systemd-journald.service"}},
}

// partsNow returns the CPU time that each part has used so far. A control group that does not exist counts as 0.
func partsNow() []time.Duration {
	var times []time.Duration
	for _, p := range parts {
		var sum time.Duration
		for _, group := range p.groups {
			used, _ := usage(group)
			sum += used
		}
		times = append(times, sum)
	}
	return times
}

// shares describes the CPU time that each part used, per container.
func (c cost) shares(containers int) string {
	per := func(d time.Duration) string { return fmt.Sprintf("%.1f ms", d.Seconds()*1000/float64(containers)) }
	text := "CPU per container: " + per(c.cpu) + "; supervisor's process " + per(c.own)
	for i, p := range parts {
		text += ", " + p.name + " " + per(c.parts[i])
	}
	return text
}

// measure calls do and returns its cost.
func (h *host) measure(do func() error) (cost, error) {
	sandbox, err := usage("")
	if err != nil {
		return cost{}, err
	}
	self, supervisor, before, began := selfTime(), h.supervisorTime(), partsNow(), time.Now()
	if err := do(); err != nil {
		return cost{}, err
	}
	c := cost{wall: time.Since(began)}
	after, err := usage("")
	c.cpu = after - sandbox - (selfTime() - self)
	c.own = h.supervisorTime() - supervisor
	for i, now := range partsNow() {
		c.parts = append(c.parts, now-before[i])
	}
	return c, err
}

// usage returns the CPU time of a control group, including all groups below it.
func usage(group string) (time.Duration, error) {
	text, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", group, "cpu.stat"))
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(text) {
		if value, ok := bytes.CutPrefix(line, []byte("usage_usec ")); ok {
			n, err := strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64)
			return time.Duration(n) * time.Microsecond, err
		}
	}
	return 0, fmt.Errorf("control group %q: cpu.stat has no usage_usec", group)
}

// selfTime returns the CPU time of this process, without its children.
func selfTime() time.Duration {
	var r unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// supervisorTime returns the CPU time of the supervisor's process, without its verbs. It is 0 if none runs.
func (h *host) supervisorTime() time.Duration {
	pid, err := h.pid()
	if err != nil || pid == 0 {
		return 0
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond // 1/100 s: sysconf(_SC_CLK_TCK) on Linux
}

// resident returns the resident memory of the supervisor, in MB.
func (h *host) resident() (float64, error) {
	pid, err := h.pid()
	if err != nil {
		return 0, err
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kB, err := strconv.ParseFloat(strings.Fields(value)[0], 64)
			return kB / 1000, err
		}
	}
	return 0, fmt.Errorf("process %d has no VmRSS", pid)
}

func run(program string, args ...string) error {
	output, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, output)
	}
	return nil
}

type object = map[string]any

// put writes one object of the NSDB of files. It writes a temporary file and renames it.
func put(key string, value object) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	temporary := filepath.Join(root, ".object")
	if err := os.WriteFile(temporary, text, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, objectPath(key))
}

func objectPath(key string) string { return filepath.Join(root, "nsdb", key+".json") }

func median[T ~int64 | ~float64](values []T) T { return quantile(values, 0.5) }

func quantile[T ~int64 | ~float64](values []T, q float64) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}
