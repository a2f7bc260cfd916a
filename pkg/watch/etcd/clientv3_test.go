package etcd

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/svc-supervisor/svc-supervisor/pkg/watch/etcdtest"
)

// The tests named TestClientV3… show what etcd's client does wrong for a user. Each is the reason for a mechanism of
// this package. If one fails with a later client or a later etcd, that mechanism can be replaced by the client's own.

// clientV3 returns a client with the configuration of this package and the default timeouts.
func (f *fixture) clientV3(endpoints ...string) *clientv3.Client {
	f.Helper()
	conn := &connection{location: Location{Endpoints: endpoints}, log: f.nsdb.conn.log, timeouts: defaultTimeouts}
	conn.dialOptions = []grpc.DialOption{grpc.WithStatsHandler(f.rpcs)}
	config, _, err := conn.clientConfig()
	f.check(err)
	client, err := clientv3.New(config)
	f.check(err)
	f.Cleanup(func() { _ = client.Close() })
	return client
}

// followers returns the endpoints of the members that do not lead. If the leader hangs, the next leader prolongs all
// leases.
func (f *fixture) followers() (endpoints []string) {
	f.Helper()
	leader := f.cluster.Leader()
	for i, endpoint := range f.cluster.Endpoints() {
		if i != leader {
			endpoints = append(endpoints, endpoint)
		}
	}
	return endpoints
}

// freezeServerOf freezes the member to which the last request of a method was sent, and returns its index.
func (f *fixture) freezeServerOf(method string) int {
	f.Helper()
	f.rpcs.mu.Lock()
	server := f.rpcs.servers[method]
	f.rpcs.mu.Unlock()
	for i, endpoint := range f.cluster.Endpoints() {
		if endpoint == server {
			f.cluster.Freeze(i)
			return i
		}
	}
	f.Fatalf("%s was sent to %q", method, server)
	return 0
}

// remaining returns the TTL of a lease in seconds, and -1 if the lease does not exist. It asks until a member answers.
func (f *fixture) remaining(lease clientv3.LeaseID) int64 {
	f.Helper()
	for end := time.Now().Add(deadline); ; {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		answer, err := f.cluster.Client().TimeToLive(ctx, lease)
		cancel()
		if err == nil {
			return answer.TTL
		}
		if time.Now().After(end) {
			f.Fatal(err)
		}
	}
}

// freezeBeforeRenewal freezes the member that serves the renewals of a lease, shortly before the next renewal is due,
// and returns the index of the member. Until then it sends requests, so that all connections are in use.
func (f *fixture) freezeBeforeRenewal(client *clientv3.Client) int {
	f.Helper()
	for end := time.Now().Add(DefaultTTL/3 - time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		_, err := client.Get(f.Context(), "x")
		f.check(err)
	}
	return f.freezeServerOf("LeaseKeepAlive")
}

