package etcd

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

func TestSettingsAreWrittenSeparatelyAndReadBack(t *testing.T) {
	f := newFixture(t)
	f.startAndReadAll()
	_, err := f.nsdb.Setting(t.Context(), "h", "log-level")
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), f.path("config/hosts/h")) {
		t.Errorf("got %v", err)
	}
	f.put("config/default", `{"foreign":[1.50],"log-level":"warn"}`)
	f.check(f.nsdb.SetSetting(t.Context(), "default", "log-level", "DEBUG"))
	f.check(f.nsdb.SetSetting(t.Context(), "h", "status-interval", "5s"))
	if value, _, _ := f.stored("config/default"); value != `{"foreign":[1.50],"log-level":"debug"}` {
		t.Errorf("got %s", value)
	}
	if value, err := f.nsdb.Setting(t.Context(), "default", "log-level"); value != "debug" || err != nil {
		t.Errorf("got %s %v", value, err)
	}
	f.waitForSet("the settings", func(d spec.Desired) bool {
		return d.Settings["log-level"] == "debug" && d.Settings["status-interval"] == "5s"
	})
	var fault *spec.Fault
	if err := f.nsdb.SetSetting(t.Context(), "h", "log-level", "loud"); !errors.As(err, &fault) {
		t.Errorf("got %v", err)
	}
	if err := f.nsdb.SetSetting(t.Context(), "../h", "log-level", "warn"); !errors.As(err, &fault) {
		t.Errorf("got %v", err)
	}
}

func TestSetHostChangesOnlyAnExistingHost(t *testing.T) {
	f := newFixture(t)
	f.startAndReadAll()
	f.check(f.nsdb.SetHost(t.Context(), "h", spec.HostWeight, 3))
	f.check(f.nsdb.SetHost(t.Context(), "h", spec.HostLimit, 7))
	f.waitForSet("weight and limit", func(d spec.Desired) bool { return d.Host.Weight == 3 && d.Host.Limit == 7 })
	if value, _, _ := f.stored("hosts/h"); value != `{"id":"h","containerWeight":3,"containerLimit":7}` {
		t.Errorf("got %s", value)
	}
	if err := f.nsdb.SetHost(t.Context(), "x", spec.HostWeight, 3); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if value, _, _ := f.stored("hosts/x"); value != "" {
		t.Errorf("made %s", value)
	}
}

func TestConcurrentSettingsAreAllWritten(t *testing.T) {
	f := newFixture(t)
	keys := []string{
		"log-level", "log-level.containers", "log-level.containers.a", "log-level.containers.b",
		"log-level.containers.c", "log-level.containers.d",
	}
	var writing sync.WaitGroup
	for _, key := range keys {
		n := f.open(f.cluster.URL(f.root))
		writing.Go(func() {
			if err := n.SetSetting(t.Context(), "default", key, "warn"); err != nil {
				t.Error(err)
			}
		})
	}
	writing.Wait()
	for _, key := range keys {
		if value, err := f.nsdb.Setting(t.Context(), "default", key); value != "warn" || err != nil {
			t.Errorf("%s: %s %v", key, value, err)
		}
	}
}

func TestExportedObjectsCanBeImportedUnchanged(t *testing.T) {
	f := newFixture(t)
	f.put("groups/g", `{"id":"g","policy":"weighted","hostIds":["h"]}`)
	f.put("config/default", `{"log-level":"warn"}`)
	f.put("foreign", "?")
	f.check(put(t.Context(), f.nsdb, "c", running))
	objects, err := f.nsdb.Export(t.Context())
	f.check(err)
	var keys []string
	for _, o := range objects {
		keys = append(keys, o.Key)
	}
	want := []string{"bindings/h/p", "config/default", "configurations/k", "containers/c", "groups/g", "hosts/h"}
	if !slices.Equal(keys, want) {
		t.Fatalf("got %v", keys)
	}
	other := f.open(f.cluster.URL(f.root + "-other"))
	f.check(other.Import(t.Context(), objects))
	again, err := other.Export(t.Context())
	if err != nil || len(again) != len(objects) {
		t.Fatalf("%v %v", again, err)
	}
	for i := range objects {
		if again[i].Key != objects[i].Key || string(again[i].Value) != string(objects[i].Value) {
			t.Errorf("%s became %s", objects[i].Key, again[i].Value)
		}
	}
	err = other.Import(t.Context(), append(objects, spec.Object{Key: "hosts/x", Value: []byte(`{"id":"y"}`)}))
	if err == nil || !strings.Contains(err.Error(), "hosts/x: ") {
		t.Errorf("got %v", err)
	}
	f.put("containers/bad", "{")
	if _, err := f.nsdb.Export(t.Context()); err == nil || !strings.Contains(err.Error(), f.path("containers/bad")) {
		t.Errorf("got %v", err)
	}
}

// A running supervisor must never see the host with only some of its bindings.
func TestAnImportedHostAppearsWithAllItsBindings(t *testing.T) {
	f := newFixture(t)
	f.remove("hosts/h")
	f.start()
	f.waitForSet("no host", func(d spec.Desired) bool { return strings.Contains(d.Unread, "no Host object") })
	objects := []spec.Object{{Key: "hosts/h", Value: []byte(`{"id":"h"}`)}}
	for i := range 300 {
		port := "q" + string(rune('a'+i/26)) + string(rune('a'+i%26))
		objects = append(objects, spec.Object{
			Key: "bindings/h/" + port, Value: []byte(binding(port, "vpn-"+port, "c")),
		})
	}
	f.check(f.nsdb.Import(t.Context(), objects))
	f.waitForSet("the host", whole)
	for _, d := range f.since(0) {
		if d.Unread == "" && len(d.Bindings) != 301 {
			t.Errorf("got a set of %d bindings", len(d.Bindings))
		}
	}
}
