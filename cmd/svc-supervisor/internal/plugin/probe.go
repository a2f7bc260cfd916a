package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// probe runs VERSION of a file, if the file may be executed at all, and then STATUS. The file can only be selected
// after both. If VERSION fails, probe sets the time of the next attempt, after retry.
func (v *Inventory) probe(ctx context.Context, f foundFile, retry time.Duration) *candidate {
	c := &candidate{identity: f.identity}
	if f.refusal != "" {
		c.refusal = f.refusal
		return c
	}
	stdin, _ := json.Marshal(map[string]string{"cniVersion": spec.CNIVersion})
	stdout, err := v.Run(ctx, Call{
		Executable: f.resolved, Verb: spec.Version, ContainerID: "svc-supervisor", Stdin: stdin, Deadline: v.deadline,
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
		v.log.Debug("unknown events in checkOn ignored", "path", f.path, "events", unknown)
	}
	c.executable.Unready = v.runStatus(ctx, c.executable)
	c.statusAt = time.Now()
	return c
}

// retryStatus runs STATUS of each executable that is not ready and whose last STATUS is at least interval ago. It
// reports whether the result of any of them changed.
func (v *Inventory) retryStatus(ctx context.Context, interval time.Duration) (changed bool) {
	v.mu.Lock()
	var due []*candidate
	for _, path := range v.order {
		if c := v.files[path]; c.executable != nil && c.executable.Unready != "" && time.Since(c.statusAt) >= interval {
			due = append(due, c)
		}
	}
	v.mu.Unlock()
	for _, c := range due {
		unready := v.runStatus(ctx, c.executable)
		if ctx.Err() != nil {
			return changed
		}
		v.mu.Lock()
		if c.executable.Unready != unready {
			changed = true
			executable := *c.executable
			executable.Unready = unready
			c.executable = &executable
			v.logStatus(&executable)
		}
		c.statusAt = time.Now()
		v.mu.Unlock()
	}
	return changed
}

func (v *Inventory) logStatus(e *Executable) {
	if e.Unready == "" {
		v.log.Info("executable ready", "path", e.Found)
	} else {
		v.log.Warn("executable not ready", "path", e.Found, "reason", e.Unready)
	}
}

// runStatus runs STATUS once. It returns "" if the executable is ready, and the reason otherwise. An executable without
// an answer to STATUS counts as not ready.
func (v *Inventory) runStatus(ctx context.Context, e *Executable) string {
	stdin, _ := json.Marshal(spec.Conf{CNIVersion: spec.CNIVersion, Name: spec.Network, Type: CNIType(e.Path)})
	_, err := v.Run(ctx, Call{
		Executable: e.Path, Verb: spec.Status, ContainerID: "svc-supervisor", Stdin: stdin, Deadline: v.deadline,
		Stderr: func(line string) { v.log.Debug(line, "verb", spec.Status, "path", e.Path) },
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
