package agent

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

const port = "3f6c1f0a-7b60-4a51-8a0e-52d1c0b4e001"

func entry(fields ...string) []byte {
	var b []byte
	for i, f := range fields {
		b = protowire.AppendTag(b, protowire.Number(i+1), protowire.BytesType)
		b = protowire.AppendString(b, f)
	}
	return b
}

func TestParseReturnsTheNameOrAnError(t *testing.T) {
	whole := entry("IPSEC", port, "vpn-60df5fda")
	for _, test := range []struct {
		sentence string
		content  []byte
		fault    string
	}{
		{"a complete entry", whole, ""},
		{"an entry written over a longer one", append(slices.Clone(whole), "fda\x1a\xff"...), ""},
		{"empty", nil, "is not an entry"},
		{"truncated", whole[:len(whole)-3], "truncated"},
		{"without a name", entry("IPSEC", port), "is not an entry"},
		{"an invalid type", entry("../x", port, "vpn-60df5fda"), `type "../x"`},
		{"another port", entry("IPSEC", "x", "vpn-60df5fda"), `id "x"`},
		{"a path as the name", entry("IPSEC", port, "../../etc"), "name"},
		{"text", []byte("type: IPSEC"), "is not an entry"},
	} {
		name, err := parse(test.content, port)
		if test.fault == "" && (err != nil || name != "vpn-60df5fda") {
			t.Errorf("%s: %q, %v", test.sentence, name, err)
		}
		if test.fault != "" && (err == nil || !strings.Contains(err.Error(), test.fault)) {
			t.Errorf("%s: %v, want %s", test.sentence, err, test.fault)
		}
	}
}

type host struct {
	ours    map[spec.Name]bool
	fails   map[spec.Name]error
	cleared []spec.Name
}

func (h *host) Ours(name spec.Name) (bool, error) { return h.ours[name], nil }

func (h *host) Clear(_ context.Context, name spec.Name) error {
	if err := h.fails[name]; err != nil {
		return err
	}
	h.cleared = append(h.cleared, name)
	return nil
}

func TestSweepClearsLoggedContainersWhenNoAgentRuns(t *testing.T) {
	dir := t.TempDir()
	put := func(port, name string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, port), entry("IPSEC", port, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("p1", "vpn-1")
	put("p2", "vpn-2")
	put("p3", "vpn-3")
	if err := os.WriteFile(filepath.Join(dir, "p4"), []byte("?"), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	alive, unknown := true, error(nil)
	h := &host{ours: map[spec.Name]bool{"vpn-2": true}, fails: map[spec.Name]error{"vpn-3": errors.New("busy")}}
	l := &Log{Dir: dir, Host: h, Log: slog.New(slog.NewTextHandler(&log, nil)),
		Alive: func(context.Context) (bool, error) { return alive, unknown }}
	left := func() string {
		files, _ := os.ReadDir(dir)
		var names []string
		for _, f := range files {
			names = append(names, f.Name())
		}
		return strings.Join(names, " ")
	}
	for range 2 {
		if l.Sweep(context.Background()) || len(h.cleared) != 0 || left() != "p1 p2 p3 p4" {
			t.Fatalf("with an agent: cleared %v, left %s", h.cleared, left())
		}
	}
	if n := strings.Count(log.String(), "it runs"); n != 1 {
		t.Errorf("logged %d times that the agent runs", n)
	}
	alive, unknown = false, errors.New("no connection")
	if l.Sweep(context.Background()) || left() != "p1 p2 p3 p4" {
		t.Fatalf("agent unknown: left %s", left())
	}
	unknown = nil
	if !l.Sweep(context.Background()) || !slices.Equal(h.cleared, []spec.Name{"vpn-1"}) || left() != "p3 p4" {
		t.Fatalf("without an agent: cleared %v, left %s", h.cleared, left())
	}
	h.fails = nil
	if l.Sweep(context.Background()); !slices.Equal(h.cleared, []spec.Name{"vpn-1", "vpn-3"}) || left() != "p4" {
		t.Fatalf("at the next sweep: cleared %v, left %s", h.cleared, left())
	}
	l.Dir = filepath.Join(dir, "none")
	if l.Sweep(context.Background()) {
		t.Error("a sweep without a log reports that it removed something")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(entry("IPSEC", port, "vpn-60df5fda"))
	f.Add([]byte("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, content []byte) {
		name, err := parse(content, port)
		if err != nil && strings.ContainsAny(err.Error(), "\n\x00") {
			t.Errorf("an error of more than one line: %q", err)
		}
		if _, bad := spec.ParseName("name", string(name)); err == nil && bad != nil {
			t.Errorf("accepted %q", name)
		}
	})
}
