package conformance

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// soon is how long after its return an NSDB has the statuses again (design: 2 s), on a machine that others share.
const soon = 5 * time.Second

func running(n int) spec.ContainerStatus {
	name := "vpn-" + string(rune('0'+n))
	return spec.ContainerStatus{
		Code: spec.Running, Message: "well", HostID: ours, NamespaceName: name, InterfaceName: spec.Name(name),
	}
}

// publish speaks until it is heard, as the supervisor's board does.
func (h *hearer) publish(what string, speak func(context.Context) error) {
	h.Helper()
	var last error
	await(h.T, what, deadline, func() bool {
		ctx, cancel := context.WithTimeout(h.Context(), 5*time.Second)
		defer cancel()
		last = speak(ctx)
		if last != nil {
			h.Logf("%s: %v", what, last)
		}
		return last == nil
	})
}

func (h *hearer) publishContainer(n int, status spec.ContainerStatus) {
	h.Helper()
	h.publish("publish", func(ctx context.Context) error { return h.PublishContainer(ctx, container(n), status) })
}

func (h *hearer) published() []spec.ContainerID {
	h.Helper()
	var ids []spec.ContainerID
	h.publish("list", func(ctx context.Context) (err error) {
		ids, err = h.Published(ctx)
		return err
	})
	return ids
}

// stands waits until a container's status is the given one.
func stands(t *testing.T, w World, n int, want spec.ContainerStatus) (stamp string) {
	t.Helper()
	await(t, "the status", soon, func() bool {
		var got spec.ContainerStatus
		got, stamp = w.ContainerStatus(t, ours, container(n))
		return stamp != "" && got.Code == want.Code && got.Message == want.Message && got.HostID == want.HostID &&
			got.NamespaceName == want.NamespaceName && got.InterfaceName == want.InterfaceName
	})
	return stamp
}

func statuses(t *testing.T, k *Kind) {
	w := k.Fresh(t)
	w.Write(t, base())
	h := hear(t, w)
	h.hears("before", base())

	host := spec.HostStatus{Weight: 3, Quota: 48, Count: 2}
	h.publish("publish the host", func(ctx context.Context) error { return h.PublishHost(ctx, host) })
	got, hostStamp := w.HostStatus(t, ours)
	if got != host || hostStamp == "" {
		t.Errorf("host status %+v", got)
	}
	h.publish("the same again", func(ctx context.Context) error { return h.PublishHost(ctx, host) })
	if _, again := w.HostStatus(t, ours); again != hostStamp {
		t.Error("a host status that says the same was written again")
	}

	h.publishContainer(1, running(1))
	h.publishContainer(2, running(2))
	first := stands(t, w, 1, running(1))
	h.publishContainer(1, running(1))
	if again := stands(t, w, 1, running(1)); again != first {
		t.Error("a status that says the same was written again")
	}
	other := running(1)
	other.Code, other.Message = spec.Failed, "a reason with \"quotes\", a \\ and é, in two\nlines"
	h.publishContainer(1, other)
	if again := stands(t, w, 1, other); again == first {
		t.Error("the stamp says that nothing was written")
	}
	if ids := h.published(); !slices.Equal(ids, []spec.ContainerID{container(1), container(2)}) {
		t.Errorf("listed: %v", ids)
	}
	for range 2 { // one that is not there is removed
		h.publish("remove", func(ctx context.Context) error { return h.RemoveContainer(ctx, container(2)) })
		if _, stamp := w.ContainerStatus(t, ours, container(2)); stamp != "" {
			t.Error("a removed status stands")
		}
	}
	if ids := h.published(); !slices.Equal(ids, []spec.ContainerID{container(1)}) {
		t.Errorf("listed: %v", ids)
	}

	for range 2 { // one that is not there is removed
		h.publish("remove the host", func(ctx context.Context) error { return h.RemoveHost(ctx) })
		if _, stamp := w.HostStatus(t, ours); stamp != "" {
			t.Error("a removed host status stands")
		}
	}
	h.publish("publish the host again", func(ctx context.Context) error { return h.PublishHost(ctx, host) })
	if got, stamp := w.HostStatus(t, ours); got != host || stamp == "" {
		t.Errorf("host status %+v", got)
	}

	t.Run("the supervisor before this one left it", func(t *testing.T) {
		leave := w.Squat(t, ours, container(2))
		if ids := h.published(); !slices.Equal(ids, []spec.ContainerID{container(1), container(2)}) {
			t.Errorf("listed: %v", ids)
		}
		h.publishContainer(2, running(2))
		stands(t, w, 2, running(2))
		leave()
		for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			stands(t, w, 2, running(2))
		}
	})
	t.Run("it says what we would say, and its owner leaves", func(t *testing.T) {
		h.publish("remove", func(ctx context.Context) error { return h.RemoveContainer(ctx, container(2)) })
		leave := w.Squat(t, ours, container(2))
		same := another(ours)
		h.publishContainer(2, same)
		leave()
		for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			stands(t, w, 2, same)
		}
	})
	t.Run("the next supervisor takes over", func(t *testing.T) {
		h.publishContainer(1, running(1))
		h.stop()
		next := hear(t, w)
		next.hears("the same set", base())
		if ids := next.published(); !slices.Contains(ids, container(1)) {
			t.Errorf("listed: %v: the status went with the supervisor, or is not seen", ids)
		}
		next.publishContainer(1, running(1))
		stands(t, w, 1, running(1))
	})
}
