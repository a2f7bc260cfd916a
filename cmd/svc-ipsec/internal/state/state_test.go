package state

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/network"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// directory returns a Directory that is not locked.
func directory(t *testing.T) *Directory {
	t.Helper()
	return &Directory{Path: t.TempDir(), Name: "vpn"}
}

func put(t *testing.T, d *Directory, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(d.Path, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func inode(t *testing.T, d *Directory, name string) uint64 {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Stat(filepath.Join(d.Path, name), &stat); err != nil {
		t.Fatal(err)
	}
	return stat.Ino
}

// full returns a state with a value in every field.
func full(t *testing.T) *State {
	t.Helper()
	noon := time.Date(2026, 1, 1, 12, 0, 0, 1, time.UTC)
	configuration, err := Compact([]byte(`{ "name": "a <b> & \u2028 c", "configuration": {} }`))
	if err != nil {
		t.Fatal(err)
	}
	return &State{
		Version: version,
		Attachment: Attachment{
			Network: "n", ContainerID: "c", Interface: "svc0", Namespace: "/run/netns/vpn", Inode: 7,
			Chained: true, Bridge: "b", Guard: "none", GuardReason: "no nftables",
		},
		UserID: 2100000001, View: "/run/svc-ipsec/.view/1", UserNamespace: true,
		Configuration: configuration,
		Found: Found{
			Files: map[string]FoundFile{"/k": {Content: []byte("a\xff"), Fault: "f"}},
			Names: map[string]FoundName{"peer.example": {Address: netip.MustParseAddr("192.0.2.1"), Fault: "f"}},
			Certificates: []FoundCertificate{{
				Files: config.CertificateFiles{Certificate: "/c", PrivateKey: "/p", CA: "/a"},
				Found: config.Certificate{
					Nickname: "n", AuthBy: "rsasig", PeerCA: "%same", Digest: "d", Fault: "f", NotAfter: noon,
				},
			}},
			At: noon,
		},
		Refused: map[string]string{"a-0-0": "refused"}, Chosen: map[string]string{"configuration.connections[0]": "a"},
		Retry: Retry{Changed: noon, Delay: time.Second, Next: noon}, GuardRules: "table inet t {}\n", GuardDigest: "0f",
		Traffic:      map[string]Traffic{"a-0-0": {In: 84, Out: 168, Received: noon}},
		PrivateKeys:  true,
		RefusedEdits: map[string]string{"configuration.connections[0]": "mtu"}, LastValid: []byte(`{"connections":[]}`),
		Tolerated: map[string]string{"configuration.connections[0]": "lifetime"},
		Incomplete: &Incomplete{
			Network: network.Plan{
				Interface: "svc0", Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")},
				Routes: []network.Route{{
					Destination: netip.MustParsePrefix("10.1.0.0/24"), Gateway: netip.MustParseAddr("192.0.2.2"),
					MTU: 1400,
				}},
			},
			Bridges: []string{"b"}, Peers: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/24")}, Daemon: true,
		},
	}
}

func TestLoadReturnsSavedState(t *testing.T) {
	want := full(t)
	for i := range reflect.TypeFor[State]().NumField() {
		if reflect.ValueOf(want).Elem().Field(i).IsZero() {
			t.Errorf("the test has no value for %s", reflect.TypeFor[State]().Field(i).Name)
		}
	}
	d := directory(t)
	if err := d.Save(want); err != nil {
		t.Fatal(err)
	}
	if got, err := d.Load(); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
	if info, err := os.Stat(filepath.Join(d.Path, stateFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of %s: %v, %v", stateFile, info, err)
	}
}

func TestUnchangedStateIsNotWritten(t *testing.T) {
	d := directory(t)
	found := config.Found{Certificates: map[config.CertificateFiles]config.Certificate{}}
	for i := range 20 {
		files := config.CertificateFiles{
			Certificate: fmt.Sprint(i / 4), PrivateKey: fmt.Sprint(i / 2), CA: fmt.Sprint(i),
		}
		found.Certificates[files] = config.Certificate{}
	}
	s := full(t)
	s.Found = NewFound(found)
	if err := d.Save(s); err != nil {
		t.Fatal(err)
	}
	before := inode(t, d, stateFile)
	for range 10 {
		read, err := d.Load()
		if err != nil {
			t.Fatal(err)
		}
		read.Found = NewFound(read.Found.Config())
		if err := d.Save(read); err != nil {
			t.Fatal(err)
		}
	}
	if after := inode(t, d, stateFile); after != before {
		t.Error("the same state was written again")
	}
	s.UserID++
	if err := d.Save(s); err != nil {
		t.Fatal(err)
	}
	if after := inode(t, d, stateFile); after == before {
		t.Error("a changed state was not written")
	}
}

func TestInvalidStateIsAnError(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"a newer version with fields of other types", `{"version":3,"attachment":"elsewhere"}`,
			"read state of vpn: version 3 is newer than this program's 2"},
		{"an older version, which was never in this file", `{"version":1}`,
			"read state of vpn: version must be 2, not 1"},
		{"no version", `{}`, "read state of vpn: version must be 2, not 0"},
		{"an empty file", ``, "read state of vpn: unexpected end of JSON input"},
		{"a truncated file", `{"version":2,"attachment":{"network":"n"`,
			"read state of vpn: unexpected end of JSON input"},
		{"a field of another type", `{"version":2,"attachment":[]}`, "read state of vpn: json: cannot unmarshal array"},
		{"no owner", `{"version":2,"attachment":{"interface":"svc0"}}`,
			"read state of vpn: attachment must have a network and a container id"},
	} {
		d := directory(t)
		put(t, d, stateFile, test.text)
		if s, err := d.Load(); s != nil || err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%s: got %+v, %v, want %q", test.name, s, err, test.want)
		}
	}
}

