package etcd

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	mvccpb "go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// filled returns a mirror that was given the host h with n bindings, each with its own container and configuration. It
// sends no request to a server.
func filled(b *testing.B, n int) *mirror {
	b.Helper()
	m := newMirror(Open(Location{Prefix: "/svc"}, "h", slog.New(slog.DiscardHandler)).conn, "h")
	r := &reading{revision: 1, changed: map[native.Key]bool{}}
	put := func(key native.Key, value string) {
		m.set(r, key, &mvccpb.KeyValue{ModRevision: 1, Value: []byte(value)})
	}
	put("hosts/h", `{"id":"h"}`)
	m.set(r, "config/default", nil)
	m.set(r, "config/hosts/h", nil)
	for i := range n {
		id := fmt.Sprintf("p%06d", i)
		put(native.Key("bindings/h/"+id),
			fmt.Sprintf(`{"portId":%q,"hostId":"h","interfaceName":"vpn-%d","containerId":%[1]q}`, id, i))
		put(native.Key("containers/"+id),
			fmt.Sprintf(`{"id":%q,"serviceType":"IPSEC","groupId":"g","configurationId":%[1]q}`, id))
		put(native.Key("configurations/"+id), fmt.Sprintf(`{"id":%q,"connections":[]}`, id))
	}
	if err := m.readUntilComplete(context.Background(), r, nil); err != nil {
		b.Fatal(err)
	}
	m.assemble(context.Background(), r.changed)
	return m
}

// BenchmarkReading builds the set from all objects.
func BenchmarkReading(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if m := filled(b, n); len(m.desired.Bindings) != n || len(m.faults) > 0 {
					b.Fatal(len(m.desired.Bindings), m.faults)
				}
			}
		})
	}
}

// BenchmarkChange builds the set after one configuration has changed, and compares it with the previous set.
func BenchmarkChange(b *testing.B) {
	for _, n := range []int{100, 1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m := filled(b, n)
			b.ReportAllocs()
			for i := int64(2); b.Loop(); i++ {
				before := m.desired
				r := &reading{revision: i, changed: map[native.Key]bool{}}
				value := fmt.Appendf(nil, `{"id":"p000007","n":%d}`, i)
				m.set(r, "configurations/p000007", &mvccpb.KeyValue{ModRevision: i, Value: value})
				m.assemble(b.Context(), r.changed)
				if err := m.readUntilComplete(b.Context(), r, nil); err != nil || before.Equal(&m.desired) ||
					len(m.faults) > 0 {
					b.Fatal(err, m.faults)
				}
			}
		})
	}
}
