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

// ask asks a file for its VERSION, if it may be run at all, and then for its STATUS, so that nobody selects it before both
// are known. One that gives no answer to VERSION is asked again after retry.
func (v *Inventory) ask(ctx context.Context, f foundFile, retry time.Duration) *candidate {
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
		c.retryAt = time.Now().Add(retry) // busy, half-written or slow: it may answer the next time
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
	c.executable.Unready = v.status(ctx, c.executable)
	c.statusAt = time.Now()
	return c
}

// askStatus asks STATUS again of each executable that was not ready, every interval.
func (v *Inventory) askStatus(ctx context.Context, interval time.Duration) (changed bool) {
	v.mu.Lock()
	var due []*candidate
	for _, path := range v.order {
		if c := v.files[path]; c.executable != nil && c.executable.Unready != "" && time.Since(c.statusAt) >= interval {
			due = append(due, c)
		}
	}
	v.mu.Unlock()
	for _, c := range due {
		unready := v.status(ctx, c.executable)
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

// status asks once; "" is ready. An executable that gives no answer cannot be trusted with an ADD either.
func (v *Inventory) status(ctx context.Context, e *Executable) string {
	stdin, _ := json.Marshal(spec.Conf{CNIVersion: spec.CNIVersion, Name: spec.Network, Type: CNIType(e.Path)})
	_, err := v.Run(ctx, Call{
		Executable: e.Path, Verb: spec.Status, ContainerID: "svc-supervisor", Stdin: stdin, Deadline: v.deadline,
		Stderr: func(line string) { v.log.Debug(line, "verb", spec.Status, "path", e.Path) },
	})
	if err == nil {
		return ""
	}
	var said *spec.Error
	if errors.As(err, &said) {
		return said.Error()
	}
	return "STATUS: " + err.Error()
}

// CNIType is the `type` of a network configuration for an executable: its file name, which CNI requires.
func CNIType(path string) string {
	return strings.TrimSpace(filepath.Base(path))
}
