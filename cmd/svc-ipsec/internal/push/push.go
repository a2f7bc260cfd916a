// Package push tells the supervisor at once of a tunnel that came up or went down, in the health object of the contract.
//
// The daemon itself says so: it runs a program at each change of a state (Libreswan's statsbin), by its shell, and stands
// still until that ends. So there is a script, which ends by itself unless a tunnel came up or went down, or was tried in
// vain, and only then becomes this program; and this program asks the daemon nothing, waits for nobody, and needs no more than two kinds of
// files: what ADD wrote down of the connections, and for each conn whether it is up, which the script keeps. Whoever is
// not there to hear it, or too busy, hears it at the next CHECK.
package push

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Shell is what the daemon runs at each change of a state, with words behind it: the first, push or drop, is the script in
// its working directory. So that needs no leave to be executed where it lies: /run is often mounted without.
const Shell = "/bin/sh"

// Program is where this executable is in the daemon's view of the file system.
const Program = "/run/svc-ipsec-push"

// The files in a container's folder: the connections, the script under both of the names that the daemon calls it by, and
// the folder of the conns' states.
const (
	File   = "push.json"
	Script = "run/push"
	Drop   = "run/drop" // of a conn that has no interface
	states = "run/up"
)

// again is how soon ADD is asked for again when a tunnel went down, in seconds: to see why, and what can be done. The daemon,
// or the peer, has the first try.
const again = 3

// Container is what there is to tell of one container.
type Container struct {
	InterfaceName spec.Name    `json:"interfaceName"`
	Connections   []Connection `json:"connections"`
}

// Connection is one connection and its conns in the daemon, by their names.
type Connection struct {
	ID    string `json:"id"`
	Name  string `json:"name,omitempty"`
	Peer  string `json:"peer,omitempty"`
	Pairs []Pair `json:"pairs"`
}

// Pair is one conn and the networks that it joins.
type Pair struct {
	Conn  string `json:"conn"`
	Local string `json:"local"`
	Peer  string `json:"peer"`
}

// script is run as `sh push ipsec-tunnel-CONN if_stats … ; push ipsec-tunnel-CONN tunnel STATE ; …` by the daemon; and
// without arguments when the daemon ended, and before the next one starts. It runs no program but the last one. A tunnel that does not come up is told as
// down once: when all that was tried for it has ended, and then no more until the two daemons have agreed on something.
const script = `cd %[1]s/run/up 2>/dev/null || exit 0
if [ $# = 0 ]; then
	for conn in *; do
		was=
		read -r was 2>/dev/null <"$conn"
		[ "$was" != up ] || { echo down >"$conn" && set -- "$@" "$conn"; }
	done
	[ $# = 0 ] || exec %[2]s push %[1]s "$@"
	exit 0
fi
conn=${1#ipsec-tunnel-} was=
read -r was 2>/dev/null <"$conn"
case "$7 $8 $was" in
"tunnel up up" | "tunnel down down") exit 0 ;;
"tunnel up "*) now=up ;;
"tunnel down "* | *" up") now=down ;;
"tunnel phase1up down") echo >"$conn" && exit 0 ;;
*) exit 0 ;;
esac
echo "$now" >"$conn" && exec %[2]s push %[1]s "$conn"
`

// ScriptFor is the script of the container whose folder that is.
func ScriptFor(folder string) []byte { return fmt.Appendf(nil, script, folder, Program) }

// Dir is the folder of the conns' states.
func Dir(folder string) string { return filepath.Join(folder, states) }

// Changed tells of the connections of these conns, as they are now. It is the whole of `svc-ipsec push FOLDER CONN…`.
func Changed(folder string, conns []string) error {
	text, err := os.ReadFile(filepath.Join(folder, File))
	if err != nil {
		return fmt.Errorf("push: %w", err)
	}
	var c Container
	if err := json.Unmarshal(text, &c); err != nil {
		return fmt.Errorf("push: read %s: %w", File, err)
	}
	health := c.health(conns, func(conn string) string { return state(folder, conn) }, time.Now())
	if len(health.Connections) == 0 {
		return nil // of a conn that was taken out
	}
	return tell(filepath.Join(spec.HealthFolder, spec.HealthSocket), health)
}

// tell sends the health as one object, or, where that is too long, as one for each connection.
func tell(socket string, health *spec.Health) error {
	text, err := json.Marshal(health)
	if err != nil {
		return fmt.Errorf("push: %w", err)
	}
	if len(text) <= spec.HealthLimit || len(health.Connections) == 1 {
		return send(socket, text)
	}
	for _, connection := range health.Connections {
		one := *health
		one.Connections = []spec.Connection{connection}
		if err := tell(socket, &one); err != nil {
			return err
		}
	}
	return nil
}

// Up lists the conns that are up, as the daemon told.
func Up(folder string) []string {
	entries, err := os.ReadDir(Dir(folder))
	if err != nil {
		return nil
	}
	var conns []string
	for _, entry := range entries {
		if state(folder, entry.Name()) == "up" {
			conns = append(conns, entry.Name())
		}
	}
	return conns
}

// Down writes down that a conn is down, so that the daemon's word of it is no news: ADD takes it out, and tells by itself.
func Down(folder, conn string) {
	_ = os.WriteFile(filepath.Join(Dir(folder), conn), []byte("down\n"), 0o600)
}

// Forget forgets the state of a conn that is loaded anew: what comes of it is news again.
func Forget(folder, conn string) { _ = os.Remove(filepath.Join(Dir(folder), conn)) }

// state is "up", "down", or "" for a conn of which nothing is known.
func state(folder, conn string) string {
	text, err := os.ReadFile(filepath.Join(Dir(folder), filepath.Base(conn)))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// health describes the connections of these conns. One is active only if all of its pairs are up. As long as any tunnel of
// the container is down it asks for ADD again.
func (c *Container) health(conns []string, state func(conn string) string, now time.Time) *spec.Health {
	health := &spec.Health{InterfaceName: c.InterfaceName, Code: spec.Running}
	now = now.UTC().Truncate(time.Second)
	for _, connection := range c.Connections {
		if !slices.ContainsFunc(connection.Pairs, func(p Pair) bool { return slices.Contains(conns, p.Conn) }) {
			continue
		}
		told := spec.Connection{ID: connection.ID, Name: connection.Name, Peer: connection.Peer, Status: spec.Active, Since: &now}
		for _, p := range connection.Pairs {
			pair := spec.Pair{Local: p.Local, Peer: p.Peer, Status: spec.Active}
			if state(p.Conn) != "up" {
				pair.Status, told.Status = spec.Down, spec.Down
			}
			told.Pairs = append(told.Pairs, pair)
		}
		health.Connections = append(health.Connections, told)
	}
	if slices.ContainsFunc(conns, func(conn string) bool { return state(conn) == "down" }) || c.anyDown(state) {
		health.Again = &spec.Again{After: again, Reason: "a tunnel is down"}
	}
	return health
}

func (c *Container) anyDown(state func(conn string) string) bool {
	return slices.ContainsFunc(c.Connections, func(connection Connection) bool {
		return slices.ContainsFunc(connection.Pairs, func(p Pair) bool { return state(p.Conn) == "down" })
	})
}

// send hands an object over, if somebody is there to take it now.
func send(socket string, text []byte) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("push: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Sendto(fd, text, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, &unix.SockaddrUnix{Name: socket}); err != nil {
		return fmt.Errorf("push to %s: %w", socket, err)
	}
	return nil
}
