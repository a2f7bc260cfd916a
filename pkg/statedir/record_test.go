package statedir

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func golden(t interface {
	Helper()
	Fatal(...any)
}) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", "version-1", "containers", "vpn-60df5fda.IPSEC"))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func TestARecordOfVersion1IsStillRead(t *testing.T) {
	entries, err := ReadAll(filepath.Join("testdata", "version-1"))
	if err != nil || len(entries) != 1 || entries[0].Err != nil {
		t.Fatalf("%+v, %v", entries, err)
	}
	want := record("vpn-60df5fda", "IPSEC", Changing)
	want.Version = 1
	want.Previous = record("vpn-60df5fda", "IPSEC", Added).Conf
	want.Previous.Configuration = json.RawMessage(`{"psk": "another"}`)
	got := entries[0].Record
	for _, raw := range []*json.RawMessage{
		&got.Result, &got.Conf.Configuration, &got.Previous.Configuration,
		&want.Result, &want.Conf.Configuration, &want.Previous.Configuration,
	} {
		*raw = compact(t, *raw)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if !slices.Equal(got.Units(), []string{"svc-vpn-60df5fda.service"}) {
		t.Errorf("units %v", got.Units())
	}
	if digest, err := got.Conf.Digest(); err != nil || digest != got.Digest {
		t.Errorf("the recorded digest is %s, the computed one %s, %v: the supervisor would reconfigure every container",
			got.Digest, digest, err)
	}
}

func compact(t *testing.T, raw json.RawMessage) json.RawMessage {
	t.Helper()
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		t.Fatal(err)
	}
	content, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func TestARecordIsWrittenInTheFormatOfTheGoldenFile(t *testing.T) {
	path := t.TempDir()
	r := record("vpn-60df5fda", "IPSEC", Changing)
	r.Previous = record("vpn-60df5fda", "IPSEC", Added).Conf
	r.Previous.Configuration = json.RawMessage(`{"psk":"another"}`)
	if err := open(t, path).Write(r); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(recordPath(path, "vpn-60df5fda.IPSEC"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(content, golden(t)) {
		t.Errorf("a change of the format needs a new version, and a file of the old version in testdata:\n%s", content)
	}
}

func TestARecordThatIsTruncatedIsDamaged(t *testing.T) {
	content := golden(t)
	f := file{"vpn-60df5fda", "IPSEC"}
	if _, err := decode(f, content); err != nil {
		t.Fatal(err)
	}
	for n := range len(content) - 1 { // the last byte is a newline
		if _, err := decode(f, content[:n]); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut after %d bytes: %v", n, err)
		}
	}
}

func TestARecordWithAnyFaultIsDamaged(t *testing.T) {
	whole := string(golden(t))
	replace := func(old, by string) string {
		if !strings.Contains(whole, old) {
			t.Fatalf("%s is not in the record", old)
		}
		return strings.Replace(whole, old, by, 1)
	}
	for _, r := range []struct{ name, content string }{
		{"empty", ""},
		{"white space", "\n\n"},
		{"zero bytes, as after a power loss", strings.Repeat("\x00", 4096)},
		{"garbage", "\xde\xad\xbe\xef"},
		{"the beginning of the record, then zero bytes", whole[:300] + strings.Repeat("\x00", 300)},
		{"a list", "[]"},
		{"null", "null"},
		{"an empty object", "{}"},
		{"the record twice", whole + whole},
		{"of version 0", replace(`"version": 1`, `"version": 0`)},
		{"of a negative version", replace(`"version": 1`, `"version": -1`)},
		{"of a version that is not a number", replace(`"version": 1`, `"version": "1"`)},
		{"of an unknown phase", replace(`"phase": "changing"`, `"phase": "sleeping"`)},
		{"without a phase", replace(`"phase": "changing",`, ``)},
		{"with an unknown key", replace(`"version": 1`, `"version": 1, "colour": "red"`)},
		{"with an unknown key in an inner object", replace(`"hostId"`, `"hostID2": "x", "hostId"`)},
		{"whose name differs from that of the file",
			replace(`"interfaceName": "vpn-60df5fda"`, `"interfaceName": "vpn-60df5fdb"`)},
		{"whose type differs from that of the file", replace(`"serviceType": "IPSEC"`, `"serviceType": "OTHER"`)},
		{"with a hostile container id", replace(`"containerId": "container-1"`, `"containerId": "../x"`)},
		{"with a unit that does not belong to the container", replace(`svc-vpn-60df5fda.service`, `sshd.service`)},
		{"changing without boot id", replace(`"bootId": "5f0c1f2e-0000-4000-8000-000000000001"`, `"bootId": ""`)},
		{"changing without conf", replace(`"conf": {`, `"conf": null, "previous": {`)},
		{"with a result that is null", replace(`"result": {`, `"result": null, "previous": {`)},
	} {
		t.Run(r.name, func(t *testing.T) {
			path := t.TempDir()
			put(t, path, "vpn-60df5fda.IPSEC", r.content)
			d := open(t, path)
			entries := d.Read("vpn-60df5fda")
			if len(entries) != 1 {
				t.Fatal("the damaged record is treated as absent")
			}
			e := entries[0]
			if !errors.Is(e.Err, ErrDamaged) || errors.Is(e.Err, ErrNewer) || e.Record != nil ||
				e.ServiceType != "IPSEC" {
				t.Errorf("%+v", e)
			}
			if strings.Contains(e.Err.Error(), "\n") || !strings.Contains(e.Err.Error(), "vpn-60df5fda.IPSEC") {
				t.Errorf("%q is not one line with the name of the record", e.Err)
			}
		})
	}
}

func TestARecordOfANewerVersionIsRefusedAsSuch(t *testing.T) {
	for _, content := range []string{
		`{"version":2}`,
		`{"version":2,"phase":"sleeping","colour":"red","container":7}`,
		`{"version":99999999}`,
	} {
		_, err := decode(file{"vpn", "IPSEC"}, []byte(content))
		if !errors.Is(err, ErrNewer) || errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", content, err)
		}
	}
}

