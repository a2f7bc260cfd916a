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

// check runs CHECK of a recorded container by hand, as the supervisor does.
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

// verb runs one verb by hand.
func (h *host) verb(executable, verb, name string, stdin []byte) error {
	cmd := exec.Command(filepath.Join(root, "plugins", executable))
	cmd.Env = []string{"CNI_COMMAND=" + verb, "CNI_CONTAINERID=" + name, "CNI_NETNS=/run/netns/" + name, "CNI_IFNAME=svc0",
		"CNI_PATH=" + root + "/plugins", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.Stdin = bytes.NewReader(stdin)
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s of %s: %w: %s", verb, name, err, output)
	}
	return nil
}

// loaded waits until the daemon of a container has a connection with this network of the peer.
func (h *host) loaded(name, network string) error {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		output, err := exec.Command("/usr/libexec/ipsec/whack", "--ctlsocket", "/run/svc-ipsec/"+name+"/run/pluto.ctl", "--status").Output()
		if err == nil && strings.Contains(string(output), network) {
			return nil
		}
	}
	return fmt.Errorf("container %s: no connection to %s within a minute", name, network)
}

// started is the file in which svc-bench notes when each verb began.
const started = "/run/svc-bench.started"

// rounds is how often each latency is measured.
const rounds = 200

// latency is the time from a binding to the start of its executable, beside 10 and 1,000 known containers; the floor is the
// start of the executable by hand.
func latency(h *host) ([]Row, error) {
	var rows []Row
	defer os.Remove(started)
	var byHand []time.Duration
	for range rounds {
		if err := os.WriteFile(started, nil, 0o600); err != nil {
			return nil, err
		}
		began := time.Now()
		if err := h.verb("svc-bench", "STATUS", "hand", []byte(`{"cniVersion":"1.1.0","name":"bench","type":"svc-bench"}`)); err != nil {
			return nil, err
		}
		at, err := awaitStart("STATUS", "hand")
		if err != nil {
			return nil, err
		}
		byHand = append(byHand, at.Sub(began))
	}
	floor := median(byHand).Seconds() * 1000
	for _, over := range []func(*host, float64) ([]Row, error){latencyOverFiles, latencyOverEtcd} {
		more, err := over(h, floor)
		rows = append(rows, more...)
		if err != nil {
			return rows, err
		}
	}
	return rows, nil
}

// An nsdb is where latencyOver writes bindings, and how it sees that the supervisor has done what they ask for.
type nsdb struct {
	name, url string
	put       func(key string, value object) error
	remove    func(key string) error
	settled   func(c containers, count int, up bool) error // waits until the statuses say so
}

func latencyOverFiles(h *host, floor float64) ([]Row, error) {
	return latencyOver(h, floor, nsdb{
		name: "file", url: "file://" + root + "/nsdb", put: put,
		remove: func(key string) error { return os.Remove(objectPath(key)) },
		settled: func(c containers, count int, up bool) error {
			return c.change(count, func(int) error { return nil }, up)
		},
	})
}

// latencyOver measures on one NSDB, beside 10 and 1,000 known containers.
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
			rows = append(rows, ratio(fmt.Sprintf("binding to executable among %d, %s, %s", count, n.name, q.name), "ms",
				quantile(times, q.quantile).Seconds()*1000, floor, target))
		}
	}
	return rows, nil
}

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
	if err := n.settled(minimal, count, true); err != nil {
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
		if err := n.settled(probe, 1, true); err != nil {
			return nil, err
		}
		if err := n.remove(probe.bindingKey(0)); err != nil {
			return nil, err
		}
		if err := n.settled(probe, 1, false); err != nil {
			return nil, err
		}
	}
	for i := range count {
		if err := n.remove(minimal.bindingKey(i)); err != nil {
			return nil, err
		}
	}
	return times, n.settled(minimal, count, false)
}

// awaitStart waits for a verb of a container and returns when it began.
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