// KeepAlive waits until gRPC detects the hanging member. gRPC sends a ping after 10 s without a message, not earlier,
// and waits 3 s for the answer.
func TestClientV3LosesALeaseIfAMemberHangs(t *testing.T) {
	f, _ := newOwnCluster(t, false)
	client := f.clientV3(f.followers()...)
	granted, err := client.Grant(t.Context(), int64(DefaultTTL/time.Second))
	f.check(err)
	renewals, err := client.KeepAlive(t.Context(), granted.ID)
	f.check(err)
	for {
		<-renewals
		member := f.freezeBeforeRenewal(client)
		if len(renewals) == 0 {
			break
		}
		f.cluster.Thaw(member) // it was late, and the lease was renewed just before
		f.cluster.Await()
	}
	frozen := time.Now()
	for f.remaining(granted.ID) != -1 {
		if time.Since(frozen) > DefaultTTL+5*time.Second {
			t.Fatal("the lease was renewed: KeepAlive can be used")
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Logf("the lease has expired %v after the member began to hang", time.Since(frozen))
}

func TestALeaseSurvivesAHangingMember(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 3)
	f := newFixtureIn(t, c, c.URL)
	f.nsdb = f.open(fmt.Sprintf("etcd://%s/%s", strings.Join(f.followers(), ","), f.root))
	f.check(put(t.Context(), f.nsdb, "c", running))
	_, lease, _ := f.stored("status/containers/h/c")
	f.await("the first renewal", func() bool {
		f.rpcs.mu.Lock()
		defer f.rpcs.mu.Unlock()
		return f.rpcs.requests["LeaseKeepAlive"] > 0
	})
	client, err := f.nsdb.conn.connect()
	f.check(err)
	f.freezeBeforeRenewal(client)
	frozen := time.Now()
	for time.Since(frozen) < DefaultTTL+5*time.Second {
		if f.remaining(clientv3.LeaseID(lease)) == -1 {
			t.Fatalf("the lease has expired %v after the member began to hang", time.Since(frozen))
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// The client waits until gRPC detects the hanging member.
func TestClientV3ReportsAChangeLateIfAMemberHangs(t *testing.T) {
	f, _ := newOwnCluster(t, false)
	client := f.clientV3(f.cluster.Endpoints()...)
	changes := client.Watch(clientv3.WithRequireLeader(t.Context()), f.path("x"))
	f.put("x", "1")
	<-changes
	f.freezeServerOf("Watch")
	frozen := time.Now()
	f.put("x", "2")
	// A request that was repeated wrote the first value twice.
	reported := func(answer clientv3.WatchResponse) bool {
		return slices.ContainsFunc(answer.Events, func(e *clientv3.Event) bool { return string(e.Kv.Value) == "2" })
	}
	for end := time.After(deadline); ; {
		select {
		case answer := <-changes:
			if !reported(answer) {
				continue
			}
		case <-end:
		}
		break
	}
	late := time.Since(frozen)
	if t.Logf("the change was reported after %v", late); late < 2*defaultTimeouts.streamIdle {
		t.Errorf("the change was reported after %v: Watch can be used", late)
	}
}

// With RequestProgress a user of Watch could detect a hanging member earlier. But etcd 3.4 may answer before it has
// sent the changes up to the revision of the answer, and after a reconnect the client continues behind that revision.
func TestClientV3SkipsChangesAfterARequestForProgress(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1)
	f := newFixtureIn(t, c, c.URL)
	client := f.clientV3(c.Endpoints()...)
	ctx := clientv3.WithRequireLeader(t.Context())
	for try := range 10 {
		key := fmt.Sprintf("x%d", try)
		f.put(key, "1")
		_, _, first := f.stored(key)
		changes := client.Watch(ctx, f.path(key), clientv3.WithRev(first))
		f.check(client.RequestProgress(ctx))
		if answer := <-changes; !answer.IsProgressNotify() {
			continue // etcd has sent the change before its answer
		}
		c.Kill(0)
		c.Restart(0)
		c.Await()
		f.put(key, "2")
		answer := <-changes
		for answer.IsProgressNotify() {
			answer = <-changes
		}
		f.check(answer.Err())
		if got := answer.Events[0].Kv.ModRevision; got > first {
			t.Logf("the first change was made at revision %d, and reported was the one at %d", first, got)
			return
		}
	}
	t.Error("no change was skipped: Watch can be used with RequestProgress")
}

// The client requests a new token with the expired token attached, which etcd 3.4 refuses. The client then requests a
// new token for the refused request, until the deadline of the caller.
func TestClientV3CannotReplaceAnExpiredToken(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1, etcdtest.Argument("--auth-token-ttl=1"))
	c.Auth("svc", "pass-word", "/")
	get := func(client *clientv3.Client) error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := client.Get(ctx, "/x")
		return err
	}
	newClient := func() *clientv3.Client {
		client, err := clientv3.New(clientv3.Config{
			Endpoints: []string{"http://" + c.Endpoints()[0]}, Username: "svc", Password: "pass-word",
			DialTimeout: 5 * time.Second, Logger: zap.NewNop(),
		})
		if err == nil {
			t.Cleanup(func() { _ = client.Close() })
			err = get(client)
		}
		if err != nil {
			t.Fatal(err)
		}
		return client
	}
	client := newClient()
	time.Sleep(5 * time.Second) // etcd removes expired tokens at intervals
	for range 2 {
		if err := get(client); err == nil {
			t.Error("the token was replaced: the client's authentication can be used")
		}
	}
	newClient() // etcd serves a client that has no token yet
}
