package etcdtest_test

import (
	"context"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/watch/etcdtest"
)

func TestAClusterSurvivesAKilledLeader(t *testing.T) {
	c := etcdtest.Start(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := c.Client().Put(ctx, "/a", "1"); err != nil {
		t.Fatal(err)
	}
	leader := c.Leader()
	c.Kill(leader)
	for {
		attemptCtx, stop := context.WithTimeout(ctx, time.Second)
		got, err := c.Client().Get(attemptCtx, "/a")
		stop()
		if err == nil && len(got.Kvs) == 1 {
			break
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	c.Restart(leader)
	c.Await()
	c.Compact()
}

func TestARelayHasItsOwnURLAndCanBeCut(t *testing.T) {
	c := etcdtest.Start(t, 1, etcdtest.ClientCert())
	c.Auth("svc", "secret", "/svc/")
	r := c.Relay()
	if got := c.URL("svc"); got == r.URL("svc") {
		t.Errorf("both are %s", got)
	}
	r.Cut()
	r.Drop()
	r.Mend()
	if _, err := c.Client().Put(t.Context(), "/svc/a", "1"); err != nil {
		t.Fatal(err)
	}
}
