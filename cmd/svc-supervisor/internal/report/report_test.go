package report

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

func errorObject(code spec.Code) error {
	return fmt.Errorf("add vpn: %w", &spec.Error{Code: code, Msg: "no"})
}

var errDeadline = errors.New("deadline of 30s")

// TestProblemIsPublishedIfItIsAnError follows the table in docs/design.md, "Status".
func TestProblemIsPublishedIfItIsAnError(t *testing.T) {
	for _, r := range []struct {
		name    string
		problem Problem
		isError bool
	}{
		{"code 7 of the first ADD is an error at once", Problem{Err: errorObject(7), Times: 1}, true},
		{"code 100 of the first ADD is an error at once", Problem{Err: errorObject(100), Times: 1}, true},
		{"code 199 of the first ADD is an error at once", Problem{Err: errorObject(199), Times: 1}, true},
		{"another code of the first ADD is no error yet", Problem{Err: errorObject(5), Times: 1}, false},
		{"code 999 of the first ADD is no error yet", Problem{Err: errorObject(999), Times: 1}, false},
		{"another code is an error when ADD fails again", Problem{Err: errorObject(5), Times: 2}, true},
		{"code 11 is no error", Problem{Err: errorObject(11), Times: 1}, false},
		{"code 11 is no error the tenth time", Problem{Err: errorObject(11), Times: 10}, false},
		{"code 11 is no error while a container is healed", Problem{Err: errorObject(11), Times: 10, Ran: true, For: time.Hour}, false},
		{"a hung verb is no error the first time", Problem{Err: errDeadline, Times: 1}, false},
		{"a hung verb is an error the second time", Problem{Err: errDeadline, Times: 2}, true},
		{"a held container that never ran is an error at once", Problem{Reason: spec.LimitExceeded}, true},
		{"a held container that ran is no error within a minute", Problem{Ran: true, For: time.Minute - 1}, false},
		{"a held container that ran is an error after a minute", Problem{Ran: true, For: time.Minute}, true},
		{"code 7 is no error while a container is healed", Problem{Err: errorObject(7), Times: 1, Ran: true, For: time.Second}, false},
		{"code 7 is an error when healing takes a minute", Problem{Err: errorObject(7), Times: 1, Ran: true, For: time.Minute}, true},
		{"many failures are no error while a container is healed", Problem{Err: errDeadline, Times: 9, Ran: true, For: time.Second}, false},
	} {
		t.Run(r.name, func(t *testing.T) {
			if got := r.problem.isError(); got != r.isError {
				t.Errorf("isError is %v", got)
			}
		})
	}
}

var vpn = spec.Container{HostID: "host", InterfaceName: "vpn", ContainerID: "c1", ServiceType: "IPSEC"}

func newBoard() *Board { return NewBoard(nil, slog.New(slog.DiscardHandler)) }

func TestLatestStatusOfAContainer(t *testing.T) {
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
		{"settled, health not known", func(b *Board) { b.Running(vpn, nil) }, spec.Running, "", "vpn", 0},
		{"settled, with its health", func(b *Board) { b.Running(vpn, health) }, spec.Running, "one is down", "vpn", 2},
		{"connections stay until a new health is reported", func(b *Board) { b.Running(vpn, health); b.Running(vpn, nil) }, spec.Running, "", "vpn", 2},
		{"connections do not outlive a restart of the container", func(b *Board) { b.Running(vpn, health); b.Starting(vpn); b.Running(vpn, nil) }, spec.Running, "", "vpn", 0},
		{"a failed change, with the reason", func(b *Board) { b.Running(vpn, health); b.ChangeFailed(vpn, "no") }, spec.Running, "change failed: no", "vpn", 2},
		{"a failed change after a restart of the supervisor", func(b *Board) { b.ChangeFailed(vpn, "no") }, spec.Running, "change failed: no", "vpn", 0},
		{"a failed change that later succeeded", func(b *Board) { b.ChangeFailed(vpn, "no"); b.Running(vpn, nil) }, spec.Running, "", "vpn", 0},
		{"a problem that is an error", func(b *Board) { b.Failing(vpn, Problem{Reason: "LIMIT_EXCEEDED"}) }, spec.Failed, "LIMIT_EXCEEDED", "", 0},
		{"a problem that may pass leaves the status", func(b *Board) { b.Starting(vpn); b.Failing(vpn, Problem{Reason: "x", Err: errDeadline, Times: 1}) }, spec.Starting, "", "", 0},
		{"a container that is being removed", func(b *Board) { b.Running(vpn, health); b.Stopping(vpn) }, spec.Stopping, "", "vpn", 0},
		{"a removed container", func(b *Board) { b.Running(vpn, health); b.Remove("c1") }, "", "", "", 0},
		{"no report", func(*Board) {}, "", "", "", 0},
	} {
		t.Run(r.name, func(t *testing.T) {
			b := newBoard()
			r.report(b)
			got, ok := b.Status("c1")
			if ok != (r.code != "") || got.Code != r.code || got.Message != r.message || got.NamespaceName != r.namespace ||
				len(got.Connections) != r.connections {
				t.Errorf("%+v, %v", got, ok)
			}
			if ok && (got.HostID != "host" || got.InterfaceName != "vpn") {
				t.Errorf("%+v: host or name is wrong", got)
			}
			for _, c := range got.Connections {
				for _, p := range c.Pairs {
					if p.BytesIn != 0 {
						t.Error("a traffic counter is published")
					}
				}
			}
		})
	}
}
