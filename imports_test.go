// Package svcsupervisor_test tests rules that apply to several packages of the module.
package svcsupervisor_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/scanner"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/svc-supervisor/svc-supervisor/"

// Import paths that the table below uses. Each includes the packages below it.
var (
	ownPackages = []string{
		module + "pkg/statedir", module + "pkg/watch", module + "pkg/netns", module + "pkg/unit", module + "pkg/userid",
		module + "cmd/svc-supervisor", module + "cmd/svc-ipsec",
	}
	statedir = module + "pkg/statedir"
	watch    = module + "pkg/watch"
	netns    = module + "pkg/netns"
	unit     = module + "pkg/unit"
	plugin   = module + "cmd/svc-supervisor/internal/plugin"
	clients  = []string{watch, "go.etcd.io/etcd", "github.com/go-zookeeper/zk", "google.golang.org/grpc"}
	network  = []string{
		"net/http", "net/rpc", "github.com/vishvananda", "google.golang.org", "go.etcd.io", "github.com/go-zookeeper",
	}
	dbus    = []string{"github.com/godbus/dbus", "github.com/coreos/go-systemd/v22/dbus"}
	netlink = []string{"github.com/vishvananda", "github.com/containernetworking/plugins"}
)

// importBans is the table in the chapter "The packages" of docs/design.md: the imports that are forbidden in a package
// and in the packages below it. Only direct imports are checked.
var importBans = []struct {
	pkg       string
	forbidden []string
	reason    string
}{
	{"pkg/spec", []string{"os", "os/exec"}, "its checks are pure functions"},
	{"pkg/spec", []string{"log/slog"}, "it returns errors, and its callers decide whether to log them"},
	{"pkg/spec", slices.Concat(network, dbus), "every executable imports it, and must not contain network clients"},
	{"pkg/spec", ownPackages, "all other packages import it, so it imports none of them"},

	{"pkg/statedir", []string{watch, unit, netns},
		"it stores the recorded state only, not the desired or the observed state"},
	{"pkg/statedir", []string{"os/exec"}, "it only stores records"},
	{"pkg/statedir", clients, "records must be readable if the NSDB does not answer"},

	{"pkg/watch", []string{statedir, unit, netns},
		"it reads and writes the NSDB, and package reconcile decides what to do"},
	{"pkg/watch", []string{"os/exec"}, "the content of the NSDB must not get onto a command line"},

	{"pkg/watch/native", slices.Concat(network, []string{"net"}),
		"the file and etcd kinds share it, and each of them does its own I/O"},
	{"pkg/watch/zoom/model", slices.Concat(network, []string{"net/http", "os"}),
		"its result depends on the given nodes only"},
	{"pkg/watch/zoom/text", slices.Concat(network, []string{"os"}), "a parser does no I/O"},

	{"pkg/unit", []string{statedir, watch, netns, module + "cmd"},
		"executables use it, and they do not depend on the supervisor"},
	{"pkg/netns", []string{statedir, watch, unit, module + "pkg/userid", module + "cmd"},
		"executables use it, and they do not depend on the supervisor"},

	{"pkg/userid", slices.Concat([]string{statedir, watch, netns, unit, module + "cmd"}, network, dbus),
		"the supervisor and the executables must get the same id from the same files"},
	{"internal/ownthread", slices.Concat(ownPackages, []string{module + "pkg/spec"}), "it runs any function"},
	{"internal/lazyregexp", slices.Concat(ownPackages, []string{module + "pkg/spec"}), "it compiles any expression"},
	{"internal/jsonform", slices.Concat(ownPackages, []string{module + "pkg/spec"}), "it writes any JSON"},
	{"internal/oneline", slices.Concat(ownPackages, []string{module + "pkg/spec"}), "it makes one line of any text"},
	{"internal/procids", slices.Concat(ownPackages, []string{module + "pkg/spec"}), "it lists any process"},
	{"internal/strictjson", slices.Concat(ownPackages, []string{module + "pkg/spec"}), "it decodes any JSON"},
	{"internal/busyclock", slices.Concat(ownPackages, []string{module + "pkg/spec"}), "its clock works for any task"},
	{"internal/atomicfile", slices.Concat(ownPackages, []string{module + "pkg/spec"}), "it writes any file"},
	{"internal/lockdir", slices.Concat(ownPackages, []string{module + "pkg/spec"}), "it locks any directory"},

	{"internal/publish", slices.Concat(ownPackages, clients),
		"it gets an NSDB, so it is independent of the kind of NSDB"},

	{"cmd/svc-supervisor/internal/plugin", []string{statedir, watch, unit},
		"it runs one verb once, and package reconcile decides which"},
	{"cmd/svc-supervisor/internal/plugin", dbus,
		"executables are child processes of the supervisor and not systemd units"},

	{"cmd/svc-supervisor/internal/report", []string{statedir, plugin, unit},
		"a status depends only on the facts that reconcile passes, so that the two never disagree"},
	{"cmd/svc-supervisor/internal/report", clients, "it gets an NSDB, so it is independent of the kind of NSDB"},

	{"cmd/svc-supervisor/internal/kernelevents", ownPackages, "package reconcile decides what to do after an event"},
	{"cmd/svc-supervisor/internal/kernelevents", []string{"os/exec"}, "it only reads messages of the kernel"},

	{"cmd/svc-supervisor/internal/health", ownPackages, "package reconcile decides what to do after a push"},

	{"cmd/svc-supervisor/internal/journal", slices.Concat(ownPackages, []string{module + "pkg/spec"}),
		"it reads any entries"},

	{"cmd/svc-supervisor/internal/metrics",
		[]string{statedir, watch, netns, unit, module + "pkg/userid", "os/exec"}, "it only reads what it is given"},

	{"cmd/svc-supervisor/internal/decide", slices.Concat(ownPackages, []string{"os", "time", "context", "log/slog"}),
		"the decision is a pure function of the facts"},

	{"cmd/svc-supervisor/internal/observe",
		slices.Concat(dbus, netlink, clients, []string{"os", "os/exec", "log/slog", "time"}),
		"it only reads, through the interfaces that it declares, and remembers nothing"},
	{"cmd/svc-supervisor/internal/observe",
		[]string{module + "cmd/svc-supervisor/internal/reconcile", module + "cmd/svc-supervisor/internal/report"},
		"package reconcile decides what to do after an observation"},

	{"cmd/svc-supervisor/internal/reconcile", []string{"os/exec"},
		"only package plugin runs programs: with a process group, a deadline and limits"},
	{"cmd/svc-supervisor/internal/reconcile", slices.Concat(dbus, netlink),
		"its tests use files and fakes, without systemd and without namespaces of the kernel"},
	{"cmd/svc-supervisor/internal/reconcile", clients,
		"it gets the complete desired state, and reads nothing from the NSDB"},

	{"cmd/svc-ipsec/internal/mountview", slices.Concat(ownPackages, []string{"os/exec"}),
		"it does not depend on the programs that run in a view"},
	{"cmd/svc-ipsec/internal/launch", []string{
		unit, module + "cmd/svc-ipsec/internal/libreswan", module + "cmd/svc-ipsec/internal/verb",
		module + "cmd/svc-ipsec/internal/state",
	}, "it runs as root in the mount view with the daemon's files, and must not read them"},
	{"cmd/svc-ipsec/internal/endpoint", slices.Concat(dbus, netlink, []string{
		"os", "os/exec", unit, netns, module + "pkg/userid", module + "cmd/svc-ipsec/internal/libreswan",
		module + "cmd/svc-ipsec/internal/network", module + "cmd/svc-ipsec/internal/state",
		module + "cmd/svc-ipsec/internal/verb",
	}), "its functions depend on their arguments only"},
	{"cmd/svc-ipsec", []string{statedir, watch, module + "cmd/svc-supervisor"},
		"other CNI runtimes can run it, so it depends on the contract and not on the supervisor"},
}