func TestContainerWithoutFilesHasNoState(t *testing.T) {
	if s, err := directory(t).Load(); s != nil || err != nil {
		t.Errorf("got %+v, %v", s, err)
	}
}

func TestFoundIsConvertedToStoredFormAndBack(t *testing.T) {
	want := config.Found{
		Files: map[string]config.File{"/a": {Content: spec.NewSecret([]byte("k"))}, "/b": {Fault: "f"}},
		Names: map[string]config.Name{"n": {Fault: "f"}},
		Certificates: map[config.CertificateFiles]config.Certificate{
			{Certificate: "/c"}: {Nickname: "n"}, {Certificate: "/d"}: {Fault: "f"},
		},
		At: time.Unix(1, 2).UTC(),
	}
	stored := NewFound(want)
	got := stored.Config()
	if string(got.Files["/a"].Content.Reveal()) != "k" || got.Files["/b"].Fault != "f" ||
		got.Names["n"] != want.Names["n"] ||
		!reflect.DeepEqual(got.Certificates, want.Certificates) || got.At != want.At {
		t.Errorf("got %+v", got)
	}
}

func TestSharedDirectoryModes(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("requires root: it changes a group")
	}
	d, err := Open(context.Background(), filepath.Join(t.TempDir(), "svc-ipsec"), "vpn", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	const user = 1
	if err := errors.Join(d.Share(user), d.Files().SharedDir("etc"), d.Files().OwnedDir("run")); err != nil {
		t.Skipf("requires a second user: %v", err)
	}
	for path, want := range map[string]unix.Stat_t{
		".":   {Mode: unix.S_IFDIR | 0o710, Gid: user}, // the user cannot open the directory, so it cannot lock it
		"etc": {Mode: unix.S_IFDIR | 0o750, Gid: user},
		"run": {Mode: unix.S_IFDIR | 0o700, Uid: user, Gid: user},
	} {
		var got unix.Stat_t
		err := unix.Stat(filepath.Join(d.Path, path), &got)
		if err != nil || got.Mode != want.Mode || got.Uid != want.Uid || got.Gid != want.Gid {
			t.Errorf("%s: mode %o, user %d, group %d, %v", path, got.Mode, got.Uid, got.Gid, err)
		}
	}
	if id, err := d.User(); id != user || err != nil {
		t.Errorf("shared with %d, %v", id, err)
	}
}

func TestSharedFileHasGroupOfDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("requires root: it changes a group")
	}
	d, err := Open(context.Background(), filepath.Join(t.TempDir(), "svc-ipsec"), "vpn", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	const group = 1 // exists in every user namespace with more than one id
	if err := d.Share(group); err != nil {
		t.Skipf("requires a second group: %v", err)
	}
	events := watch(t, d.Path)
	for _, want := range []bool{true, false} {
		if changed, err := d.Files().WriteShared("ipsec.conf", []byte("text")); err != nil || changed != want {
			t.Errorf("changed %v, %v", changed, err)
		}
	}
	got := slices.Compact(events()) // the kernel merges some pairs of equal events
	want := []string{"temporary created", "temporary: mode changed", "temporary written", "ipsec.conf moved here"}
	if !slices.Equal(got, want) {
		t.Errorf("owner and mode are set after content was written: %q", got)
	}
	var stat unix.Stat_t
	err = unix.Stat(filepath.Join(d.Path, "ipsec.conf"), &stat)
	if err != nil || stat.Mode&0o777 != 0o640 || stat.Gid != group {
		t.Errorf("mode %o, group %d, %v", stat.Mode, stat.Gid, err)
	}
}
