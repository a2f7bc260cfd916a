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

// TestLooksAtChangesFindWhatAWholeLookFinds changes files at random. After each change one tree looks at what events told of, as
// Run does, and another one at all.
func TestLooksAtChangesFindWhatAWholeLookFinds(t *testing.T) {
	g, tree, now := looker(t)
	other := newTree(g.dir, "h", usualPatience)
	now = now.Add(time.Minute)
	if look := tree.look(t.Context(), now); !look.firm || !look.whole {
		t.Fatalf("%+v", look)
	}
	other.look(t.Context(), now)
	keys := []string{"hosts/h", "config/default"}
	for i := range 4 {
		keys = append(keys, fmt.Sprintf("bindings/h/p%d", i), fmt.Sprintf("containers/c%d", i), fmt.Sprintf("configurations/k%d", i))
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
	g.check(os.MkdirAll(filepath.Join(g.dir, "config"), 0o755))
	tree.noteLoss() // a directory came
	partial, bound := 0, 0
	for step := range 400 {
		for range 1 + rand.N(3) {
			key := keys[rand.N(len(keys))]
			path := filepath.Join(g.dir, key+".yaml")
			if key != "hosts/h" && rand.N(20) == 0 {
				path = filepath.Join(g.dir, key+".json")
			}
			switch n := rand.N(6); {
			case key != "hosts/h" && n == 0: // without the host every look is a whole one
				_ = os.Remove(path)
			case key != "hosts/h" && n == 1:
				g.check(os.WriteFile(path, []byte("broken: ["), 0o644))
			default:
				aside := filepath.Join(g.dir, "aside")
				g.check(os.WriteFile(aside, []byte(content(key)), 0o644))
				g.check(os.Rename(aside, path))
			}
			tree.note(event{path: path})
		}
		// Several looks: what is missed is believed to be gone after some time.
		const looks = 6
		for i := range looks {
			now = now.Add(usualPatience.doubt)
			got, want := tree.lookAtChanges(t.Context(), now), other.look(t.Context(), now)
			if !got.whole {
				partial++
			}
			if i < looks-1 {
				continue
			}
			if got.firm != want.firm || got.firm && !got.desired.Equal(&want.desired) || fmt.Sprint(got.faults) != fmt.Sprint(want.faults) {
				t.Fatalf("step %d:\ngot  %v %+v %v\nwant %v %+v %v", step, got.firm, got.desired, got.faults, want.firm, want.desired, want.faults)
			}
			for _, b := range got.desired.Bindings {
				if b.Reading == spec.Whole {
					bound++
				}
			}
		}
	}
	if partial < 1000 || bound < 100 {
		t.Errorf("%d looks at changes, %d whole bindings: this test shows nothing", partial, bound)
	}
}
