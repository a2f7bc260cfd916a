package statedir

import (
	"fmt"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// filled returns a state directory with n records.
func filled(b *testing.B, n int) *Dir {
	b.Helper()
	d, err := Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = d.Close() })
	for i := range n {
		if err := d.Write(record(fmt.Sprintf("vpn-%d", i), "IPSEC", Added)); err != nil {
			b.Fatal(err)
		}
	}
	return d
}

// BenchmarkWrite writes one record in a directory of n records, with the two fsyncs of each write.
func BenchmarkWrite(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			d, r := filled(b, n), record("vpn-0", "IPSEC", Changing)
			b.ReportAllocs()
			for b.Loop() {
				if err := d.Write(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRead reads one record in a directory of n records.
func BenchmarkRead(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			d := filled(b, n)
			b.ReportAllocs()
			for b.Loop() {
				if entries := d.Read(spec.Name("vpn-0")); len(entries) != 1 {
					b.Fatal(entries)
				}
			}
		})
	}
}
