package state

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
)

// fixture returns a directory with files that release 0.1.0 wrote. They are from an ADD with one connection, and a
// second ADD with five connections. One of these conflicts with another, one was refused by the daemon, one has a peer
// name and a key file, and one has a certificate.
func fixture(t *testing.T) *Directory {
	t.Helper()
	d := directory(t)
	if err := os.CopyFS(d.Path, os.DirFS("testdata/0.1.0")); err != nil {
		t.Fatal(err)
	}
	return d
}

// oldState returns the state that the files of fixture represent.
func oldState(t *testing.T) *State {
	t.Helper()
	read := func(name string) []byte {
		text, err := os.ReadFile(filepath.Join("testdata/0.1.0", name))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	at := func(s string) time.Time {
		parsed, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	const ca = "/tmp/ca4025175347/"
	return &State{
		Attachment: Attachment{
			Network: "by-hand", ContainerID: "vpn-old-id", Interface: "svc0", Namespace: "/run/netns/vpn-old",
			Inode: 4026532251, Bridge: "br-test", Guard: "nftables",
		},
		Configuration: read("conf.json"),
		Found: Found{
			Files: map[string]FoundFile{"/srv/psk": {Content: []byte("key of the fixture")}},
			Names: map[string]FoundName{"peer.example.org": {Address: netip.MustParseAddr("200.200.200.7")}},
			Certificates: []FoundCertificate{{
				Files: config.CertificateFiles{
					Certificate: ca + "left.pem", PrivateKey: ca + "left.key", CA: ca + "ca.pem",
				},
				Found: config.Certificate{
					Nickname: "svc-42d90741a01b1003-19c0f413329fe0fd", AuthBy: "rsasig", PeerCA: "%same",
					Digest:   "78ef973c834058d281697aba1b1bc82409f1638da7368dcaef728dc19b3b4a8f",
					NotAfter: at("2026-11-29T23:13:48Z"),
				},
			}},
			At: at("2026-11-29T22:13:48.540570174Z"),
		},
		Refused: map[string]string{"refused-0-0": "pluto refused it: addconn: exit status 36"},
		Chosen: map[string]string{
			"configuration.connections[0]": "first", "configuration.connections[2]": "refused",
			"configuration.connections[3]": "named", "configuration.connections[4]": "cert",
		},
		Retry:       Retry{Changed: at("2026-11-29T22:13:49.679565032Z"), Next: at("2026-11-29T22:13:51.679565032Z")},
		GuardRules:  string(read("guard.nft")),
		PrivateKeys: true,
	}
}

// fileNames lists the names of the files in a directory.
func fileNames(t *testing.T, d *Directory) (files []string) {
	t.Helper()
	entries, err := os.ReadDir(d.Path)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		files = append(files, entry.Name())
	}
	return files
}

func expect(t *testing.T, when string, d *Directory, want *State) {
	t.Helper()
	got, err := d.Load()
	if err != nil || got == nil {
		t.Errorf("%s: got %v, %v", when, got, err)
		return
	}
	got.Version = want.Version
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: got %+v\nwant %+v", when, got, want)
	}
}

func TestFilesOfRelease010AreReadAndNotChanged(t *testing.T) {
	d := fixture(t)
	before := fileNames(t, d)
	expect(t, "before the migration", d, oldState(t))
	if after := fileNames(t, d); !slices.Equal(after, before) {
		t.Errorf("files %v, before %v", after, before)
	}
}

// TestCrashDuringMigrationLosesNothing simulates a crash before state.json is renamed to its name, and before the
// removal of each old file.
func TestCrashDuringMigrationLosesNothing(t *testing.T) {
	for removed := -1; removed <= len(oldFiles); removed++ {
		d, when := fixture(t), "killed after the migration"
		switch {
		case removed < 0:
			when = "killed before state.json was renamed"
			put(t, d, unfinished+"123", `{"version":2,"attach`)
		case removed < len(oldFiles):
			when = "killed before the removal of " + oldFiles[removed]
		}
		want := oldState(t)
		if removed >= 0 {
			if err := d.Save(want); err != nil {
				t.Fatal(err)
			}
			for _, name := range oldFiles[:removed] {
				if err := os.Remove(filepath.Join(d.Path, name)); err != nil {
					t.Fatal(err)
				}
			}
		}
		expect(t, when, d, want)

		// The next ADD does the migration.
		next, err := d.Load()
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(d.Save(next), d.RemoveOld(), d.Files().Tidy()); err != nil {
			t.Errorf("%s: %v", when, err)
		}
		want.Version = version
		expect(t, when+", after the next ADD", d, want)
		if left := fileNames(t, d); !slices.Equal(left, []string{stateFile}) {
			t.Errorf("%s: files %v", when, left)
		}
	}
}

