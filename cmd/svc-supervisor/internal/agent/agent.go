// Package agent clears away what a MidoNet agent left on this host: containers that its own log still names though no agent
// runs any more.
//
// It promises that nothing is touched while an agent is alive, that nothing is touched which the log does not name or which
// carries our owner tag, and that an entry of the log goes last: what was cut short is done at the next look. (The agent
// emptied its log before its clean-up was done, and forgot what it crashed over.)
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

// Folder is where the agent has its log, unless its configuration says otherwise.
const Folder = "/var/log/midolman/containers"

// entrySize is more than an entry has: a type, a UUID and an interface name.
const entrySize = 4 << 10

// Host is what the agent made of a container, by its name.
type Host interface {
	// Ours says whether the namespace of that name carries our owner tag.
	Ours(name spec.Name) (bool, error)
	// Clear ends the processes of the namespace and removes it, the veth of that name and the agent's folder of it. What is
	// not there is cleared.
	Clear(ctx context.Context, name spec.Name) error
}

// Log is the agent's container log.
type Log struct {
	Folder string
	Alive  func(context.Context) (bool, error) // whether an agent runs on this host, as the NSDB knows
	Host   Host
	Log    *slog.Logger

	said map[string]string // what was said of an entry, or of all ("")
}

// Sweep clears what the log names, and returns whether something was.
func (l *Log) Sweep(ctx context.Context) bool {
	files, err := os.ReadDir(l.Folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.say("", "container log of the agent not read", "error", err)
	}
	cleared := false
	for _, file := range files {
		alive, err := l.Alive(ctx)
		switch {
		case err != nil:
			l.say("", "left-overs of the agent stay: it is not known whether it runs", "error", err)
			return cleared
		case alive:
			l.say("", "left-overs of the agent stay: it runs", "folder", l.Folder)
			return cleared
		}
		delete(l.said, "")
		if err := l.clear(ctx, file.Name()); err != nil {
			l.say(file.Name(), "left-over of the agent stays", "entry", filepath.Join(l.Folder, file.Name()), "error", err)
			continue
		}
		cleared = true
	}
	return cleared
}

func (l *Log) clear(ctx context.Context, file string) error {
	path := filepath.Join(l.Folder, file)
	name, err := read(path, file)
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
		l.Log.Warn("left-over of the agent removed", "container", name, "portId", file)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// say logs a line once, until another one is due.
func (l *Log) say(of, line string, fields ...any) {
	text := fmt.Sprint(line, fields)
	if l.said == nil {
		l.said = map[string]string{}
	}
	if l.said[of] != text {
		l.said[of] = text
		l.Log.Warn(line, fields...)
	}
}

// read reads the entry of a port.
func read(path, port string) (spec.Name, error) {
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

// parse reads a binary protobuf message: type (1), id (2) and name (3). The agent writes over what was there and does not
// truncate: behind the third there may be the end of a longer one.
func parse(content []byte, port string) (spec.Name, error) {
	var fields [4]string
	for fields[1] == "" || fields[2] == "" || fields[3] == "" {
		number, kind, n := protowire.ConsumeTag(content)
		if n < 0 || number > 3 || kind != protowire.BytesType {
			return "", errors.New("is not an entry of the agent's log: type, id and name")
		}
		value, m := protowire.ConsumeBytes(content[n:])
		if m < 0 {
			return "", errors.New("is not an entry of the agent's log: it is cut short")
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
