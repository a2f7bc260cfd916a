package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/internal/atomicfile"
	"github.com/svc-supervisor/svc-supervisor/internal/busyclock"
	"github.com/svc-supervisor/svc-supervisor/pkg/netns"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// manualState stores what exec needs between ADD and DEL of a container: its configuration, the result of ADD, and
// whether exec made its network namespace. The files contain secrets. They have mode 0600, in a directory of mode 0700.
type manualState struct {
	dir  string
	name spec.Name
}

func openManualState(runDir string, name spec.Name) (*manualState, error) {
	dir := filepath.Join(runDir, "by-hand")
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	return &manualState{dir, name}, nil
}

func (s *manualState) confPath() string   { return filepath.Join(s.dir, string(s.name)+".json") }
func (s *manualState) resultPath() string { return filepath.Join(s.dir, string(s.name)+".result") }
func (s *manualState) madePath() string   { return filepath.Join(s.dir, string(s.name)+".netns") }

func (s *manualState) conf() (*spec.Conf, error) {
	content, err := os.ReadFile(s.confPath())
	if err != nil {
		return nil, err
	}
	conf := new(spec.Conf)
	if err := json.Unmarshal(content, conf); err != nil {
		return nil, fmt.Errorf("%s: %s", s.confPath(), jsonFault(content, err))
	}
	if conf.Container == nil {
		return nil, fmt.Errorf("%s: no `container`", s.confPath())
	}
	return conf, conf.Container.Check()
}

func (s *manualState) writeConf(conf *spec.Conf) error {
	content, err := json.MarshalIndent(conf, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Write(s.confPath(), append(content, '\n'), atomicfile.Options{Sync: true})
}

// result returns the stored result of ADD. It is nil if there is none or if it is not JSON.
func (s *manualState) result() json.RawMessage {
	content, err := os.ReadFile(s.resultPath())
	if err != nil || !json.Valid(content) {
		return nil
	}
	return content
}

func (s *manualState) writeResult(stdout []byte) error {
	return atomicfile.Write(s.resultPath(), stdout, atomicfile.Options{Sync: true})
}

func (s *manualState) remove() error {
	var errs []error
	for _, path := range []string{s.confPath(), s.resultPath(), s.madePath()} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// makeNamespace makes the network namespace with `ip netns add`, if it does not exist. The namespace has no owner tag,
// so the supervisor treats the name as another program's and does not touch it.
func (m *manualRun) makeNamespace(ctx context.Context) error {
	namespace, err := m.namespaces.Observe(m.name)
	if err != nil {
		return err
	}
	switch namespace.State {
	case netns.Ours:
		return fmt.Errorf("namespace %s is the supervisor's", m.name)
	case netns.Foreign:
		return nil // made by the user or by an earlier exec ADD
	}
	fmt.Fprintf(m.stderr, "ip netns add %s\n", m.name)
	if err := ipNetns(ctx, "add", m.name); err != nil {
		return err
	}
	return os.WriteFile(m.state.madePath(), nil, 0o600)
}

// removeNamespace removes a namespace that makeNamespace made.
func (m *manualRun) removeNamespace(ctx context.Context) error {
	if _, err := os.Stat(m.state.madePath()); err != nil {
		return nil
	}
	namespace, err := m.namespaces.Observe(m.name)
	if err != nil || namespace.State == netns.Absent {
		return err
	}
	fmt.Fprintf(m.stderr, "ip netns delete %s\n", m.name)
	return ipNetns(ctx, "delete", m.name)
}

// ipNetnsTime limits `ip netns`, which waits without a timeout for a lock on /run/netns that any user can hold.
const ipNetnsTime = 10 * time.Second

func ipNetns(ctx context.Context, what string, name spec.Name) error {
	ctx, cancel := busyclock.WithTimeout(ctx, ipNetnsTime)
	defer cancel()
	output, err := exec.CommandContext(ctx, "ip", "netns", what, string(name)).CombinedOutput()
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("ip netns %s %s: killed after %v; lslocks shows which process holds the lock of /run/netns",
			what, name, ipNetnsTime)
	}
	if err != nil {
		return fmt.Errorf("ip netns %s %s: %w: %s", what, name, err, oneCell(strings.TrimSpace(string(output))))
	}
	return nil
}
