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
	parallel = 4                     // the supervisor's default on two processors, and the floor's
	unitName = "svc-supervisor-bench.service"
	statuses = "/run/svc-supervisor/status/containers/" + hostID
)

// Host is the sandbox with one supervisor at most.
type host struct {
	binaries string
	runs     int
	foreign  int // network namespaces that belong to nobody
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
	if err := run("sh", "-c", "ip netns add warm && ip netns delete warm"); err != nil { // makes /run/netns a mount
		return nil, err
	}
	return h, put("hosts/"+hostID, object{"id": hostID, "name": "bench", "containerWeight": 1, "containerLimit": -1})
}

func (h *host) close() {
	h.stop()
	h.beside(0)
}

// beside makes or removes foreign network namespaces until there are n.
func (h *host) beside(n int) error {
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

// start starts a supervisor on the NSDB of files and waits until it has published its host.
func (h *host) start(settings ...string) error { return h.startOn("file://"+root+"/nsdb", settings...) }

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

// stop stops the supervisor, if there is one; its containers stay.
func (h *host) stop() {
	_ = exec.Command("systemctl", "stop", unitName).Run()
	_ = exec.Command("systemctl", "reset-failed", unitName).Run()
}

func (h *host) pid() (int, error) {
	output, err := exec.Command("systemctl", "show", "-P", "MainPID", unitName).Output()
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(output)))
}

// A cost is what a measurement took.
type cost struct {
	wall  time.Duration
	cpu   time.Duration   // of the whole sandbox, systemd and the journal included, without this program
	own   time.Duration   // of that, the supervisor's process itself
	parts []time.Duration // of that, by the control groups of parts
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

// partsNow are the processor times of the parts. A group that does not exist counts as 0.
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

// shares says how much of the processor time each part used, per container.
func (c cost) shares(containers int) string {
	per := func(d time.Duration) string { return fmt.Sprintf("%.1f ms", d.Seconds()*1000/float64(containers)) }
	text := "CPU per container: " + per(c.cpu) + "; supervisor's process " + per(c.own)
	for i, p := range parts {
		text += ", " + p.name + " " + per(c.parts[i])
	}
	return text
}

// measure runs do and says what it cost.
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

// usage is the CPU time of a control group and all below it.
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

// selfTime is the CPU time of this program, without that of its children.
func selfTime() time.Duration {
	var r unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// supervisorTime is the CPU time of the supervisor's process, without that of the verbs; 0 if none runs.
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

// resident is the memory of the supervisor, in MB.
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

// put writes one object of the NSDB of files by renaming a whole file into its place.
func put(key string, value object) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	aside := filepath.Join(root, ".object")
	if err := os.WriteFile(aside, text, 0o600); err != nil {
		return err
	}
	return os.Rename(aside, objectPath(key))
}

func objectPath(key string) string { return filepath.Join(root, "nsdb", key+".json") }

func median[T ~int64 | ~float64](values []T) T { return quantile(values, 0.5) }

func quantile[T ~int64 | ~float64](values []T, q float64) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}
