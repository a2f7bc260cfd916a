// Soak runs random operations on a host with a running supervisor for a given time. Bindings are added, removed, moved
// and changed; the supervisor, executables and daemons are killed; executables hang; units are stopped; the NSDB is
// removed and restored; systemd re-executes itself. After that, the observed state of the host must become exactly the
// desired one.
//
//	soak [-seconds N] [-seed N] [-containers N] BINARIES
//
// The same seed gives the same sequence of operations, but their timing relative to the supervisor differs between
// runs. Soak runs in a sandbox only. The script run starts it there.
package main

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/test/crash/lab"
)

// settleTimeout is how long the host may take to reach the desired state: twice the maximum back-off and some more,
// because both the DEL and the ADD of a container may have to wait for a back-off.
const settleTimeout = 160 * time.Second

func main() {
	seconds := flag.Int("seconds", 300, "run operations for `N` seconds")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "`N`, the seed of the random sequence")
	containers := flag.Int("containers", 9, "`N` containers; every third one is of type LAZY, the others of type IPSEC")
	flag.Parse()
	if flag.NArg() != 1 || *seconds < 1 || *containers < 2 {
		fmt.Fprintln(os.Stderr, "usage: soak [-seconds N] [-seed N] [-containers N] BINARIES")
		os.Exit(2)
	}
	if err := soak(flag.Arg(0), time.Duration(*seconds)*time.Second, *seed, *containers); err != nil {
		fmt.Println("soak:", err)
		journal()
		os.Exit(1)
	}
}

func soak(binaries string, duration time.Duration, seed uint64, containers int) error {
	fmt.Printf("soak: operations for %v on %d containers, seed %d\n", duration, containers, seed)
	// Shorter than the defaults, so that CHECK runs and deadlines expire during the test.
	for name, value := range map[string]string{"SVC_CHECK_INTERVAL": "5s", "SVC_VERB_TIMEOUT": "8s"} {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	l, err := lab.Open(binaries)
	if err != nil {
		return err
	}
	if err := l.Start(); err != nil {
		return err
	}
	c := &chaos{Lab: l, random: rand.New(rand.NewPCG(seed, 0)), done: map[string]int{}}
	references, err := c.sample()
	if err != nil {
		return fmt.Errorf("before the first operation: %w", err)
	}
	c.populate(containers)

	began := time.Now()
	for time.Since(began) < duration {
		if err := c.operate(); err != nil {
			return err
		}
		time.Sleep(time.Duration(c.random.IntN(400)) * time.Millisecond)
	}
	if !l.Alive() {
		if err := l.Start(); err != nil {
			return err
		}
	}
	quiet := time.Now()
	err = c.awaitDesired(settleTimeout)
	c.report(time.Since(began), time.Since(quiet), err)
	if err != nil {
		return err
	}
	return c.compare(references)
}

// sample makes one container of each type and shape, stores its description, and removes it.
func (c *chaos) sample() (map[string]string, error) {
	for _, kind := range []string{"IPSEC", "LAZY"} {
		for _, shape := range []lab.Shape{lab.A, lab.B} {
			name := strings.ToLower("s-" + kind + string(shape))
			c.bindings = append(c.bindings, &binding{bound: true, Binding: lab.NewBinding(name, kind, shape)})
		}
	}
	if err := c.bindAll(); err != nil {
		return nil, err
	}
	if err := c.awaitDesired(30 * time.Second); err != nil {
		return nil, err
	}
	references := map[string]string{}
	for _, w := range c.desired() {
		description, err := lab.Describe(w)
		if err != nil {
			return nil, err
		}
		references[w.Type+string(w.Shape)] = description
		if err := lab.Unbind(w.Port); err != nil {
			return nil, err
		}
	}
	c.bindings = nil
	return references, c.awaitDesired(30 * time.Second)
}

// populate adds n containers that are not bound.
func (c *chaos) populate(n int) {
	for i := range n {
		kind := "IPSEC"
		if i%3 == 2 {
			kind = "LAZY"
		}
		c.bindings = append(c.bindings, &binding{Binding: lab.NewBinding(fmt.Sprintf("c-%d", i), kind, lab.A)})
	}
}

// awaitDesired waits until the host has the desired state, at most for limit. The error describes the difference.
func (c *chaos) awaitDesired(limit time.Duration) error {
	desired := c.desired()
	return lab.Within(limit, func() error {
		for _, w := range desired {
			if err := lab.CheckSettled(w); err != nil {
				return err
			}
		}
		return lab.CheckObserved(desired)
	})
}

// compare compares the description of each container with that of its type and shape from before the operations.
func (c *chaos) compare(references map[string]string) error {
	for _, w := range c.desired() {
		description, err := lab.Describe(w)
		if err != nil {
			return err
		}
		if due := references[w.Type+string(w.Shape)]; description != due {
			return fmt.Errorf("%s differs from the container before the operations:\n%s", w.Name,
				lab.Diff(due, description))
		}
	}
	fmt.Printf("soak: %d containers are equal to those before the operations\n", len(c.desired()))
	return nil
}

// report prints the operations and the result. total is the time since the first operation, quiet the time since the
// last.
func (c *chaos) report(total, quiet time.Duration, err error) {
	operations, kills := 0, 0
	var list []string
	for _, name := range slices.Sorted(maps.Keys(c.done)) {
		operations += c.done[name]
		if strings.HasPrefix(name, "kill ") {
			kills += c.done[name]
		}
		list = append(list, fmt.Sprintf("%s %d", name, c.done[name]))
	}
	differences, compareErr := lab.Compare(c.desired())
	leaks, lost := 0, 0
	for _, difference := range differences {
		if strings.HasPrefix(difference, "+") {
			leaks++
		} else {
			lost++
		}
	}
	fmt.Printf("soak: %s\n", strings.Join(list, ", "))
	fmt.Printf("soak: %d operations, %d of them kills, in %v; settled %v after %v; %d desired; %d leaks, %d lost\n",
		operations, kills, (total - quiet).Round(time.Second), err == nil && compareErr == nil,
		quiet.Round(100*time.Millisecond), len(c.desired()), leaks, lost)
}

// journal prints the last lines of the supervisor's log and of the journal.
func journal() {
	for _, command := range []string{
		"tail -n 60 " + lab.Log + " | cut -c 1-300", "journalctl --no-pager -o short-precise -n 40",
	} {
		output, _ := exec.Command("sh", "-c", command).CombinedOutput()
		fmt.Printf("--- %s\n%s", command, output)
	}
}
