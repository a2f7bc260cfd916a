package report

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

func said(code spec.Code) error {
	return fmt.Errorf("add vpn: %w", &spec.Error{Code: code, Msg: "no"})
}

var errSilent = errors.New("deadline of 30s")

// The table of docs/design.md, "Status".
func TestTroubleIsPublishedWhenItIsAVerdict(t *testing.T) {
	for _, r := range []struct {
		name    string
		trouble Trouble
		verdict bool
	}{
		{"a first ADD that fails with code 7 is a verdict at once", Trouble{Err: said(7), Times: 1}, true},
		{"so is one with the executable's own code 100", Trouble{Err: said(100), Times: 1}, true},
		{"so is one with its code 199", Trouble{Err: said(199), Times: 1}, true},
		{"a first ADD that fails with another code may pass", Trouble{Err: said(5), Times: 1}, false},
		{"one with a code of the runtime's may pass", Trouble{Err: said(999), Times: 1}, false},
		{"the second time it is a verdict", Trouble{Err: said(5), Times: 2}, true},
		{"code 11 is none", Trouble{Err: said(11), Times: 1}, false},
		{"code 11 is none the tenth time", Trouble{Err: said(11), Times: 10}, false},
		{"code 11 is none while a container is healed", Trouble{Err: said(11), Times: 10, Ran: true, For: time.Hour}, false},
		{"a hung verb is none the first time", Trouble{Err: errSilent, Times: 1}, false},
		{"a hung verb is one the second time", Trouble{Err: errSilent, Times: 2}, true},
		{"a hold of one that never ran is one at once", Trouble{Reason: spec.LimitExceeded}, true},
		{"a hold of one that ran is none before a minute", Trouble{Ran: true, For: time.Minute - 1}, false},
		{"a hold of one that ran is one after a minute", Trouble{Ran: true, For: time.Minute}, true},
		{"code 7 is none while a container is healed", Trouble{Err: said(7), Times: 1, Ran: true, For: time.Second}, false},
		{"code 7 is one when healing takes a minute", Trouble{Err: said(7), Times: 1, Ran: true, For: time.Minute}, true},
		{"many failures are none while a container is healed", Trouble{Err: errSilent, Times: 9, Ran: true, For: time.Second}, false},
	} {
		t.Run(r.name, func(t *testing.T) {
			if got := r.trouble.verdict(); got != r.verdict {
				t.Errorf("verdict %v", got)
			}
		})
	}
}

var vpn = spec.Container{HostID: "host", InterfaceName: "vpn", ContainerID: "c1", ServiceType: "IPSEC"}

func words() *Board { return NewBoard(nil, slog.New(slog.DiscardHandler)) }

func TestTheLastWordOnAContainer(t *testing.T) {
	health := &spec.Health{Code: spec.Running, Message: "one is down", Connections: []spec.Connection{
		{ID: "a", Status: spec.Active, Pairs: []spec.Pair{{Local: "l", BytesIn: 7}}}, {ID: "b", Status: spec.Down},
	}}
	for _, r := range []struct {
		name        string
		report      func(b *Board)
		code        spec.StatusCode
		message     string
		namespace   string
		connections int
	}{
		{"a first ADD", func(b *Board) { b.Starting(vpn) }, spec.Starting, "", "", 0},
		{"a settled one whose health is not known", func(b *Board) { b.Running(vpn, nil) }, spec.Running, "", "vpn", 0},
		{"a settled one with its health", func(b *Board) { b.Running(vpn, health) }, spec.Running, "one is down", "vpn", 2},
		{"connections stand until a health tells others", func(b *Board) { b.Running(vpn, health); b.Running(vpn, nil) }, spec.Running, "", "vpn", 2},
		{"connections do not outlive a restart of the container", func(b *Board) { b.Running(vpn, health); b.Starting(vpn); b.Running(vpn, nil) }, spec.Running, "", "vpn", 0},
		{"a failed change runs, with the reason", func(b *Board) { b.Running(vpn, health); b.ChangeFailed(vpn, "no") }, spec.Running, "change failed: no", "vpn", 2},
		{"a failed change after a restart of the supervisor", func(b *Board) { b.ChangeFailed(vpn, "no") }, spec.Running, "change failed: no", "vpn", 0},
		{"a failed change that was made good", func(b *Board) { b.ChangeFailed(vpn, "no"); b.Running(vpn, nil) }, spec.Running, "", "vpn", 0},
		{"trouble that is a verdict", func(b *Board) { b.Failing(vpn, Trouble{Reason: "LIMIT_EXCEEDED"}) }, spec.Failed, "LIMIT_EXCEEDED", "", 0},
		{"trouble that may pass leaves the last word", func(b *Board) { b.Starting(vpn); b.Failing(vpn, Trouble{Reason: "x", Err: errSilent, Times: 1}) }, spec.Starting, "", "", 0},
		{"one that is removed", func(b *Board) { b.Running(vpn, health); b.Stopping(vpn) }, spec.Stopping, "", "vpn", 0},
		{"one that is gone", func(b *Board) { b.Running(vpn, health); b.Remove("c1") }, "", "", "", 0},
		{"nothing was said", func(*Board) {}, "", "", "", 0},
	} {
		t.Run(r.name, func(t *testing.T) {
			b := words()
			r.report(b)
			got, ok := b.Status("c1")
			if ok != (r.code != "") || got.Code != r.code || got.Message != r.message || got.NamespaceName != r.namespace ||
				len(got.Connections) != r.connections {
				t.Errorf("%+v, %v", got, ok)
			}
			if ok && (got.HostID != "host" || got.InterfaceName != "vpn") {
				t.Errorf("%+v does not say where", got)
			}
			for _, c := range got.Connections {
				for _, p := range c.Pairs {
					if p.BytesIn != 0 {
						t.Error("a counter is published")
					}
				}
			}
		})
	}
}