func TestAnUnreadableRecordIsNeitherDamagedNorAbsent(t *testing.T) {
	path := t.TempDir()
	if err := os.MkdirAll(recordPath(path, "vpn.IPSEC"), 0o700); err != nil {
		t.Fatal(err)
	}
	entries := open(t, path).Read("vpn")
	if len(entries) != 1 || entries[0].Err == nil ||
		errors.Is(entries[0].Err, ErrDamaged) || errors.Is(entries[0].Err, ErrNewer) {
		t.Errorf("%+v", entries)
	}
}

func TestPhasesAddedAndChangingNeedConfResultAndBootID(t *testing.T) {
	d := open(t, t.TempDir())
	for _, phase := range []Phase{Adding, Added, Changing, Deleting, Deleted} {
		for name, spoil := range map[string]func(*Record){
			"conf":    func(r *Record) { r.Conf = nil },
			"result":  func(r *Record) { r.Result = nil },
			"boot id": func(r *Record) { r.BootID = "" },
		} {
			r := record("vpn", "IPSEC", phase)
			spoil(r)
			needed := phase == Added || phase == Changing
			if err := d.Write(r); (err != nil) != needed {
				t.Errorf("%s without %s: %v", phase, name, err)
			}
		}
	}
}

func TestAnInvalidRecordIsNotWritten(t *testing.T) {
	path := t.TempDir()
	d := open(t, path)
	for name, spoil := range map[string]func(*Record){
		"a hostile name":   func(r *Record) { r.Container.InterfaceName = "../vpn" },
		"a hostile type":   func(r *Record) { r.Container.ServiceType = "a/b" },
		"an unknown phase": func(r *Record) { r.Phase = "sleeping" },
		"a unit of another program": func(r *Record) {
			r.Result = json.RawMessage(`{"cniVersion":"1.1.0","units":["a.service"]}`)
		},
		"a result that is not JSON":        func(r *Record) { r.Result = json.RawMessage(`nonsense`) },
		"a configuration that is not JSON": func(r *Record) { r.Conf.Configuration = json.RawMessage(`nonsense`) },
	} {
		r := record("vpn", "IPSEC", Added)
		spoil(r)
		if err := d.Write(r); err == nil {
			t.Errorf("%s was written", name)
		}
	}
	if got := files(t, path); len(got) != 0 {
		t.Errorf("%v", got)
	}
	if _, err := os.Stat(filepath.Join(path, "vpn.IPSEC")); err == nil {
		t.Error("a record was written outside of the directory")
	}
	if len(d.Names()) != 0 {
		t.Errorf("%v", d.Names())
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(golden(f))
	f.Add([]byte(`{"version":1,"phase":"deleted","container":{"portId":"p","hostId":"h",` +
		`"interfaceName":"vpn-60df5fda","containerId":"c","serviceType":"IPSEC","groupId":"g","configurationId":"c"}}`))
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`{"version":1e0}`))
	f.Add([]byte{})
	name := file{"vpn-60df5fda", "IPSEC"}
	f.Fuzz(func(t *testing.T, content []byte) {
		r, err := decode(name, content)
		if err != nil {
			if r != nil || errors.Is(err, ErrDamaged) == errors.Is(err, ErrNewer) {
				t.Errorf("%v, %v", r, err)
			}
			return
		}
		if r.Container.InterfaceName != name.name || r.Container.ServiceType != name.serviceType {
			t.Errorf("%+v is another container than that of the file name", r.Container)
		}
		for _, unit := range r.Units() {
			if !r.Container.InterfaceName.OwnsUnit(unit) {
				t.Errorf("unit %q", unit)
			}
		}
		// A record that was read must be valid when it is written again. Otherwise its container could be neither
		// changed nor deleted.
		again, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decode(name, again); err != nil {
			t.Errorf("the record cannot be read after it was written again: %v", err)
		}
	})
}
