package file

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// TestPlainPortsCostLittle limits memory and allocations for each port, which do not depend on the speed of the
// machine.
func TestPlainPortsCostLittle(t *testing.T) {
	const ports = 20000
	dir := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("hosts/h.yaml", "id: h\n")
	for i := range ports {
		write(fmt.Sprintf("bindings/h/f00dcafe-0000-4000-8000-%012x.yaml", i), fmt.Sprintf(
			"portId: f00dcafe-0000-4000-8000-%012x\nhostId: h\ninterfaceName: tap%[1]d\n"+
				"mac: 'ac:ca:ba:00:00:01'\naddresses: [10.0.0.1/8]\n", i))
	}
	write("containers/c.yaml", "{id: c, serviceType: IPSEC, groupId: g, configurationId: k}")
	write("configurations/k.yaml", "{id: k}")
	p := defaultTiming
	p.debounce, p.removalDelay = 0, 0
	c := newCache(dir, "h", p)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	result := func(l scanResult, bindings int) {
		t.Helper()
		if !l.stable || len(l.desired.Bindings) != bindings || len(l.faults) > 0 {
			t.Fatalf("stable %v, %d bindings, faults %v", l.stable, len(l.desired.Bindings), l.faults)
		}
	}
	before := heap()
	result(c.fullScan(t.Context(), time.Now()), 0)
	if each := (heap() - before) / ports; each > 1000 {
		t.Errorf("%d bytes for each port", each)
	}
	if each := testing.AllocsPerRun(2, func() { result(c.fullScan(t.Context(), time.Now()), 0) }) / ports; each > 8 {
		t.Errorf("%.1f allocations for each port in a full scan", each)
	}

	// A plain port gets and loses a container, and another binding is created and gets one. Each scan checks only the
	// changed file.
	editedKey := native.Key("bindings/h/f00dcafe-0000-4000-8000-000000000000")
	changes := []struct {
		key      native.Key
		content  string
		bindings int
	}{
		{
			editedKey,
			"portId: f00dcafe-0000-4000-8000-000000000000\nhostId: h\ninterfaceName: vpn-0\ncontainerId: c\n", 1,
		},
		{"bindings/h/new", "portId: new\nhostId: h\ninterfaceName: tap\n", 1},
		{editedKey, "portId: f00dcafe-0000-4000-8000-000000000000\nhostId: h\ninterfaceName: tap0\n", 0},
		{"bindings/h/new", "portId: new\nhostId: h\ninterfaceName: vpn-1\ncontainerId: c\n", 1},
	}
	for _, change := range changes {
		write(string(change.key)+".yaml", change.content)
		c.changed[change.key] = true
		allocations := testing.AllocsPerRun(1, func() { // AllocsPerRun calls the function twice
			result(c.partialScan(t.Context(), time.Now()), change.bindings)
		})
		if allocations > 1000 {
			t.Errorf("%s: %.0f allocations for one change", change.key, allocations)
		}
	}
	if err := os.Remove(filepath.Join(dir, "bindings/h/new.yaml")); err != nil {
		t.Fatal(err)
	}
	c.fullScan(t.Context(), time.Now())
	result(c.fullScan(t.Context(), time.Now().Add(time.Second)), 0)
}

func TestSignatureOfStatEqualsSignatureOf(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{
		os.WriteFile(path("file"), []byte("x"), 0o640),
		os.WriteFile(path("setuid"), nil, 0o755), os.Chmod(path("setuid"), 0o755|os.ModeSetuid|os.ModeSetgid),
		os.Mkdir(path("folder"), 0o755), os.Chmod(path("folder"), 0o777|os.ModeSticky),
		unix.Mkfifo(path("pipe"), 0o600),
		os.Symlink("file", path("link")), os.Symlink("nothing", path("dangling")),
		os.Symlink("/etc/passwd", path("out")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	socket, err := net.Listen("unix", path("socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	files, err := openDirectory(filepath.Dir(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer files.close()
	parent := filepath.Base(dir)
	for _, name := range []string{"file", "setuid", "folder", "pipe", "socket", "link", "dangling", "out", "missing"} {
		got, gotErr := files.signature(files.openDir(parent), parent, name)
		info, wantErr := files.stat(parent + "/" + name)
		var want signature
		if wantErr == nil {
			want = signatureOf(info)
		}
		if got != want || (gotErr == nil) != (wantErr == nil) || gotErr != nil && cause(gotErr) != cause(wantErr) {
			t.Errorf("%s: %+v, %v, not %+v, %v", name, got, gotErr, want, wantErr)
		}
	}
}
