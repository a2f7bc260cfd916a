package libreswan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// Control queries and changes a running daemon through its control socket, with whack.
type Control struct {
	program   string // path of whack, "" if it is missing
	socket    string
	isolation Isolation
}

// whackLimit is the time limit of one whack call. The daemon answers within milliseconds; if its process is stopped,
// whack would wait forever.
const whackLimit = 5 * time.Second

func (c Control) whack(ctx context.Context, args ...string) (string, error) {
	if c.program == "" {
		return "", errors.New("whack is missing on this host")
	}
	output, err := c.isolation.run(ctx, whackLimit, c.program, append([]string{"--ctlsocket", c.socket}, args...)...)
	if isNotRunning(err) {
		err = fmt.Errorf("%w: %w", ErrNotRunning, err)
	}
	return output, err
}

// Status returns everything that the daemon has loaded.
func (c Control) Status(ctx context.Context) (map[string]Conn, error) {
	output, err := c.whack(ctx, "--status")
	if err != nil {
		return nil, fmt.Errorf("ask pluto for its status: %w", err)
	}
	return ParseStatus(output), nil
}

// Answer is what the daemon reports: the loaded conns and the installed Child SAs, both by conn.
type Answer struct {
	Conns   map[string]Conn
	Traffic map[string]Traffic
}

// Query returns the daemon's status and its Child SAs. 4.10 reports both in one call of whack. 5.2 reports only the
// status, so a second call follows if there are Child SAs.
func (c Control) Query(ctx context.Context) (Answer, error) {
	output, err := c.whack(ctx, "--status", "--trafficstatus")
	if err != nil {
		return Answer{}, fmt.Errorf("ask pluto for its status: %w", err)
	}
	answer := Answer{ParseStatus(output), ParseTraffic(output)}
	if len(answer.Traffic) > 0 || !hasChildSA(output) {
		return answer, nil
	}
	if output, err = c.whack(ctx, "--trafficstatus"); err != nil {
		return Answer{}, fmt.Errorf("ask pluto for its Child SAs: %w", err)
	}
	answer.Traffic = ParseTraffic(output)
	return answer, nil
}

// RereadSecrets makes the daemon read its keys again. Established tunnels are not affected.
func (c Control) RereadSecrets(ctx context.Context) error {
	_, err := c.whack(ctx, "--rereadsecrets")
	return wrapf(err, "make pluto read its secrets")
}

// Listen makes the daemon reread the interface addresses and its keys.
func (c Control) Listen(ctx context.Context) error {
	_, err := c.whack(ctx, "--listen")
	return wrapf(err, "make pluto reread its addresses and keys")
}

// flushRoots makes a running daemon read its root CAs again. The daemon caches them as long as it uses them at least
// every five minutes, and 4.10 has no other command to flush the cache. From 5.0 on --rereadcerts does it, but also
// reloads all conns.
func (c Control) flushRoots(ctx context.Context) {
	_, _ = c.whack(ctx, "--impair", "trigger:FREE_ROOT_CERTS")
}

// Delete deletes conns in the daemon. It is no error if the daemon does not have a conn.
func (c Control) Delete(ctx context.Context, conns ...string) error {
	failed := map[string]error{}
	for _, conn := range conns {
		_, err := c.whack(ctx, "--name", conn, "--delete")
		if err != nil {
			failed[conn] = fmt.Errorf("delete conn %s: %w", conn, err)
		}
		if err != nil && !plutoAnswered(err) {
			return failed[conn]
		}
	}
	if len(failed) == 0 {
		return nil
	}
	// The exit status of whack is the code of some message that pluto logged during the request. So a delete that
	// succeeded can return an error (5.2: RC_INTERNAL_ERROR after a failed expectation), and the status decides.
	left, err := c.Status(ctx)
	if err != nil {
		return err
	}
	for _, conn := range conns {
		if _, present := left[conn]; present && failed[conn] != nil {
			return failed[conn]
		}
	}
	return nil
}

// Run runs whack with these options for an operator, without a time limit. whack has the user ID of the daemon and
// prints what the daemon sends. Its output goes through pipes, because a process with access to the operator's terminal
// could insert input into it, and control sequences in the output could control it.
func (c Control) Run(options []string) error {
	cmd := c.isolation.command(exec.Command(c.program, append([]string{"--ctlsocket", c.socket}, options...)...))
	cmd.Stdout, cmd.Stderr = printable{os.Stdout}, printable{os.Stderr}
	return c.isolation.inNamespaces(cmd.Run)
}

// printable writes text without control characters: every byte except printable ASCII, tabs and newlines becomes "?".
type printable struct{ to io.Writer }

func (w printable) Write(p []byte) (int, error) {
	text := bytes.Clone(p)
	for i, c := range text {
		if (c < ' ' || c > '~') && c != '\n' && c != '\t' {
			text[i] = '?'
		}
	}
	return w.to.Write(text)
}
