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

	"github.com/google/renameio/v2"

	"github.com/svc-supervisor/svc-supervisor/internal/patience"
	"github.com/svc-supervisor/svc-supervisor/pkg/netns"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// handFolder keeps what exec needs of a container between ADD and DEL: its configuration, its result, and whether exec made
// its namespace. The files hold secrets: 0600 in a folder of 0700.
type handFolder struct {
	dir  string
	name spec.Name
}

func openHandFolder(runDir string, name spec.Name) (*handFolder, error) {
	dir := filepath.Join(runDir, "by-hand")
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	return &handFolder{dir, name}, nil
}

func (f *handFolder) confPath() string   { return filepath.Join(f.dir, string(f.name)+".json") }
func (f *handFolder) resultPath() string { return filepath.Join(f.dir, string(f.name)+".result") }
func (f *handFolder) madePath() string   { return filepath.Join(f.dir, string(f.name)+".netns") }

func (f *handFolder) conf() (*spec.Conf, error) {
	content, err := os.ReadFile(f.confPath())
	if err != nil {
		return nil, err
	}
	conf := new(spec.Conf)
	if err := json.Unmarshal(content, conf); err != nil {
		return nil, fmt.Errorf("%s: %s", f.confPath(), jsonFault(content, err))
	}
	if conf.Container == nil {
		return nil, fmt.Errorf("%s: no `container`", f.confPath())
	}
	return conf, conf.Container.Check()
}

func (f *handFolder) writeConf(conf *spec.Conf) error {
	content, err := json.MarshalIndent(conf, "", "  ")
	if err != nil {
		return err
	}
	return renameio.WriteFile(f.confPath(), append(content, '\n'), 0o600)
}

// result returns what ADD printed, or nothing.
func (f *handFolder) result() json.RawMessage {
	content, err := os.ReadFile(f.resultPath())
	if err != nil || !json.Valid(content) {
		return nil
	}
	return content
}

func (f *handFolder) writeResult(stdout []byte) error {
	return renameio.WriteFile(f.resultPath(), stdout, 0o600)
}

func (f *handFolder) remove() error {
	var errs []error
	for _, path := range []string{f.confPath(), f.resultPath(), f.madePath()} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// makeNamespace makes the namespace as a person would, without an owner tag: so the supervisor leaves the name alone.
func (h *byHand) makeNamespace(ctx context.Context) error {
	namespace, err := h.namespaces.Observe(h.name)
	if err != nil {
		return err
	}
	switch namespace.State {
	case netns.Ours:
		return fmt.Errorf("namespace %s is the supervisor's", h.name)
	case netns.Foreign:
		return nil // made by the person who calls, or by an earlier ADD
	}
	fmt.Fprintf(h.say, "ip netns add %s\n", h.name)
	if err := ipNetns(ctx, "add", h.name); err != nil {
		return err
	}
	return os.WriteFile(h.folder.madePath(), nil, 0o600)
}

// removeNamespace removes a namespace that makeNamespace made.
func (h *byHand) removeNamespace(ctx context.Context) error {
	if _, err := os.Stat(h.folder.madePath()); err != nil {
		return nil
	}
	namespace, err := h.namespaces.Observe(h.name)
	if err != nil || namespace.State == netns.Absent {
		return err
	}
	fmt.Fprintf(h.say, "ip netns delete %s\n", h.name)
	return ipNetns(ctx, "delete", h.name)
}

// ipNetnsTime is how long `ip netns` may take. It waits without end for a lock that every user can hold.
const ipNetnsTime = 10 * time.Second

func ipNetns(ctx context.Context, what string, name spec.Name) error {
	ctx, cancel := patience.WithTimeout(ctx, ipNetnsTime)
	defer cancel()
	output, err := exec.CommandContext(ctx, "ip", "netns", what, string(name)).CombinedOutput()
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("ip netns %s %s: it was ended after %v; lslocks shows which process holds the lock of /run/netns", what, name, ipNetnsTime)
	}
	if err != nil {
		return fmt.Errorf("ip netns %s %s: %w: %s", what, name, err, oneCell(strings.TrimSpace(string(output))))
	}
	return nil
}
