package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// check runs CHECK of a recorded container in the same way as the supervisor does.
func (h *host) check(name string) error {
	text, err := os.ReadFile(filepath.Join(root, "state", "containers", name+".IPSEC"))
	if err != nil {
		return err
	}
	var record struct {
		Conf   map[string]any
		Result json.RawMessage
	}
	if err := json.Unmarshal(text, &record); err != nil {
		return err
	}
	record.Conf["prevResult"] = record.Result
	stdin, err := json.Marshal(record.Conf)
	if err != nil {
		return err
	}
	return h.verb("svc-ipsec", "CHECK", name, stdin)
}

// verb runs one verb of an executable without the supervisor.
func (h *host) verb(executable, verb, name string, stdin []byte) error {
	cmd := exec.Command(filepath.Join(root, "plugins", executable))
	cmd.Env = []string{"CNI_COMMAND=" + verb, "CNI_CONTAINERID=" + name, "CNI_NETNS=/run/netns/" + name,
		"CNI_IFNAME=svc0", "CNI_PATH=" + root + "/plugins", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.Stdin = bytes.NewReader(stdin)
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s of %s: %w: %s", verb, name, err, output)
	}
	return nil
}

// whackStatus returns the command `whack --status` for the daemon of a container.
func whackStatus(name string) *exec.Cmd {
	socket := "/run/svc-ipsec/" + name + "/run/pluto.ctl"
	return exec.Command("/usr/libexec/ipsec/whack", "--ctlsocket", socket, "--status")
}

// awaitLoaded waits until the daemon of a container has loaded a connection with this network of the peer.
func (h *host) awaitLoaded(name, network string) error {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		output, err := whackStatus(name).Output()
		if err == nil && strings.Contains(string(output), network) {
			return nil
		}
	}
	return fmt.Errorf("container %s: no connection to %s within a minute", name, network)
}

// started is the file to which svc-bench appends the time when each verb starts.
const started = "/run/svc-bench.started"

// rounds is the number of measurements of each latency.
const rounds = 200

// latency measures the time from writing a binding to the start of the executable, with 10 and 1,000 other containers.
// The floor is the time to start the executable without a supervisor.
func latency(h *host) ([]Row, error) {
	var rows []Row
	defer os.Remove(started)
	var direct []time.Duration
	for range rounds {
		if err := os.WriteFile(started, nil, 0o600); err != nil {
			return nil, err
		}
		stdin := []byte(`{"cniVersion":"1.1.0","name":"bench","type":"svc-bench"}`)
		began := time.Now()
		if err := h.verb("svc-bench", "STATUS", "hand", stdin); err != nil {
			return nil, err
		}
		at, err := awaitStart("STATUS", "hand")
		if err != nil {
			return nil, err
		}
		direct = append(direct, at.Sub(began))
	}
	floor := median(direct).Seconds() * 1000
	for _, over := range []func(*host, float64) ([]Row, error){latencyOverFiles, latencyOverEtcd} {
		more, err := over(h, floor)
		rows = append(rows, more...)
		if err != nil {
			return rows, err
		}
	}
	return rows, nil
}

// nsdb accesses one kind of NSDB, for latencyOver.
type nsdb struct {
	name, url string
	put       func(key string, value object) error
	remove    func(key string) error
	await     func(c containers, count int, up bool) error // waits until the statuses are RUNNING, or removed
}

func latencyOverFiles(h *host, floor float64) ([]Row, error) {
	return latencyOver(h, floor, nsdb{
		name: "file", url: "file://" + root + "/nsdb", put: put,
		remove: func(key string) error { return os.Remove(objectPath(key)) },
		await: func(c containers, count int, up bool) error {
			return c.change(count, func(int) error { return nil }, up)
		},
	})
}

// latencyOver measures the latency with one kind of NSDB, with 10 and 1,000 other containers.
func latencyOver(h *host, floor float64, n nsdb) ([]Row, error) {
	probe := containers{"probe", "BENCH", 0}
	if err := probe.defineIn(1, n.put); err != nil {
		return nil, err
	}
	var rows []Row
	for _, count := range []int{10, 1000} {
		times, err := n.latencies(h, probe, count)
		if err != nil {
			return rows, err
		}
		for _, q := range []struct {
			name           string
			quantile, most float64
		}{{"p50", 0.5, 4}, {"p99", 0.99, 12}} {
			target := q.most
			if count != 1000 {
				target = 0
			}
			rows = append(rows, ratio(fmt.Sprintf("binding to executable among %d, %s, %s", count, n.name, q.name),
				"ms", quantile(times, q.quantile).Seconds()*1000, floor, target))
		}
	}
	return rows, nil
}

// latencies starts a supervisor with count containers, and measures the time from writing the binding of probe to its
// ADD.
func (n nsdb) latencies(h *host, probe containers, count int) (times []time.Duration, err error) {
	if err := minimal.defineIn(count, n.put); err != nil {
		return nil, err
	}
	if err := h.startOn(n.url, "SVC_CHECK_INTERVAL=1h"); err != nil {
		return nil, err
	}
	defer h.stop()
	for i := range count {
		if err := n.put(minimal.bindingKey(i), minimal.binding(i)); err != nil {
			return nil, err
		}
	}
	if err := n.await(minimal, count, true); err != nil {
		return nil, err
	}
	for range rounds {
		if err := os.WriteFile(started, nil, 0o600); err != nil {
			return nil, err
		}
		began := time.Now()
		if err := n.put(probe.bindingKey(0), probe.binding(0)); err != nil {
			return nil, err
		}
		at, err := awaitStart("ADD", probe.name(0))
		if err != nil {
			return nil, err
		}
		times = append(times, at.Sub(began))
		if err := n.await(probe, 1, true); err != nil {
			return nil, err
		}
		if err := n.remove(probe.bindingKey(0)); err != nil {
			return nil, err
		}
		if err := n.await(probe, 1, false); err != nil {
			return nil, err
		}
	}
	for i := range count {
		if err := n.remove(minimal.bindingKey(i)); err != nil {
			return nil, err
		}
	}
	return times, n.await(minimal, count, false)
}

// awaitStart waits until a verb of a container has started, and returns the time when it started.
func awaitStart(verb, name string) (time.Time, error) {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		text, err := os.ReadFile(started)
		if err != nil {
			return time.Time{}, err
		}
		for line := range strings.Lines(string(text)) {
			var at int64
			var v, n string
			if _, err := fmt.Sscanf(line, "%d %s %s", &at, &v, &n); err == nil && v == verb && n == name {
				return time.Unix(0, at), nil
			}
		}
	}
	return time.Time{}, fmt.Errorf("no %s of %s within a minute", verb, name)
}
