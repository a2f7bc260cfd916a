package netns

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// veth makes a veth pair in the host's namespace. The end with that name gets the alias.
func veth(t *testing.T, name, alias string) spec.Name {
	t.Helper()
	ip(t, "link", "add", name, "type", "veth", "peer", "name", "p-"+name)
	t.Cleanup(func() { _, _ = runIP("link", "del", name) })
	if alias != "" {
		ip(t, "link", "set", name, "alias", alias)
	}
	return spec.Name(name)
}

func linkState(t *testing.T, name spec.Name, want State) Link {
	t.Helper()
	got, err := ObserveLink(name)
	if err != nil {
		t.Fatal(err)
	}
	if got.State != want {
		t.Fatalf("link %s is %s, want %s", name, got.State, want)
	}
	return got
}

func TestAVethWithOurTagIsOursAndRemoved(t *testing.T) {
	needsSandbox(t)
	linkState(t, "ns-link", Absent)
	name := veth(t, "ns-link", owner("ns-link").String())
	if got := linkState(t, name, Ours); got.Owner != owner("ns-link") || got.Index == 0 {
		t.Errorf("link %v", got)
	}
	for range 2 {
		if err := RemoveLink(name); err != nil {
			t.Fatal(err)
		}
		linkState(t, name, Absent)
	}
}

func TestAForeignLinkIsNeverRemoved(t *testing.T) {
	needsSandbox(t)
	for what, alias := range map[string]string{
		"no alias":                         "",
		"an alias of an administrator":     "uplink to spine 2",
		"a tag of svc-supervisor exec":     "by-hand:ns-link:id",
		"our tag for another name":         owner("ns-other").String(),
		"our tag with an invalid id":       "svc-supervisor:ns-link:../x",
		"our tag followed by another part": owner("ns-link").String() + ":more",
		"our tag after another character":  "x" + owner("ns-link").String(),
	} {
		t.Run(what, func(t *testing.T) {
			name := veth(t, "ns-link", alias)
			linkState(t, name, Foreign)
			if err := RemoveLink(name); !errors.Is(err, ErrForeign) {
				t.Errorf("remove: %v", err)
			}
			linkState(t, name, Foreign)
		})
	}
}

func TestAnUntaggedLinkInOurUnfinishedGroupIsOurs(t *testing.T) {
	needsSandbox(t)
	name := veth(t, "ns-half", "")
	group := func(n uint32) {
		t.Helper()
		ip(t, "link", "set", string(name), "group", fmt.Sprint(n))
	}
	group(spec.UnfinishedGroup("by-hand"))
	linkState(t, name, Foreign)
	group(spec.UnfinishedGroup(spec.Network))
	linkState(t, name, Ours)
	if links, err := ListLinks(); err != nil ||
		!slices.ContainsFunc(links, func(l Link) bool { return l.Name == name }) {
		t.Errorf("links %v, %v", links, err)
	}
	if err := RemoveLink(name); err != nil {
		t.Error(err)
	}
	linkState(t, name, Absent)
}

func TestALinkWithAnAlternativeNameIsForeign(t *testing.T) {
	needsSandbox(t)
	veth(t, "ns-main", owner("ns-alt").String())
	if _, err := runIP("link", "property", "add", "dev", "ns-main", "altname", "ns-alt"); err != nil {
		t.Skip("this kernel or iproute2 does not support alternative names")
	}
	linkState(t, "ns-alt", Foreign)
	if err := RemoveLink("ns-alt"); !errors.Is(err, ErrForeign) {
		t.Errorf("remove: %v", err)
	}
}

func TestListLinksReturnsOnlyOurLinks(t *testing.T) {
	needsSandbox(t)
	veth(t, "ns-b", owner("ns-b").String())
	veth(t, "ns-a", owner("ns-a").String())
	veth(t, "ns-c", owner("ns-x").String())
	veth(t, "ns-d", "")
	links, err := ListLinks()
	if err != nil {
		t.Fatal(err)
	}
	var names []spec.Name
	for _, link := range links {
		names = append(names, link.Name)
		if link.State != Ours || link.Owner != owner(string(link.Name)) || link.Index == 0 {
			t.Errorf("link %v", link)
		}
	}
	slices.Sort(names)
	if want := []spec.Name{"ns-a", "ns-b"}; !slices.Equal(names, want) {
		t.Errorf("links %v, want %v", names, want)
	}
}

// ListLinks repeats an interrupted dump and never returns a partial one.
func TestListLinksIsCompleteWhileLinksChange(t *testing.T) {
	needsSandbox(t)
	const steady = 60
	for i := range steady {
		name := fmt.Sprintf("ns-s%d", i)
		veth(t, name, owner(name).String())
	}
	stop := make(chan struct{})
	var churn sync.WaitGroup
	for i := range 2 {
		churn.Go(func() {
			name := fmt.Sprintf("ns-churn%d", i)
			for {
				select {
				case <-stop:
					return
				default:
				}
				_, _ = runIP("link", "add", name, "type", "veth", "peer", "name", "p-"+name)
				_, _ = runIP("link", "del", name)
			}
		})
	}
	interrupted := 0
	for range 300 {
		links, err := ListLinks()
		if err != nil {
			interrupted++ // an error is allowed, a partial list is not
			continue
		}
		if len(links) != steady {
			t.Errorf("%d links, want %d", len(links), steady)
			break
		}
	}
	close(stop)
	churn.Wait()
	t.Logf("%d of 300 calls of ListLinks failed", interrupted)
	if interrupted > 100 {
		t.Errorf("more than 100 of 300 calls of ListLinks failed")
	}
}
