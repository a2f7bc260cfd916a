// Soak does bounded harm to a supervisor that is at work: bindings come, go, move and change, the supervisor, executables
// and daemons are killed, executables hang, units are stopped, the NSDB goes away and comes back, systemd executes itself
// anew. Then it is quiet, and what is present must be exactly what is wanted.
//
//	soak [-seconds N] [-seed N] [-containers N] BINARIES
//
// The seed repeats what is drawn, not what the host is doing at that moment. It runs in a sandbox: see the script run.
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

// quietWithin is how long everything may take to settle: the longest back-off, twice, since what is undone then may have
// to wait again before it is made.
const quietWithin = 160 * time.Second

func main() {
	seconds := flag.Int("seconds", 300, "`N` seconds of harm")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "`N` to draw the same again")
	containers := flag.Int("containers", 9, "`N` containers, bound or not; every third is no IPSEC")
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

func soak(binaries string, harm time.Duration, seed uint64, containers int) error {
	fmt.Printf("soak: %v of harm to %d containers, seed %d\n", harm, containers, seed)
	// Shorter than usual, so that CHECK and the deadline have their part.
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
	portraits, err := c.sit()
	if err != nil {
		return fmt.Errorf("before any harm: %w", err)
	}
	c.populate(containers)

	began := time.Now()
	for time.Since(began) < harm {
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
	err = c.settle(quietWithin)
	c.report(time.Since(began), time.Since(quiet), err)
	if err != nil {
		return err
	}
	return c.compare(portraits)
}

// sit makes one container of each type and shape, looks at it closely, and lets it go.
func (c *chaos) sit() (map[string]string, error) {
	for _, kind := range []string{"IPSEC", "LAZY"} {
		for _, shape := range []lab.Shape{lab.A, lab.B} {
			c.bindings = append(c.bindings, &binding{bound: true, Wanted: lab.Ours(strings.ToLower("s-"+kind+string(shape)), kind, shape)})
		}
	}
	if err := c.bindAll(); err != nil {
		return nil, err
	}
	if err := c.settle(30 * time.Second); err != nil {
		return nil, err
	}
	portraits := map[string]string{}
	for _, w := range c.wanted() {
		portrait, err := lab.Portrait(w)
		if err != nil {
			return nil, err
		}
		portraits[w.Type+string(w.Shape)] = portrait
		if err := lab.Unbind(w.Port); err != nil {
			return nil, err
		}
	}
	c.bindings = nil
	return portraits, c.settle(30 * time.Second)
}

func (c *chaos) populate(n int) {
	for i := range n {
		kind := "IPSEC"
		if i%3 == 2 {
			kind = "LAZY"
		}
		c.bindings = append(c.bindings, &binding{Wanted: lab.Ours(fmt.Sprintf("c-%d", i), kind, lab.A)})
	}
}

// settle waits until the world is what is wanted.
func (c *chaos) settle(limit time.Duration) error {
	wanted := c.wanted()
	return lab.Within(limit, func() error {
		for _, w := range wanted {
			if err := lab.Settled(w); err != nil {
				return err
			}
		}
		return lab.Same(wanted)
	})
}

// compare looks closely at each container: all of a type and shape are alike, whatever they went through.
func (c *chaos) compare(portraits map[string]string) error {
	for _, w := range c.wanted() {
		portrait, err := lab.Portrait(w)
		if err != nil {
			return err
		}
		if due := portraits[w.Type+string(w.Shape)]; portrait != due {
			return fmt.Errorf("%s is not as one that nothing happened to:\n%s", w.Name, lab.Differ(due, portrait))
		}
	}
	fmt.Printf("soak: %d containers are in every part as they should be\n", len(c.wanted()))
	return nil
}

func (c *chaos) report(harm, quiet time.Duration, err error) {
	operations, kills := 0, 0
	var list []string
	for _, name := range slices.Sorted(maps.Keys(c.done)) {
		operations += c.done[name]
		if strings.HasPrefix(name, "kill ") {
			kills += c.done[name]
		}
		list = append(list, fmt.Sprintf("%s %d", name, c.done[name]))
	}
	differences, worldErr := lab.Compare(c.wanted())
	leaks, lost := 0, 0
	for _, difference := range differences {
		if strings.HasPrefix(difference, "+") {
			leaks++
		} else {
			lost++
		}
	}
	fmt.Printf("soak: %s\n", strings.Join(list, ", "))
	fmt.Printf("soak: %d operations, %d of them kills, in %v; settled %v after %v; %d wanted; %d leaks, %d lost\n", operations, kills,
		(harm - quiet).Round(time.Second), err == nil && worldErr == nil, quiet.Round(100*time.Millisecond), len(c.wanted()), leaks, lost)
}

func journal() {
	for _, command := range []string{"tail -n 60 " + lab.Log + " | cut -c 1-300", "journalctl --no-pager -o short-precise -n 40"} {
		output, _ := exec.Command("sh", "-c", command).CombinedOutput()
		fmt.Printf("--- %s\n%s", command, output)
	}
}
