package conformance

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/file"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// openAdmin opens a backend as a command does.
func openAdmin(t *testing.T, backend Backend) watch.AdminNSDB {
	t.Helper()
	nsdb, err := watch.OpenAdmin(backend.URL(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nsdb.Close() })
	return nsdb
}

// commands tests the functions of the commands `config`, `host set` and `nsdb`.
func commands(t *testing.T, k *Kind) {
	backend := k.Fresh(t)
	backend.Write(t, baseObjects())
	o := observe(t, backend)
	o.waitForSet("before", baseObjects())
	a, ctx := openAdmin(t, backend), t.Context()
	scope := spec.SettingScope(thisHost)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	for _, s := range []spec.SettingScope{spec.SettingDefault, scope} {
		if _, err := a.Setting(ctx, s, "log-level"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: a missing setting: %v", s, err)
		}
	}
	all := baseObjects()
	hostSettings := "config/hosts/" + string(thisHost)
	for _, r := range []struct {
		scope            spec.SettingScope
		key, value, want string
		object, json     string
	}{
		{spec.SettingDefault, "log-level", "WARN", "warn", "config/default", `{"log-level":"warn"}`},
		{spec.SettingDefault, "status-interval", "90s", "1m30s",
			"config/default", `{"log-level":"warn","status-interval":"1m30s"}`},
		{scope, "log-level.containers.ipsec", "debug", "debug",
			hostSettings, `{"log-level.containers.ipsec":"debug"}`},
		{scope, "log-level.containers", "error", "error",
			hostSettings, `{"log-level.containers.ipsec":"debug","log-level.containers":"error"}`},
		{scope, "log-level", "info", "info",
			hostSettings, `{"log-level.containers.ipsec":"debug","log-level.containers":"error","log-level":"info"}`},
	} {
		must(a.SetSetting(ctx, r.scope, r.key, r.value))
		if got, err := a.Setting(ctx, r.scope, r.key); got != r.want || err != nil {
			t.Errorf("%s %s: %q %v", r.scope, r.key, got, err)
		}
		all = all.with(objects{r.object: r.json})
		o.waitForSet(r.key, all)
	}
	must(a.SetHost(ctx, thisHost, spec.HostWeight, 0))
	must(a.SetHost(ctx, thisHost, spec.HostLimit, -1))
	all = all.with(objects{hostKey(1): hostObject(1, edit{"containerWeight": 0, "containerLimit": -1})})
	o.waitForSet("weight and limit", all)
	must(a.SetHost(ctx, thisHost, spec.HostLimit, 7))
	all = all.with(objects{hostKey(1): hostObject(1, edit{"containerWeight": 0, "containerLimit": 7})})
	o.waitForSet("the limit", all)

	for name, err := range map[string]error{
		"an unknown setting":      a.SetSetting(ctx, scope, "loglevel", "info"),
		"a bad value":             a.SetSetting(ctx, scope, "log-level", "loud"),
		"a bad field":             a.SetHost(ctx, thisHost, "weight", 1),
		"a bad weight":            a.SetHost(ctx, thisHost, spec.HostWeight, -1),
		"an import of no object":  a.Import(ctx, []spec.Object{{Key: "ports/x", Value: []byte(`{}`)}}),
		"an import of a bad host": a.Import(ctx, []spec.Object{{Key: hostKey(1), Value: []byte(`{"id":"x"}`)}}),
	} {
		if err == nil || !strings.Contains(err.Error(), "allowed") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := a.SetHost(ctx, spec.HostID(id("host", 77)), spec.HostWeight, 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing host: %v", err)
	}

	exported, err := a.Export(ctx)
	must(err)
	if text := exportDiff(exported, all); text != "" {
		t.Errorf("exported: %s", text)
	}
	if k.RefusesImport {
		expectRefusal(t, a, exported, all)
		return
	}
	must(a.Import(ctx, exported))
	again, err := a.Export(ctx)
	must(err)
	if text := exportDiff(again, all); text != "" {
		t.Errorf("exported, imported and exported: %s", text)
	}
	mark := o.count()
	all = all.with(objects{hostKey(1): hostObject(1, edit{"containerWeight": 5, "containerLimit": 7})})
	must(a.Import(ctx, []spec.Object{{Key: hostKey(1), Value: []byte(all[hostKey(1)])}}))
	o.waitForSet("one object that is imported", all)
	if n := o.count() - mark; n != 1 {
		t.Errorf("%d sets for one change: importing equal objects was reported", n)
	}
}

// expectRefusal checks that an import of other objects is refused in one line, and that the NSDB still has the objects
// of all.
func expectRefusal(t *testing.T, a watch.Admin, other []spec.Object, all objects) {
	t.Helper()
	err := a.Import(t.Context(), other)
	if err == nil || !strings.Contains(err.Error(), "MidoNet's own tools write its objects: allowed: ") ||
		strings.Contains(err.Error(), "\n") {
		t.Errorf("import: %v", err)
	}
	exported, err := a.Export(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if text := exportDiff(exported, all); text != "" {
		t.Errorf("exported after a refused import: %s", text)
	}
}

// exportDiff returns the first difference between exported and written objects, or "".
func exportDiff(exported []spec.Object, all objects) string {
	if len(exported) != len(all) {
		var keys []string
		for _, o := range exported {
			keys = append(keys, o.Key)
		}
		return "got " + strings.Join(keys, " ")
	}
	for n, o := range exported {
		if n > 0 && exported[n-1].Key >= o.Key {
			return "not sorted: " + o.Key
		}
		if want, ok := all[o.Key]; !ok || !sameJSON(o.Value, []byte(want)) {
			return o.Key + ": got " + string(o.Value) + ", wrote " + want
		}
	}
	return ""
}

// TestObjectsAreCopiedBetweenAllKinds exports from one kind, imports into another unless that refuses imports, and
// exports again.
func TestObjectsAreCopiedBetweenAllKinds(t *testing.T) {
	var all []*Kind
	for _, kind := range kinds {
		missing := slices.ContainsFunc(kind.programs,
			func(path string) bool { _, err := os.Stat(path); return err != nil })
		if missing && os.Getenv("SVC_TEST_NSDB") != "1" { // where it is, the start fails
			t.Logf("without %s: its servers are not installed", kind.name)
			continue
		}
		all = append(all, kind.start(t))
	}
	objects := baseObjects().with(objects{
		"config/default":                   `{"log-level":"warn"}`,
		"config/hosts/" + string(thisHost): `{"log-level.containers":"debug","status-interval":"5s"}`,
	})
	for _, from := range all {
		for _, to := range all {
			t.Run(from.Name+" to "+to.Name, func(t *testing.T) {
				one, other := from.Fresh(t), to.Fresh(t)
				one.Write(t, objects)
				o := observe(t, other)
				exported, err := openAdmin(t, one).Export(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				target := openAdmin(t, other)
				if to.RefusesImport {
					other.Write(t, baseObjects())
					expectRefusal(t, target, exported, baseObjects())
					return
				}
				for range 2 { // importing twice is harmless
					if err := target.Import(t.Context(), exported); err != nil {
						t.Fatal(err)
					}
				}
				o.waitForSet("the other's objects", objects)
				copied, err := target.Export(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if text := exportDiff(copied, objects); text != "" {
					t.Error(text)
				}
			})
		}
	}
}

// TestReadableObjectsAreExportedAndPassValidate corrupts objects, exports the rest and imports it into a directory of
// files.
func TestReadableObjectsAreExportedAndPassValidate(t *testing.T) {
	for _, kind := range kinds {
		missing := slices.ContainsFunc(kind.programs,
			func(path string) bool { _, err := os.Stat(path); return err != nil })
		if missing && os.Getenv("SVC_TEST_NSDB") != "1" { // where it is, the start fails
			t.Logf("without %s: its servers are not installed", kind.name)
			continue
		}
		t.Run(kind.name, func(t *testing.T) {
			k := kind.start(t)
			for _, row := range []struct {
				corrupt string
				gone    []string
			}{
				{containerKey(1), []string{containerKey(1), bindingKey(1, 1)}},
				{configurationKey(1), []string{configurationKey(1), containerKey(1), bindingKey(1, 1)}},
				{bindingKey(1, 1), []string{bindingKey(1, 1)}},
				{hostKey(2), []string{hostKey(2), bindingKey(2, 9)}},
			} {
				t.Run(row.corrupt, func(t *testing.T) {
					backend := k.Fresh(t)
					backend.Write(t, baseObjects())
					backend.Corrupt(t, row.corrupt)
					objects, err := openAdmin(t, backend).Export(t.Context())
					var incomplete *native.Incomplete
					if !errors.As(err, &incomplete) {
						t.Fatalf("export: %v", err)
					}
					if strings.Contains(fmt.Sprint(incomplete.Faults), "hunter2") {
						t.Error("a fault repeats a secret")
					}
					var keys []string
					for _, o := range objects {
						keys = append(keys, o.Key)
					}
					want := slices.Sorted(maps.Keys(baseObjects().without(row.gone...)))
					if !slices.Equal(keys, want) {
						t.Errorf("exported %v\nwant     %v\nfaults   %v", keys, want, incomplete.Faults)
					}
					dir := t.TempDir()
					into, err := watch.OpenAdmin("file://"+dir, slog.New(slog.DiscardHandler))
					if err != nil {
						t.Fatal(err)
					}
					defer into.Close()
					if err := into.Import(t.Context(), objects); err != nil {
						t.Fatal(err)
					}
					if findings, err := file.Validate(dir); err != nil || len(findings) > 0 {
						t.Errorf("validate: %v %v", findings, err)
					}
				})
			}
		})
	}
}
