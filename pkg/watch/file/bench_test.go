package file

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// writeLargeNSDB writes an NSDB with own bindings of this host and others bindings of another host. Each binding has
// its own container and a configuration of 20 connections.
func writeLargeNSDB(b *testing.B, own, others int) string {
	b.Helper()
	dir := b.TempDir()
	write := func(name, content string) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	connections := strings.Repeat("  - {id: x, name: to-paris, peerAddress: 200.200.200.2, localCidrs: [10.1.0.0/24], "+
		"peerCidrs: [10.2.0.0/24], psk: abcdef, mtu: 1500}\n", 20)
	write("hosts/h.yaml", "id: h\n")
	for i := range own + others {
		host, id := "h", fmt.Sprintf("p%d", i)
		if i >= own {
			host = "x"
		}
		write("bindings/"+host+"/"+id+".yaml",
			fmt.Sprintf("portId: %s\nhostId: %s\ninterfaceName: vpn-%d\ncontainerId: %[1]s\n", id, host, i))
		write("containers/"+id+".yaml",
			fmt.Sprintf("id: %s\nserviceType: IPSEC\ngroupId: g\nconfigurationId: %[1]s\n", id))
		write("configurations/"+id+".yaml", "id: "+id+"\nconnections:\n"+connections)
	}
	return dir
}

func newLargeCache(b *testing.B, own int) *cache {
	p := defaultTiming
	p.debounce, p.removalDelay = 0, 0
	return newCache(writeLargeNSDB(b, own, 2*own), "h", p)
}

var sizes = []int{100, 1000, 10000}

// BenchmarkFirstScan measures the first scan of an NSDB in which another host has twice as many bindings as this host.
func BenchmarkFirstScan(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			dir := newLargeCache(b, n).dir
			p := defaultTiming
			p.debounce, p.removalDelay = 0, 0
			b.ReportAllocs()
			for b.Loop() {
				if result := newCache(dir, "h", p).fullScan(b.Context(),
					time.Now()); len(result.desired.Bindings) != n {
					b.Fatal(result.faults)
				}
			}
		})
	}
}

// BenchmarkNextScan measures a full scan without changes, which is the cost of each rescan.
func BenchmarkNextScan(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := newLargeCache(b, n)
			c.fullScan(b.Context(), time.Now())
			b.ReportAllocs()
			for b.Loop() {
				if result := c.fullScan(b.Context(), time.Now()); len(result.desired.Bindings) != n {
					b.Fatal(result.faults)
				}
			}
		})
	}
}

// BenchmarkChange measures the time from replacing a file to the set with the change, including the delay after the
// rename.
func BenchmarkChange(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			dir := writeLargeNSDB(b, n, 2*n)
			nsdb := Open(Location{Dir: dir, Status: b.TempDir(), Rescan: time.Hour}, "h", slog.New(slog.DiscardHandler))
			sets := make(chan spec.Desired, 1)
			go func() { _ = nsdb.Run(b.Context(), func(d spec.Desired) { sets <- d }) }()
			<-sets
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				temporary := filepath.Join(dir, "bindings/h/.p7.yaml")
				content := fmt.Sprintf("portId: p7\nhostId: h\ninterfaceName: vpn-7\ncontainerId: p7\n"+
					"mac: ca:08:1a:94:%02x:%02x\n",
					i/256%256, i%256)
				if err := os.WriteFile(temporary, []byte(content), 0o644); err != nil {
					b.Fatal(err)
				}
				if err := os.Rename(temporary, filepath.Join(dir, "bindings/h/p7.yaml")); err != nil {
					b.Fatal(err)
				}
				<-sets
			}
		})
	}
}
