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

func TestSettingsAreWrittenOneByOneAndReadBack(t *testing.T) {
	g := newGround(t)
	g.startsWell()
	if _, err := g.nsdb.Setting(t.Context(), "h", "log-level"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), g.path("config/hosts/h")) {
		t.Errorf("got %v", err)
	}
	g.put("config/default", `{"foreign":[1.50],"log-level":"warn"}`)
	g.check(g.nsdb.SetSetting(t.Context(), "default", "log-level", "DEBUG"))
	g.check(g.nsdb.SetSetting(t.Context(), "h", "status-interval", "5s"))
	if value, _, _ := g.stands("config/default"); value != `{"foreign":[1.50],"log-level":"debug"}` {
		t.Errorf("got %s", value)
	}
	if value, err := g.nsdb.Setting(t.Context(), "default", "log-level"); value != "debug" || err != nil {
		t.Errorf("got %s %v", value, err)
	}
	g.until("the settings", func(d spec.Desired) bool {
		return d.Settings["log-level"] == "debug" && d.Settings["status-interval"] == "5s"
	})
	var fault *spec.Fault
	if err := g.nsdb.SetSetting(t.Context(), "h", "log-level", "loud"); !errors.As(err, &fault) {
		t.Errorf("got %v", err)
	}
	if err := g.nsdb.SetSetting(t.Context(), "../h", "log-level", "warn"); !errors.As(err, &fault) {
		t.Errorf("got %v", err)
	}
}

func TestAHostIsChangedOnlyIfItIsThere(t *testing.T) {
	g := newGround(t)
	g.startsWell()
	g.check(g.nsdb.SetHost(t.Context(), "h", spec.HostWeight, 3))
	g.check(g.nsdb.SetHost(t.Context(), "h", spec.HostLimit, 7))
	g.until("weight and limit", func(d spec.Desired) bool { return d.Host.Weight == 3 && d.Host.Limit == 7 })
	if value, _, _ := g.stands("hosts/h"); value != `{"id":"h","containerWeight":3,"containerLimit":7}` {
		t.Errorf("got %s", value)
	}
	if err := g.nsdb.SetHost(t.Context(), "x", spec.HostWeight, 3); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if value, _, _ := g.stands("hosts/x"); value != "" {
		t.Errorf("made %s", value)
	}
}

func TestNoChangeIsLostWhenSeveralWriteAtOnce(t *testing.T) {
	g := newGround(t)
	keys := []string{"log-level", "log-level.containers", "log-level.containers.a", "log-level.containers.b", "log-level.containers.c", "log-level.containers.d"}
	var writing sync.WaitGroup
	for _, key := range keys {
		n := g.open(g.cluster.URL(g.root))
		writing.Go(func() {
			if err := n.SetSetting(t.Context(), "default", key, "warn"); err != nil {
				t.Error(err)
			}
		})
	}
	writing.Wait()
	for _, key := range keys {
		if value, err := g.nsdb.Setting(t.Context(), "default", key); value != "warn" || err != nil {
			t.Errorf("%s: %s %v", key, value, err)
		}
	}
}

func TestWhatIsExportedIsWhatIsImported(t *testing.T) {
	g := newGround(t)
	g.put("groups/g", `{"id":"g","policy":"weighted","hostIds":["h"]}`)
	g.put("config/default", `{"log-level":"warn"}`)
	g.put("foreign", "?")
	g.check(g.nsdb.PublishContainer(t.Context(), "c", running))
	objects, err := g.nsdb.Export(t.Context())
	g.check(err)
	var keys []string
	for _, o := range objects {
		keys = append(keys, o.Key)
	}
	if want := []string{"bindings/h/p", "config/default", "configurations/k", "containers/c", "groups/g", "hosts/h"}; !slices.Equal(keys, want) {
		t.Fatalf("got %v", keys)
	}
	other := g.open(g.cluster.URL(g.root + "-other"))
	g.check(other.Import(t.Context(), objects))
	again, err := other.Export(t.Context())
	if err != nil || len(again) != len(objects) {
		t.Fatalf("%v %v", again, err)
	}
	for i := range objects {
		if again[i].Key != objects[i].Key || string(again[i].Value) != string(objects[i].Value) {
			t.Errorf("%s became %s", objects[i].Key, again[i].Value)
		}
	}
	if err := other.Import(t.Context(), append(objects, spec.Object{Key: "hosts/x", Value: []byte(`{"id":"y"}`)})); err == nil || !strings.Contains(err.Error(), "hosts/x: ") {
		t.Errorf("got %v", err)
	}
	g.put("containers/bad", "{")
	if _, err := g.nsdb.Export(t.Context()); err == nil || !strings.Contains(err.Error(), g.path("containers/bad")) {
		t.Errorf("got %v", err)
	}
}

// A supervisor that runs must never see the host with a part of its bindings.
func TestAHostThatIsImportedHasAllItsBindings(t *testing.T) {
	g := newGround(t)
	g.remove("hosts/h")
	g.start()
	g.until("no host", func(d spec.Desired) bool { return strings.Contains(d.Unread, "no Host object") })
	objects := []spec.Object{{Key: "hosts/h", Value: []byte(`{"id":"h"}`)}}
	for i := range 300 {
		port := "q" + string(rune('a'+i/26)) + string(rune('a'+i%26))
		objects = append(objects, spec.Object{Key: "bindings/h/" + port, Value: []byte(binding(port, "vpn-"+port, "c"))})
	}
	g.check(g.nsdb.Import(t.Context(), objects))
	g.until("the host", whole)
	for _, d := range g.since(0) {
		if d.Unread == "" && len(d.Bindings) != 301 {
			t.Errorf("a set of %d bindings", len(d.Bindings))
		}
	}
}
