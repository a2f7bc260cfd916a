// Package agent removes the containers that a MidoNet agent left on this host. The agent's container log names them.
//
// Nothing is removed while an agent runs on this host. Only containers that the log names are removed, and none that
// has our owner tag. The log entry of a container is removed last, so that the next sweep continues after a crash. (The
// agent itself emptied its log before its clean-up was complete, so after a crash during the clean-up it no longer knew
// what was left.)
package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Directory is the default directory of the agent's container log.
const Directory = "/var/log/midolman/containers"

// entrySize is the maximum size of a log entry. An entry has a type, a UUID and an interface name, so it is smaller.
const entrySize = 4 << 10

// Host removes the containers of the agent from the host.
type Host interface {
	// Ours reports whether the namespace of that name has our owner tag.
	Ours(name spec.Name) (bool, error)
	// Clear kills the processes in the namespace of that name, and removes the namespace, the veth of that name, and
	// the agent's directory of the container. It is not an error if any of these does not exist.
	Clear(ctx context.Context, name spec.Name) error
}

// Log is the agent's container log: a directory with one file per port.
type Log struct {
	Dir   string
	Alive func(context.Context) (bool, error) // whether an agent runs on this host, according to the NSDB
	Host  Host
	Log   *slog.Logger

	logged map[string]string // the last warning by log entry; that about the whole log has the key ""
}

// Sweep removes the containers that the log names, unless an agent runs or may run. It reports whether any container or
// log entry was removed. What cannot be removed is logged, and retried by the next call.
func (l *Log) Sweep(ctx context.Context) bool {
	files, err := os.ReadDir(l.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.warnOnce("", "container log of the agent unreadable", "error", err)
	}
	cleared := false
	for _, file := range files {
		alive, err := l.Alive(ctx)
		switch {
		case err != nil:
			l.warnOnce("", "leftovers of the agent kept: it is not known whether it runs", "error", err)
			return cleared
		case alive:
			l.warnOnce("", "leftovers of the agent kept: it runs", "directory", l.Dir)
			return cleared
		}
		delete(l.logged, "")
		if err := l.clear(ctx, file.Name()); err != nil {
			l.warnOnce(file.Name(), "leftover of the agent kept", "entry", filepath.Join(l.Dir, file.Name()), "error",
				err)
			continue
		}
		cleared = true
	}
	return cleared
}

// clear removes the container of one log entry, and then the entry. Of a container with our owner tag it removes only
// the entry.
func (l *Log) clear(ctx context.Context, file string) error {
	path := filepath.Join(l.Dir, file)
	name, err := readEntry(path, file)
	if err != nil {
		return err
	}
	ours, err := l.Host.Ours(name)
	if err != nil {
		return err
	}
	if !ours {
		if err := l.Host.Clear(ctx, name); err != nil {
			return err
		}
		l.Log.Warn("leftover of the agent removed", "container", name, "portId", file)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// warnOnce logs a warning about a log entry, unless the last warning about it was the same.
func (l *Log) warnOnce(entry, message string, fields ...any) {
	text := fmt.Sprint(message, fields)
	if l.logged == nil {
		l.logged = map[string]string{}
	}
	if l.logged[entry] != text {
		l.logged[entry] = text
		l.Log.Warn(message, fields...)
	}
}

// readEntry returns the name of the container in the log entry of a port.
func readEntry(path, port string) (spec.Name, error) {
	if _, err := spec.ParseID[spec.PortID]("file name", port); err != nil {
		return "", err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() || info.Size() > entrySize {
		return "", fmt.Errorf("allowed: a file of at most %d bytes", entrySize)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	return parse(content, port)
}

// parse parses a log entry, which is a binary protobuf message with the fields type (1), id (2) and name (3), and
// returns the name. It ignores the content after the third field: the agent overwrites a file without truncating it, so
// the end of a longer former entry may follow.
func parse(content []byte, port string) (spec.Name, error) {
	var fields [4]string
	for fields[1] == "" || fields[2] == "" || fields[3] == "" {
		number, kind, n := protowire.ConsumeTag(content)
		if n < 0 || number > 3 || kind != protowire.BytesType {
			return "", errors.New("is not an entry of the agent's log: type, id and name")
		}
		value, m := protowire.ConsumeBytes(content[n:])
		if m < 0 {
			return "", errors.New("is not an entry of the agent's log: it is truncated")
		}
		fields[number], content = string(value), content[n+m:]
	}
	if _, err := spec.ParseServiceType("type", fields[1]); err != nil {
		return "", err
	}
	if fields[2] != port {
		return "", &spec.Fault{Key: "id", Value: fields[2], Allowed: "the file's name"}
	}
	return spec.ParseName("name", fields[3])
}
