package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// prober finds out what a file on the plugin path serves, and whether it is ready.
type prober struct {
	runner   *Runner
	deadline time.Duration // deadline of VERSION and STATUS
	log      *slog.Logger
}

// probe runs VERSION of a file, if the file may be executed at all, and then STATUS. The file can only be selected
// after both. If VERSION fails, the result has the time of the next attempt, after retry.
func (p prober) probe(ctx context.Context, f foundFile, retry time.Duration) *candidate {
	c := &candidate{identity: f.identity}
	if f.refusal != "" {
		c.refusal = f.refusal
		return c
	}
	stdin, _ := json.Marshal(map[string]string{"cniVersion": spec.CNIVersion})
	stdout, err := p.runner.Run(ctx, Call{
		Executable: f.resolved, Verb: spec.Version, ContainerID: "svc-supervisor", Stdin: stdin, Deadline: p.deadline,
	})
	if err != nil {
		c.refusal = fmt.Sprintf("VERSION: %v", err)
		c.retryAt = time.Now().Add(retry) // the file may be busy, incomplete or slow, so a later attempt may succeed
		return c
	}
	answer, version, err := parseVersionAnswer(stdout)
	if err != nil {
		c.refusal = fmt.Sprintf("VERSION: %v", oneLine(err.Error()))
		return c
	}
	events, unknown := spec.ParseEvents(answer.CheckOn)
	c.executable = &Executable{
		Path: f.resolved, Found: f.path, Type: answer.ServiceType, Version: version, Reconfigure: answer.Reconfigure,
		UserNamespace: answer.UserNamespace, CheckOn: events, LastValid: answer.LastValid, Validate: answer.Validate,
	}
	if len(unknown) > 0 {
		p.log.Debug("unknown events in checkOn ignored", "path", f.path, "events", unknown)
	}
	c.executable.Unready = p.status(ctx, c.executable)
	c.statusAt = time.Now()
	return c
}

func (p prober) logStatus(e *Executable) {
	if e.Unready == "" {
		p.log.Info("executable ready", "path", e.Found)
	} else {
		p.log.Warn("executable not ready", "path", e.Found, "reason", e.Unready)
	}
}

// status runs STATUS once. It returns "" if the executable is ready, and the reason otherwise. An executable without
// an answer to STATUS counts as not ready.
func (p prober) status(ctx context.Context, e *Executable) string {
	stdin, _ := json.Marshal(spec.Conf{CNIVersion: spec.CNIVersion, Name: spec.Network, Type: CNIType(e.Path)})
	_, err := p.runner.Run(ctx, Call{
		Executable: e.Path, Verb: spec.Status, ContainerID: "svc-supervisor", Stdin: stdin, Deadline: p.deadline,
		Stderr: func(line string) { p.log.Debug(line, "verb", spec.Status, "path", e.Path) },
	})
	if err == nil {
		return ""
	}
	var object *spec.Error
	if errors.As(err, &object) {
		return object.Error()
	}
	return "STATUS: " + err.Error()
}

// CNIType returns the key `type` of a network configuration for an executable. CNI requires the file name of the
// plugin.
func CNIType(path string) string {
	return strings.TrimSpace(filepath.Base(path))
}