func TestStateJSONHasPrecedenceOverOldFiles(t *testing.T) {
	d, want := fixture(t), full(t)
	if err := d.Save(want); err != nil {
		t.Fatal(err)
	}
	expect(t, "with state.json and old files", d, want)
	put(t, d, stateFile, `{"version":2`)
	if s, err := d.Load(); s != nil || err == nil {
		t.Errorf("a damaged %s: got %+v, %v", stateFile, s, err)
	}
}

func TestNewerOldFilesHavePrecedenceOverStateJSON(t *testing.T) {
	d := fixture(t) // release 0.1.0 leaves these files after a downgrade
	if err := d.Save(full(t)); err != nil {
		t.Fatal(err)
	}
	before := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(d.Path, stateFile), before, before); err != nil {
		t.Fatal(err)
	}
	expect(t, "after a downgrade", d, oldState(t))
	if err := d.Save(oldState(t)); err != nil {
		t.Fatal(err)
	}
	put(t, d, oldConf, "{}")
	want := oldState(t)
	want.Version = version
	expect(t, "after an ADD that was killed before it removed the old files", d, want)
}

func TestInvalidOldFiles(t *testing.T) {
	complete := func(change func(*State)) func(*testing.T) *State {
		return func(t *testing.T) *State {
			t.Helper()
			s := oldState(t)
			change(s)
			return s
		}
	}
	none := func(*testing.T) *State { return nil }
	attachmentOnly := func(t *testing.T) *State { t.Helper(); return &State{Attachment: oldState(t).Attachment} }
	for _, test := range []struct {
		name, file, text string // with an empty text, the file is missing
		want             func(*testing.T) *State
		err              string
	}{
		{"no attachment", oldAttachment, "", none, ""},
		{"a damaged attachment", oldAttachment, `{"version":1`, none, "read attachment.json of vpn: unexpected end"},
		{"an attachment of a newer version", oldAttachment, `{"version":2}`, none,
			"read attachment.json of vpn: version 2 is newer than this program's 1"},
		{"an attachment without an owner", oldAttachment, `{"version":1}`, none,
			"read attachment.json of vpn: attachment must have"},
		{"a damaged found.json: DEL still knows the owner", oldFound, `{"version":1,"at":"noon"}`, attachmentOnly,
			"read found.json of vpn: "},
		{"a found.json of a newer version", oldFound, `{"version":2}`, attachmentOnly,
			"read found.json of vpn: version 2 is newer than this program's 1"},
		{"no found.json: the first ADD was interrupted", oldFound, "", complete(func(s *State) { s.Found = Found{} }),
			""},
		{"no configuration: the first ADD was interrupted", oldConf, "",
			complete(func(s *State) { s.Configuration = nil }), ""},
		{"a damaged configuration", oldConf, `{"name":`, complete(func(s *State) { s.Configuration = nil }), ""},
		{"damaged refusals", oldRefused, `{"a":1`, complete(func(s *State) { s.Refused = nil }), ""},
		{"damaged choices", oldRan, `[]`, complete(func(s *State) { s.Chosen = nil }), ""},
		{"no choices, as of an older version", oldRan, "", complete(func(s *State) { s.Chosen = nil }), ""},
		{"a damaged schedule", oldRetry, `{"next"`, complete(func(s *State) { s.Retry = Retry{} }), ""},
		{"no guard: it was being changed", oldGuard, "", complete(func(s *State) { s.GuardRules = "" }), ""},
		{"no private keys", oldImported, "", complete(func(s *State) { s.PrivateKeys = false }), ""},
	} {
		d := fixture(t)
		if test.text != "" {
			put(t, d, test.file, test.text)
		} else if err := os.Remove(filepath.Join(d.Path, test.file)); err != nil {
			t.Fatal(err)
		}
		got, err := d.Load()
		if want := test.want(t); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v\nwant %+v", test.name, got, want)
		}
		if (err == nil) != (test.err == "") || err != nil && !strings.HasPrefix(err.Error(), test.err) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.err)
		}
	}
}

func TestOldFileThatIsADirectoryIsAnError(t *testing.T) {
	d := directory(t)
	if err := os.Mkdir(filepath.Join(d.Path, oldAttachment), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Load(); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
