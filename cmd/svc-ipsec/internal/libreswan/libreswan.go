// Package libreswan runs one container's Libreswan daemon: as a transient unit of systemd with a user id, a network namespace and a
// view of the file system that are not the host's, and asks and changes it through its control socket.
//
// Every program that a verb runs has a deadline, a fixed environment and bounded output. Control, which runs whack for an operator,
// has no deadline and no limit. The only shell script is Libreswan's `ipsec initnss`. An exit code proves nothing (addconn
// returns 0 for a conn that it dropped), so what is loaded is read back from the daemon. An unchanged conn is never added again:
// that would drop its tunnel.
//
// Private keys get into its key database by files that root alone reads, never by a command line.
//
// It does not compose configuration text (package render does) and knows nothing of addresses and routes.
package libreswan

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

// Daemon is one container's daemon, running or not.
type Daemon struct {
	Tools Tools
	Bus   *unit.Bus
	Owner spec.Owner
	Dir   string // the container's state directory, absolute
	Place Place
}

// Place is where the daemon runs, and with which rights. Programs that talk to it run there too: so a daemon that an attacker
// controls can lead them to nothing that it cannot reach itself. The zero Place is that of a container which version 0.1.0
// made: its daemon is root.
type Place struct {
	User      uint32 // user and group id
	View      string // path of the mount view (package mountview)
	Namespace string // path of the network namespace
}

// Unit is the name of the daemon's unit.
func (d *Daemon) Unit() string { return d.Owner.Name.Unit() }

// The files and folders of the daemon in the container's folder.
func (d *Daemon) Etc() string      { return filepath.Join(d.Dir, "etc") }             // its /etc
func (d *Daemon) Settings() string { return filepath.Join(d.Etc(), "pluto.conf") }    // the daemon's settings
func (d *Daemon) Setup() string    { return filepath.Join(d.Etc(), "ipsec.conf") }    // and all conns
func (d *Daemon) Secrets() string  { return filepath.Join(d.Etc(), "ipsec.secrets") } // the keys
func (d *Daemon) Empty() string    { return filepath.Join(d.Etc(), "ipsec.d") }       // nothing
func (d *Daemon) Conns() string    { return filepath.Join(d.Dir, "conns") }           // one file a loaded conn
func (d *Daemon) NSS() string      { return filepath.Join(d.Dir, "nss") }             // its key database
func (d *Daemon) Run() string      { return filepath.Join(d.Dir, "run") }             // its /run/pluto
func (d *Daemon) socket() string   { return filepath.Join(d.Run(), "pluto.ctl") }     // at most 107 bytes (sun_path)

// What exists only while a verb is at work: conns on their way in, and the template of the key database. state.Directory.Tidy removes
// what a killed verb left, by the names.
func (d *Daemon) staging() string  { return filepath.Join(d.Dir, ".new-load.conf") }
func (d *Daemon) template() string { return filepath.Join(d.Dir, ".new-nss-template") }

// whackLimit bounds one question: the daemon answers in milliseconds, or is stopped, and then whack would wait for ever.
const whackLimit = 5 * time.Second

func (d *Daemon) whack(ctx context.Context, args ...string) (string, error) {
	if d.Tools.Whack == "" {
		return "", errors.New("whack is missing on this host")
	}
	output, err := d.Place.run(ctx, whackLimit, d.Tools.Whack, append([]string{"--ctlsocket", d.socket()}, args...)...)
	if isNotRunning(err) {
		err = fmt.Errorf("%w: %w", ErrNotRunning, err)
	}
	return output, err
}

// Status asks the daemon for everything it has loaded.
func (d *Daemon) Status(ctx context.Context) (map[string]Conn, error) {
	output, err := d.whack(ctx, "--status")
	if err != nil {
		return nil, fmt.Errorf("ask pluto for its status: %w", err)
	}
	return ParseStatus(output), nil
}

// Answer is the answer of a daemon: all that it has loaded, and the Child SAs that are installed, both by conn.
type Answer struct {
	Conns   map[string]Conn
	Traffic map[string]Traffic
}

// Ask asks the daemon for its status and its Child SAs. 4.10 answers both in one call of whack. 5.2 answers the first alone, so it
// is asked again if it has Child SAs.
func (d *Daemon) Ask(ctx context.Context) (Answer, error) {
	output, err := d.whack(ctx, "--status", "--trafficstatus")
	if err != nil {
		return Answer{}, fmt.Errorf("ask pluto for its status: %w", err)
	}
	answer := Answer{ParseStatus(output), ParseTraffic(output)}
	if len(answer.Traffic) > 0 || !hasChildSA(output) {
		return answer, nil
	}
	if output, err = d.whack(ctx, "--trafficstatus"); err != nil {
		return Answer{}, fmt.Errorf("ask pluto for its Child SAs: %w", err)
	}
	answer.Traffic = ParseTraffic(output)
	return answer, nil
}

// RereadSecrets makes the daemon read the keys again; tunnels that are up do not notice.
func (d *Daemon) RereadSecrets(ctx context.Context) error {
	_, err := d.whack(ctx, "--rereadsecrets")
	return wrapf(err, "make pluto read its secrets")
}

// Listen makes the daemon look at the addresses again, and read the keys.
func (d *Daemon) Listen(ctx context.Context) error {
	_, err := d.whack(ctx, "--listen")
	return wrapf(err, "make pluto look at its addresses")
}

// Delete takes conns out of the daemon; one that it does not have is gone already.
func (d *Daemon) Delete(ctx context.Context, conns ...string) error {
	said := map[string]error{}
	for _, conn := range conns {
		_, err := d.whack(ctx, "--name", conn, "--delete")
		if err != nil {
			said[conn] = fmt.Errorf("delete conn %s: %w", conn, err)
		}
		if err != nil && !answered(err) {
			return said[conn]
		}
	}
	if len(said) == 0 {
		return nil
	}
	// whack's exit status is the code of some message that pluto logged during the request, so a delete that succeeded can return
	// an error (5.2: RC_INTERNAL_ERROR after a failed expectation).
	left, err := d.Status(ctx)
	if err != nil {
		return err
	}
	for _, conn := range conns {
		if _, there := left[conn]; there && said[conn] != nil {
			return said[conn]
		}
	}
	return nil
}

func wrapf(err error, operation string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", operation, err)
}

func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "") + "…" // less the half of a letter
	}
	return s
}
