package main

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/api"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/reconcile"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

func TestYAMLHasTheContentOfTheJSON(t *testing.T) {
	value := map[string]any{
		"list": []any{
			"plain", "123", "1.5", "yes", "null", "~", "", " a ", "a: b", "- x", "#c", "two\nlines",
			"\x1b[31m", "é", "\x7f", "\u0085", "\ufffe",
		},
		"empty": []any{}, "none": nil, "number": 1700000000123.0, "negative": -1.0, "bool": true,
		"time": "2026-03-01T12:00:00Z", "object": map[string]any{"key": "1"},
	}
	var out bytes.Buffer
	if err := printYAML(&out, value); err != nil {
		t.Fatal(err)
	}
	var decoded any
	if err := yaml.Unmarshal(out.Bytes(), &decoded); err != nil {
		t.Fatalf("%v in\n%s", err, out.String())
	}
	text, err := json.Marshal(decoded)
	if err != nil {
		t.Fatal(err)
	}
	var again any
	if err := json.Unmarshal(text, &again); err != nil || !reflect.DeepEqual(again, any(value)) {
		t.Errorf("%v: %s of\n%s", err, text, out.String())
	}
	if strings.ContainsAny(out.String(), "{\x1b\x7f") {
		t.Errorf("not in block style, or with control characters:\n%s", out.String())
	}
	for _, line := range []string{`  - "yes"`, `  - "1.5"`, `object:`, `  key: "1"`, `number: 1700000000123`} {
		if !strings.Contains("\n"+out.String(), "\n"+line+"\n") {
			t.Errorf("no line %s in\n%s", line, out.String())
		}
	}
}

func TestExitStatusOfFindings(t *testing.T) {
	row := func(status string, connections ...spec.Connection) []reconcile.Row {
		return []reconcile.Row{{Name: "vpn", Status: status, Health: &spec.Health{Connections: connections}}}
	}
	down := spec.Connection{Status: spec.Down}
	disabled := spec.Connection{Status: spec.Down, Disabled: true}
	host := &reconcile.HostRow{ID: "h"}
	for _, r := range []struct {
		name string
		view api.Containers
		want int
	}{
		{"no containers", api.Containers{Host: host}, 0},
		{"a disabled connection", api.Containers{Host: host, Containers: row("RUNNING", disabled)}, 0},
		{"a connection is down", api.Containers{Host: host, Containers: row("RUNNING", disabled, down)}, 2},
		{"a container is held", api.Containers{Host: host, Containers: row("HELD")}, 2},
		{"no supervisor", api.Containers{Containers: row("RUNNING")}, 3},
		{"an unknown host", api.Containers{Host: &reconcile.HostRow{Unread: "no answer"}}, 3},
	} {
		status := 0
		if err := findings(&r.view); err != nil {
			status = exitStatus(err)
		}
		if status != r.want {
			t.Errorf("%s: %d, want %d", r.name, status, r.want)
		}
	}
}
