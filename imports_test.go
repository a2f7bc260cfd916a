// Package svcsupervisor_test holds the rules that no single room can hold for itself.
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

// What the bans of the table below speak of, as import paths; each stands for what lies below it too.
var (
	rooms = []string{
		module + "pkg/statedir", module + "pkg/watch", module + "pkg/netns", module + "pkg/unit", module + "pkg/userid",
		module + "cmd/svc-supervisor", module + "cmd/svc-ipsec",
	}
	statedir = module + "pkg/statedir"
	watch    = module + "pkg/watch"
	netns    = module + "pkg/netns"
	unit     = module + "pkg/unit"
	plugin   = module + "cmd/svc-supervisor/internal/plugin"
	clients  = []string{watch, "go.etcd.io/etcd", "github.com/go-zookeeper/zk", "google.golang.org/grpc"}
	network  = []string{"net/http", "net/rpc", "github.com/vishvananda", "google.golang.org", "go.etcd.io", "github.com/go-zookeeper"}
	dbus     = []string{"github.com/godbus/dbus", "github.com/coreos/go-systemd/v22/dbus"}
	netlink  = []string{"github.com/vishvananda", "github.com/containernetworking/plugins"}
)

// bans is the table of docs/design.md, "The packages": what a room never imports itself. What is not banned is free.
var bans = []struct {
	room   string
	never  []string
	reason string
}{
	{"pkg/spec", []string{"os", "os/exec"}, "its checks are pure: what they answer depends on what they are given alone"},
	{"pkg/spec", []string{"log/slog"}, "what it finds is an error for its caller, who knows whether it is news"},
	{"pkg/spec", slices.Concat(network, dbus), "it is shared with every executable, which must not carry a client along"},
	{"pkg/spec", rooms, "every room speaks its words, so it can stand on none"},

	{"pkg/statedir", []string{watch, unit, netns}, "what was begun is a memory, not what is wanted and not what runs"},
	{"pkg/statedir", []string{"os/exec"}, "a memory that acts is no memory"},
	{"pkg/statedir", clients, "a record must be readable while no NSDB answers"},

	{"pkg/watch", []string{statedir, unit, netns}, "it hears and speaks; what follows from what it hears is reconcile's"},
	{"pkg/watch", []string{"os/exec"}, "what the NSDB holds must never reach a command line from here"},

	{"pkg/watch/native", slices.Concat(network, []string{"net"}), "it is what the file and etcd kinds share: each brings its own way to read"},
	{"pkg/watch/zoom/model", slices.Concat(network, []string{"net/http", "os"}), "what the nodes mean is a function of the nodes"},
	{"pkg/watch/zoom/text", slices.Concat(network, []string{"os"}), "a parser is given its text"},

	{"pkg/unit", []string{statedir, watch, netns, module + "cmd"}, "executables use it, who know nothing of the supervisor"},
	{"pkg/netns", []string{statedir, watch, unit, module + "pkg/userid", module + "cmd"}, "executables use it, who know nothing of the supervisor"},

	{"pkg/userid", slices.Concat([]string{statedir, watch, netns, unit, module + "cmd"}, network, dbus), "the supervisor and the executables must get the same id from the same files"},
	{"internal/ownthread", slices.Concat(rooms, []string{module + "pkg/spec"}), "it runs any function"},
	{"internal/lazyregexp", slices.Concat(rooms, []string{module + "pkg/spec"}), "it compiles any expression"},
	{"internal/patience", slices.Concat(rooms, []string{module + "pkg/spec"}), "any work can wait by its clock"},
	{"internal/lockdir", slices.Concat(rooms, []string{module + "pkg/spec"}), "it locks any directory"},

	{"cmd/svc-supervisor/internal/plugin", []string{statedir, watch, unit}, "it runs one verb once; whether one is due is not its business"},
	{"cmd/svc-supervisor/internal/plugin", dbus, "executables are its children; units are systemd's"},

	{"cmd/svc-supervisor/internal/report", []string{statedir, plugin, unit}, "a verdict is made of what it is told; if it looked itself there would be two truths"},
	{"cmd/svc-supervisor/internal/report", clients, "it is handed a publisher, so that every kind of NSDB is one to it"},

	{"cmd/svc-supervisor/internal/kernelevents", rooms, "what follows from an event is reconcile's"},
	{"cmd/svc-supervisor/internal/kernelevents", []string{"os/exec"}, "it only reads what the kernel sends"},

	{"cmd/svc-supervisor/internal/health", rooms, "what follows from what it hears is reconcile's"},

	{"cmd/svc-supervisor/internal/reconcile", []string{"os/exec"}, "a program is run by plugin alone: with its group, its deadline and its limits"},
	{"cmd/svc-supervisor/internal/reconcile", slices.Concat(dbus, netlink), "its tests have a world of files and fakes, with neither systemd nor kernel"},
	{"cmd/svc-supervisor/internal/reconcile", clients, "it is handed the desired set, complete, and asks nobody for more"},

	{"cmd/svc-ipsec/internal/mountview", slices.Concat(rooms, []string{"os/exec"}), "what runs in a view is not its concern"},
	{"cmd/svc-ipsec/internal/launch", []string{unit, module + "cmd/svc-ipsec/internal/libreswan", module + "cmd/svc-ipsec/internal/verb", module + "cmd/svc-ipsec/internal/state"}, "it runs as root beside files of the daemon: it reads none of them"},
	{"cmd/svc-ipsec/internal/endpoint", slices.Concat([]string{"os", "os/exec", unit, netns, module + "pkg/userid", module + "cmd/svc-ipsec/internal/libreswan", module + "cmd/svc-ipsec/internal/network", module + "cmd/svc-ipsec/internal/state", module + "cmd/svc-ipsec/internal/verb"}, dbus, netlink), "its functions depend on their arguments alone"},
	{"cmd/svc-ipsec", []string{statedir, watch, module + "cmd/svc-supervisor"}, "any CNI runtime can drive it: it knows the contract, not the supervisor"},
}