type listedPackage struct {
	ImportPath, Dir  string
	GoFiles, Imports []string
}

// listPackages returns all packages of the module, from `go list`.
func listPackages(t *testing.T) []listedPackage {
	t.Helper()
	output, err := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports", "./...").Output()
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			t.Fatalf("go list: %v: %s", err, failed.Stderr)
		}
		t.Fatal(err)
	}
	var all []listedPackage
	for decoder := json.NewDecoder(bytes.NewReader(output)); ; {
		var one listedPackage
		switch err := decoder.Decode(&one); {
		case errors.Is(err, io.EOF):
			return all
		case err != nil:
			t.Fatal(err)
		}
		all = append(all, one)
		statFiles(t, one)
	}
}

// statFiles calls stat for the files of a package, so that the cached result of this test is not used after one of them
// changed. The go command records only the files that the test itself opens or stats, not those that `go list` reads.
func statFiles(t *testing.T, p listedPackage) {
	t.Helper()
	_, err := os.ReadDir(p.Dir)
	for _, name := range p.GoFiles {
		_, statErr := os.Stat(filepath.Join(p.Dir, name))
		err = errors.Join(err, statErr)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// within reports whether pkg is the package path or a package below it.
func within(pkg, path string) bool { return pkg == path || strings.HasPrefix(pkg, path+"/") }

func TestNoPackageHasAForbiddenImport(t *testing.T) {
	all := listPackages(t)
	for _, ban := range importBans {
		found := false
		for _, p := range all {
			if !within(p.ImportPath, module+ban.pkg) {
				continue
			}
			found = true
			for _, imported := range p.Imports {
				for _, forbidden := range ban.forbidden {
					// "os" forbids only the package os itself, not os/signal and the like.
					matches := within(imported, forbidden) && (forbidden != "os" || imported == "os")
					// A package may import the packages below it.
					if matches && !within(imported, module+ban.pkg) {
						t.Errorf("%s imports %s: %s", p.ImportPath, imported, ban.reason)
					}
				}
			}
		}
		if !found {
			t.Errorf("package %s of importBans does not exist", ban.pkg)
		}
	}
}

// The programs must not contain the packages that only tests and the demo need, such as the one that writes MidoNet's
// model.
func TestNoProgramContainsATestPackage(t *testing.T) {
	imports := map[string][]string{}
	for _, p := range listPackages(t) {
		imports[p.ImportPath] = p.Imports
	}
	seen := map[string]bool{}
	var visit func(path, by string)
	visit = func(path, by string) {
		if !strings.HasPrefix(path, module) || seen[path] {
			return
		}
		seen[path] = true
		if strings.HasSuffix(path, "test") {
			t.Errorf("%s imports %s", by, path)
		}
		for _, imported := range imports[path] {
			visit(imported, path)
		}
	}
	for _, program := range []string{"cmd/svc-supervisor", "cmd/svc-ipsec"} {
		visit(module+program, "a program")
	}
	if !seen[module+"pkg/watch/zoom/model"] {
		t.Error("package model is not part of a program")
	}
}

// A new service type must need only a new executable, so the supervisor's code must not mention a service type.
func TestNoPackageOfTheSupervisorMentionsAServiceType(t *testing.T) {
	for _, pkg := range []string{
		"cmd/svc-supervisor", "pkg/spec", "pkg/statedir", "pkg/unit", "pkg/netns", "pkg/userid", "pkg/watch/file",
		"pkg/watch/native", "pkg/watch/etcd",
	} {
		files := 0
		err := filepath.WalkDir(pkg, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			files++
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, place := range mentions(path, content, "ipsec") {
				t.Errorf("%s mentions a service type", place)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		if files == 0 {
			t.Errorf("package %s has no Go files", pkg)
		}
	}
}

// A second package that writes statuses would need its own retries and its own order of writes.
func TestOnlyThePublisherWritesStatuses(t *testing.T) {
	for _, p := range listPackages(t) {
		if within(p.ImportPath, module+"internal/publish") {
			continue
		}
		for _, name := range p.GoFiles {
			path := filepath.Join(p.Dir, name)
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, call := range []string{".PutStatus(", ".DeleteStatus("} {
				if bytes.Contains(content, []byte(call)) {
					t.Errorf("%s contains a call of %s)", path, call)
				}
			}
		}
	}
}

// mentions returns the places in the code of a Go file at which an identifier or a string contains the text, which must
// be in lower case. The comparison ignores case. Comments are ignored, because they may give examples.
func mentions(path string, content []byte, text string) (places []string) {
	files := token.NewFileSet()
	file := files.AddFile(path, -1, len(content))
	var s scanner.Scanner
	s.Init(file, content, nil, 0)
	for {
		pos, tok, literal := s.Scan()
		if tok == token.EOF {
			return places
		}
		if strings.Contains(strings.ToLower(literal), text) {
			places = append(places, files.Position(pos).String()+": "+literal)
		}
	}
}

func TestMentionsFindsTextInCodeAndNotInComments(t *testing.T) {
	content := []byte("package p\n// IPSEC, say\nvar ipsecPath = 1 /* ipsec */\nvar s = `svc-IPsec`\n")
	got := mentions("p.go", content, "ipsec")
	if !slices.Equal(got, []string{"p.go:3:5: ipsecPath", "p.go:4:9: `svc-IPsec`"}) {
		t.Errorf("%q", got)
	}
}
