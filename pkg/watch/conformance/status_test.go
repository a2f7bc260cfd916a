package conformance

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// statusDeadline is the limit until the statuses are written again after an outage. The goal is 2 s; the limit is
// higher because the machine is shared.
const statusDeadline = 5 * time.Second

func running(n int) spec.ContainerStatus {
	name := "vpn-" + string(rune('0'+n))
	return spec.ContainerStatus{
		Code: spec.Running, Message: "well", HostID: thisHost, NamespaceName: name, InterfaceName: spec.Name(name),
	}
}

// publish calls a publishing function until it succeeds, as the supervisor's status writer does.
func (o *observer) publish(what string, publish func(context.Context) error) {
	o.Helper()
	var last error
	await(o.T, what, deadline, func() bool {
		ctx, cancel := context.WithTimeout(o.Context(), 5*time.Second)
		defer cancel()
		last = publish(ctx)
		if last != nil {
			o.Logf("%s: %v", what, last)
		}
		return last == nil
	})
}

func (o *observer) publishContainer(n int, status spec.ContainerStatus) {
	o.Helper()
	o.publish("publish", func(ctx context.Context) error {
		value, err := o.EncodeContainer(status)
		if err != nil {
			return err
		}
		return o.PutStatus(ctx, container(n), value)
	})
}

func (o *observer) publishHost(what string, status spec.HostStatus) {
	o.Helper()
	o.publish(what, func(ctx context.Context) error {
		value, err := o.EncodeHost(status)
		if err != nil {
			return err
		}
		return o.PutStatus(ctx, "", value)
	})
}

// published returns the containers that have a status, sorted.
func (o *observer) published() []spec.ContainerID {
	o.Helper()
	var listed map[spec.ContainerID][]byte
	o.publish("list", func(ctx context.Context) (err error) {
		listed, err = o.ListStatuses(ctx)
		return err
	})
	delete(listed, "") // the host
	return slices.Sorted(maps.Keys(listed))
}

// waitForStatus waits until a container has the given status.
func waitForStatus(t *testing.T, backend Backend, n int, want spec.ContainerStatus) (stamp string) {
	t.Helper()
	await(t, "the status", statusDeadline, func() bool {
		var got spec.ContainerStatus
		got, stamp = backend.ContainerStatus(t, thisHost, container(n))
		return stamp != "" && got.Code == want.Code && got.Message == want.Message && got.HostID == want.HostID &&
			got.NamespaceName == want.NamespaceName && got.InterfaceName == want.InterfaceName
	})
	return stamp
}

func statuses(t *testing.T, k *Kind) {
	backend := k.Fresh(t)
	backend.Write(t, baseObjects())
	o := observe(t, backend)
	o.waitForSet("before", baseObjects())

	host := spec.HostStatus{Weight: 3, Quota: 48, Count: 2}
	o.publishHost("publish the host", host)
	got, hostStamp := backend.HostStatus(t, thisHost)
	if got != host || hostStamp == "" {
		t.Errorf("host status %+v", got)
	}
	o.publishHost("the same again", host)
	if _, again := backend.HostStatus(t, thisHost); again != hostStamp {
		t.Error("an unchanged host status was written again")
	}

	o.publishContainer(1, running(1))
	o.publishContainer(2, running(2))
	first := waitForStatus(t, backend, 1, running(1))
	o.publishContainer(1, running(1))
	if again := waitForStatus(t, backend, 1, running(1)); again != first {
		t.Error("an unchanged status was written again")
	}
	other := running(1)
	other.Code, other.Message = spec.Failed, "a reason with \"quotes\", a \\ and é, in two\nlines"
	o.publishContainer(1, other)
	if again := waitForStatus(t, backend, 1, other); again == first {
		t.Error("the changed status was not written")
	}
	if ids := o.published(); !slices.Equal(ids, []spec.ContainerID{container(1), container(2)}) {
		t.Errorf("listed: %v", ids)
	}
	for range 2 { // removing a missing status is no error
		o.publish("remove", func(ctx context.Context) error { return o.DeleteStatus(ctx, container(2)) })
		if _, stamp := backend.ContainerStatus(t, thisHost, container(2)); stamp != "" {
			t.Error("a removed status still exists")
		}
	}
	if ids := o.published(); !slices.Equal(ids, []spec.ContainerID{container(1)}) {
		t.Errorf("listed: %v", ids)
	}

	for range 2 { // removing a missing status is no error
		o.publish("remove the host", func(ctx context.Context) error { return o.DeleteStatus(ctx, "") })
		if _, stamp := backend.HostStatus(t, thisHost); stamp != "" {
			t.Error("a removed host status still exists")
		}
	}
	o.publishHost("publish the host again", host)
	if got, stamp := backend.HostStatus(t, thisHost); got != host || stamp == "" {
		t.Errorf("host status %+v", got)
	}

	t.Run("a status of the previous supervisor is replaced", func(t *testing.T) {
		endOwner := backend.WriteAsOther(t, thisHost, container(2))
		if ids := o.published(); !slices.Equal(ids, []spec.ContainerID{container(1), container(2)}) {
			t.Errorf("listed: %v", ids)
		}
		o.publishContainer(2, running(2))
		waitForStatus(t, backend, 2, running(2))
		endOwner()
		for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			waitForStatus(t, backend, 2, running(2))
		}
	})
	t.Run("an equal status of the previous supervisor is taken over", func(t *testing.T) {
		o.publish("remove", func(ctx context.Context) error { return o.DeleteStatus(ctx, container(2)) })
		endOwner := backend.WriteAsOther(t, thisHost, container(2))
		same := otherStatus(thisHost)
		o.publishContainer(2, same)
		endOwner()
		for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			waitForStatus(t, backend, 2, same)
		}
	})
	t.Run("the next supervisor takes over the statuses", func(t *testing.T) {
		o.publishContainer(1, running(1))
		o.publishContainer(2, running(2))
		o.stop()
		next := observe(t, backend)
		next.waitForSet("the same set", baseObjects())
		p := next.runPublisher()
		p.Set(container(1), running(1))
		removed := func() bool { _, stamp := backend.ContainerStatus(t, thisHost, container(2)); return stamp == "" }
		await(t, "the removal of a status that the next supervisor does not keep", deadline, func() bool {
			err := p.Prune(t.Context(), func(spec.ContainerID) bool { return false })
			return err == nil && removed()
		})
		waitForStatus(t, backend, 1, running(1))
	})
}