type listed struct {
	ImportPath, Dir  string
	GoFiles, Imports []string
}

// packages asks the go command for all packages of the module.
func packages(t *testing.T) []listed {
	t.Helper()
	output, err := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports", "./...").Output()
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			t.Fatalf("go list: %v: %s", err, failed.Stderr)
		}
		t.Fatal(err)
	}
	var all []listed
	for decoder := json.NewDecoder(bytes.NewReader(output)); ; {
		var one listed
		switch err := decoder.Decode(&one); {
		case errors.Is(err, io.EOF):
			return all
		case err != nil:
			t.Fatal(err)
		}
		all = append(all, one)
		seen(t, one)
	}
}

// seen looks at the files of a package itself: the go command keeps the result of a test until a file changes that the test,
// not a program that it ran, has looked at.
func seen(t *testing.T, p listed) {
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

// within says whether a package is the one at path, or lies below it.
func within(pkg, path string) bool { return pkg == path || strings.HasPrefix(pkg, path+"/") }

func TestNoRoomImportsWhatItIsBannedFrom(t *testing.T) {
	all := packages(t)
	for _, ban := range bans {
		found := false
		for _, p := range all {
			if !within(p.ImportPath, module+ban.room) {
				continue
			}
			found = true
			for _, imported := range p.Imports {
				for _, never := range ban.never {
					// os is the package itself: os/signal and the like have bans of their own.
					banned := within(imported, never) && (never != "os" || imported == "os")
					// A room may be divided.
					if banned && !within(imported, module+ban.room) {
						t.Errorf("%s imports %s: %s", p.ImportPath, imported, ban.reason)
					}
				}
			}
		}
		if !found {
			t.Errorf("there is no room %s: the ban holds nothing", ban.room)
		}
	}
}

// Adding a service type is adding an executable.
func TestNoRoomOfTheSupervisorKnowsAServiceType(t *testing.T) {
	for _, room := range []string{"cmd/svc-supervisor", "pkg/spec", "pkg/statedir", "pkg/unit", "pkg/netns", "pkg/userid", "pkg/watch/file", "pkg/watch/native", "pkg/watch/etcd"} {
		files := 0
		err := filepath.WalkDir(room, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			files++
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, place := range knows(path, content, "ipsec") {
				t.Errorf("%s knows a service type", place)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		if files == 0 {
			t.Errorf("there is no room %s: the rule holds nothing", room)
		}
	}
}

// knows finds a word in the code of a file: in names and strings, in whatever case. Comments may give examples.
func knows(path string, content []byte, word string) (places []string) {
	files := token.NewFileSet()
	file := files.AddFile(path, -1, len(content))
	var s scanner.Scanner
	s.Init(file, content, nil, 0)
	for {
		pos, tok, literal := s.Scan()
		if tok == token.EOF {
			return places
		}
		if strings.Contains(strings.ToLower(literal), word) {
			places = append(places, files.Position(pos).String()+": "+literal)
		}
	}
}

func TestAWordIsFoundInCodeAndNotInComments(t *testing.T) {
	content := []byte("package p\n// IPSEC, say\nvar ipsecPath = 1 /* ipsec */\nvar s = `svc-IPsec`\n")
	if got := knows("p.go", content, "ipsec"); !slices.Equal(got, []string{"p.go:3:5: ipsecPath", "p.go:4:9: `svc-IPsec`"}) {
		t.Errorf("%q", got)
	}
}
