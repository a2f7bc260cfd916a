package file

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// TestPartialScansEqualFullScans changes files at random. After each change, one cache scans the files with events, as
// Run does, and another cache scans all files. The results must be equal.
func TestPartialScansEqualFullScans(t *testing.T) {
	f, c, now := newScanFixture(t)
	other := newCache(f.dir, "h", defaultTiming)
	now = now.Add(time.Minute)
	if result := c.fullScan(t.Context(), now); !result.stable || !result.complete {
		t.Fatalf("%+v", result)
	}
	other.fullScan(t.Context(), now)
	keys := []string{"hosts/h", "config/default"}
	for i := range 4 {
		keys = append(keys,
			fmt.Sprintf("bindings/h/p%d", i), fmt.Sprintf("containers/c%d", i), fmt.Sprintf("configurations/k%d", i))
	}
	content := func(key string) string {
		i := rand.N(4)
		switch id := filepath.Base(key); filepath.Dir(key) {
		case "hosts":
			return fmt.Sprintf("id: h\ncontainerWeight: %d\n", i)
		case "config":
			return fmt.Sprintf("status-interval: %ds\n", 10+i)
		case "bindings/h":
			return binding(id, "vpn-"+id, fmt.Sprintf("c%d", i))
		case "containers":
			return fmt.Sprintf("id: %s\nserviceType: IPSEC\ngroupId: g\nconfigurationId: k%d\n", id, i)
		default:
			return fmt.Sprintf("id: %s\nnumber: %d\n", id, i)
		}
	}
	f.check(os.MkdirAll(filepath.Join(f.dir, "config"), 0o755))
	c.noteLostEvents() // as after the event of a new directory
	partialScans, bound := 0, 0
	for step := range 400 {
		for range 1 + rand.N(3) {
			key := keys[rand.N(len(keys))]
			path := filepath.Join(f.dir, key+".yaml")
			if key != "hosts/h" && rand.N(20) == 0 {
				path = filepath.Join(f.dir, key+".json")
			}
			switch n := rand.N(6); {
			case key != "hosts/h" && n == 0: // without the Host object, every scan is a full scan
				_ = os.Remove(path)
			case key != "hosts/h" && n == 1:
				f.check(os.WriteFile(path, []byte("broken: ["), 0o644))
			default:
				aside := filepath.Join(f.dir, "aside")
				f.check(os.WriteFile(aside, []byte(content(key)), 0o644))
				f.check(os.Rename(aside, path))
			}
			c.noteEvent(event{path: path})
		}
		// There are several scans, because a removal is accepted after some time.
		const scans = 6
		for i := range scans {
			now = now.Add(defaultTiming.removalDelay)
			got, want := c.partialScan(t.Context(), now), other.fullScan(t.Context(), now)
			if !got.complete {
				partialScans++
			}
			if i < scans-1 {
				continue
			}
			if got.stable != want.stable || got.stable && !got.desired.Equal(&want.desired) ||
				fmt.Sprint(got.faults) != fmt.Sprint(want.faults) {
				t.Fatalf("step %d:\ngot  %v %+v %v\nwant %v %+v %v", step,
					got.stable, got.desired, got.faults, want.stable, want.desired, want.faults)
			}
			for _, b := range got.desired.Bindings {
				if b.Reading == spec.Complete {
					bound++
				}
			}
		}
	}
	if partialScans < 1000 || bound < 100 {
		t.Errorf("%d partial scans, %d complete bindings: too few for a meaningful test", partialScans, bound)
	}
}
