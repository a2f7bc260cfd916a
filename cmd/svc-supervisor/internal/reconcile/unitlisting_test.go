package reconcile

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

func TestListingAnswersOnceAndOnlyForRunningUnits(t *testing.T) {
	running := func(name string) unit.Unit { return unit.Unit{Name: name, ActiveState: "active", SubState: "running"} }
	synctest.Test(t, func(t *testing.T) {
		units := []unit.Unit{
			running("svc-one.service"), running("svc-two.service"), running("svc-two:log.service"),
			running("svc-half.service"), {Name: "svc-half:log.service", ActiveState: "failed"},
			{Name: "svc-job.service", ActiveState: "active", JobQueued: true},
			running("svc-changed.service"), running("svc-late.service"), running("other.service"),
		}
		l := unitListing{list: func(context.Context, ...string) ([]unit.Unit, error) { return units, nil }}
		if err := l.read(t.Context()); err != nil {
			t.Fatal(err)
		}
		l.forget("changed")
		take := func(name string, want ...string) {
			t.Helper()
			var got []string
			for _, u := range l.take(spec.Name(name)) {
				got = append(got, u.Name)
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s: got %q, want %q", name, got, want)
			}
		}
		take("one", "svc-one.service")
		take("one")
		take("two", "svc-two.service", "svc-two:log.service")
		take("half")
		take("job")
		take("changed")
		take("none")
		time.Sleep(listingAge + time.Nanosecond)
		take("late")
	})
}

func TestNameThatIsForgottenWhileUnitsAreListedIsNotInTheListing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan struct{})
		l := unitListing{list: func(context.Context, ...string) ([]unit.Unit, error) {
			<-answer
			return []unit.Unit{{Name: "svc-a.service", ActiveState: "active"}}, nil
		}}
		forgotten := make(chan struct{})
		go func() {
			time.Sleep(time.Second) // the list is being read
			go close(answer)
			l.forget("a")
			close(forgotten)
		}()
		if err := l.read(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-forgotten
		if units := l.take("a"); units != nil {
			t.Errorf("got %v", units)
		}
	})
}
