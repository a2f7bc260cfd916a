package report

import (
	"log/slog"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

var vpn = spec.Container{HostID: "host", InterfaceName: "vpn", ContainerID: "c1", ServiceType: "IPSEC"}

func TestLatestStatusOfAContainer(t *testing.T) {
	health := &spec.Health{Code: spec.Running, Connections: []spec.Connection{
		{ID: "a", Status: spec.Active, Pairs: []spec.Pair{{Local: "l", BytesIn: 7}}}, {ID: "b", Status: spec.Down},
	}}
	type publisher = *StatusPublisher
	running := func(p publisher) { p.Set(vpn, spec.Running, "", health) }
	changed := []spec.Connection{{ID: "b", Status: spec.Active}}
	for _, r := range []struct {
		name      string
		set       []func(publisher)
		code      spec.StatusCode
		message   string
		namespace string
		up, all   int
	}{
		{
			"STARTING has no namespace", []func(publisher){func(p publisher) { p.Set(vpn, spec.Starting, "", nil) }},
			spec.Starting, "", "", 0, 0,
		},
		{
			"RUNNING without a known health",
			[]func(publisher){func(p publisher) { p.Set(vpn, spec.Running, "a", nil) }},
			spec.Running, "a", "vpn", 0, 0,
		},
		{"RUNNING has the connections of the health", []func(publisher){running}, spec.Running, "", "vpn", 1, 2},
		{
			"connections stay until a new health is known",
			[]func(publisher){running, func(p publisher) { p.Set(vpn, spec.Running, "change failed: no", nil) }},
			spec.Running, "change failed: no", "vpn", 1, 2,
		},
		{
			"connections do not outlive a restart of the container",
			[]func(publisher){
				running, func(p publisher) { p.Set(vpn, spec.Starting, "", nil) },
				func(p publisher) { p.Set(vpn, spec.Running, "", nil) },
			},
			spec.Running, "", "vpn", 0, 0,
		},
		{
			"ERROR has neither connections nor namespace",
			[]func(publisher){running, func(p publisher) { p.Set(vpn, spec.Failed, spec.LimitExceeded, nil) }},
			spec.Failed, "LIMIT_EXCEEDED", "", 0, 0,
		},
		{
			"STOPPING has the namespace",
			[]func(publisher){running, func(p publisher) { p.Set(vpn, spec.Stopping, "", nil) }},
			spec.Stopping, "", "vpn", 0, 0,
		},
		{
			"a pushed connection is merged",
			[]func(publisher){running, func(p publisher) { p.MergeConnections("c1", changed) }},
			spec.Running, "", "vpn", 2, 2,
		},
		{
			"the connections of a CHECK replace all",
			[]func(publisher){running, func(p publisher) { p.ReplaceConnections("c1", changed) }},
			spec.Running, "", "vpn", 1, 1,
		},
		{
			"connections change no other status than RUNNING",
			[]func(publisher){
				func(p publisher) { p.Set(vpn, spec.Starting, "", nil) },
				func(p publisher) { p.MergeConnections("c1", changed); p.ReplaceConnections("c1", changed) },
			},
			spec.Starting, "", "", 0, 0,
		},
		{
			"connections of an unknown container make no status",
			[]func(publisher){func(p publisher) { p.MergeConnections("c1", changed) }}, "", "", "", 0, 0,
		},
		{
			"a removed status", []func(publisher){running, func(p publisher) { p.Remove("c1") }}, "", "", "", 0, 0,
		},
	} {
		t.Run(r.name, func(t *testing.T) {
			p := New(nil, slog.New(slog.DiscardHandler))
			for _, set := range r.set {
				set(p)
			}
			got, ok := p.Status("c1")
			up := 0
			for _, c := range got.Connections {
				if c.Status == spec.Active {
					up++
				}
				for _, pair := range c.Pairs {
					if pair.BytesIn != 0 {
						t.Error("a traffic counter is published")
					}
				}
			}
			if ok != (r.code != "") || got.Code != r.code || got.Message != r.message ||
				got.NamespaceName != r.namespace || up != r.up || len(got.Connections) != r.all {
				t.Errorf("%+v, %v", got, ok)
			}
			if ok && (got.HostID != "host" || got.InterfaceName != "vpn") {
				t.Errorf("%+v: host or name is wrong", got)
			}
		})
	}
}
