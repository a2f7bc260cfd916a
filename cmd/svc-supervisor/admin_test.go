package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// nsdbDir makes an NSDB directory with one host and one container, and returns its path and its URL.
func nsdbDir(t *testing.T) (dir, url string) {
	t.Helper()
	dir = t.TempDir()
	for name, content := range map[string]string{
		"hosts/h.yaml":          "# ours\nid: h\n",
		"bindings/h/p.yaml":     "{portId: p, hostId: h, interfaceName: vpn-1, containerId: c}",
		"containers/c.yaml":     "{id: c, serviceType: IPSEC, groupId: g, configurationId: k}",
		"configurations/k.yaml": "{id: k, psk: hunter2}",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir, "file://" + dir
}

func TestConfigSetWritesWhatConfigGetReads(t *testing.T) {
	dir, url := nsdbDir(t)
	for _, args := range [][]string{
		{"config", "set", "--nsdb", url, "--template", "default", "log-level", "WARN"},
		{"config", "set", "--nsdb", url, "--host", "other", "status-interval", "90s"},
		{"config", "set", "--nsdb", url, "--host-id", "h", "log-level.containers.ipsec", "debug"},
		{"host", "set", "--nsdb", url, "--host-id", "h", "container-weight", "0"},
		{"host", "set", "--nsdb", url, "--host-id", "h", "container-limit", "-1"},
	} {
		if stdout, stderr, err := svcSupervisor(args...); err != nil || stdout != "" || stderr != "" {
			t.Errorf("%v: %q %q %v", args, stdout, stderr, err)
		}
	}
	for _, r := range []struct {
		args []string
		want string
	}{
		{[]string{"--template", "default", "log-level"}, "warn\n"},
		{[]string{"--host", "other", "status-interval"}, "1m30s\n"},
		{[]string{"--host-id", "h", "log-level.containers.ipsec"}, "debug\n"},
	} {
		got, _, err := svcSupervisor(append([]string{"config", "get", "--nsdb", url}, r.args...)...)
		if got != r.want || err != nil {
			t.Errorf("%v: %q %v", r.args, got, err)
		}
	}
	content, err := os.ReadFile(filepath.Join(dir, "hosts/h.yaml"))
	if want := "# ours\nid: h\ncontainerWeight: 0\ncontainerLimit: -1\n"; err != nil || string(content) != want {
		t.Errorf("%q %v", content, err)
	}
}

func TestImportReproducesAnExport(t *testing.T) {
	_, url := nsdbDir(t)
	path := filepath.Join(t.TempDir(), "objects.json")
	_, stderr, err := svcSupervisor("nsdb", "export", "--nsdb", url, path)
	if err != nil || !strings.HasPrefix(stderr, "4 objects") {
		t.Fatalf("%q %v", stderr, err)
	}
	if stat, err := os.Stat(path); err != nil || stat.Mode() != 0o600 {
		t.Errorf("%v %v", stat.Mode(), err)
	}
	first, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = svcSupervisor("nsdb", "export", "--nsdb", url, path)
	if err == nil || !strings.Contains(err.Error(), "allowed: a file that does not exist yet") {
		t.Errorf("export to an existing file: %v", err)
	}
	other := filepath.Join(t.TempDir(), "new")
	for range 2 { // a repeated import changes nothing
		if _, _, err := svcSupervisor("nsdb", "import", "--nsdb", "file://"+other, path); err != nil {
			t.Fatal(err)
		}
	}
	again := path + ".again"
	if _, _, err := svcSupervisor("nsdb", "export", "--nsdb", "file://"+other, again); err != nil {
		t.Fatal(err)
	}
	if second, err := os.ReadFile(again); err != nil || string(second) != string(first) {
		t.Errorf("got  %s\nwant %s", second, first)
	}
}

func TestWritingCommandPrintsTheDefaultNSDB(t *testing.T) {
	t.Setenv("SVC_NSDB", "") // restores the variable at the end of the test
	os.Unsetenv("SVC_NSDB")
	was := nsdbFlag.Value
	t.Cleanup(func() { nsdbFlag.Value = was })
	dir, url := nsdbDir(t)
	nsdbFlag.Value = url
	path := filepath.Join(dir, "objects.json")
	line := "svc-supervisor: NSDB: " + url + " (the default)\n"
	for _, r := range []struct {
		args []string
		want string
	}{
		{[]string{"config", "set", "--host-id", "h", "log-level", "debug"}, line},
		{[]string{"host", "set", "--host-id", "h", "container-weight", "1"}, line},
		{[]string{"nsdb", "export", path}, line + "5 objects written to " + path + "\n"},
		{[]string{"nsdb", "import", path}, line + "5 objects read from " + path + "\n"},
		{[]string{"config", "get", "--host-id", "h", "log-level"}, ""},
		{[]string{"host", "set", "--nsdb", url, "--host-id", "h", "container-weight", "1"}, ""},
	} {
		if _, stderr, err := svcSupervisor(r.args...); err != nil || stderr != r.want {
			t.Errorf("%v: %q %v", r.args, stderr, err)
		}
	}
	t.Setenv("SVC_NSDB", url)
	_, stderr, err := svcSupervisor("config", "set", "--host-id", "h", "log-level", "debug")
	if err != nil || stderr != "" {
		t.Errorf("with SVC_NSDB: %q %v", stderr, err)
	}
}

func TestNSDBCommandErrorsAreOneLine(t *testing.T) {
	dir, url := nsdbDir(t)
	file := func(content string) string {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	object := func(key, value string) string {
		content, _ := json.Marshal(exported{1, nil})
		return strings.Replace(string(content), "null", `[{"key":"`+key+`","value":`+value+`}]`, 1)
	}
	for _, r := range []struct {
		name string
		args []string
		want string
	}{
		{"no command", []string{"config"}, `config command "": allowed: get, set`},
		{"another command", []string{"nsdb", "copy"}, `nsdb command "copy": allowed: export, import`},
		{"no key", []string{"config", "get", "--nsdb", url}, "allowed: a key"},
		{"an unknown key", []string{"config", "get", "--nsdb", url, "loglevel"},
			`setting "loglevel": allowed: log-level, `},
		{
			"a setting that is not set", []string{"config", "get", "--nsdb", url, "--host-id", "h", "log-level"},
			"config/hosts/h: log-level: not set",
		},
		{
			"an invalid value", []string{"config", "set", "--nsdb", url, "log-level", "loud"},
			`log-level "loud": allowed: debug, info, warn, error`,
		},
		{
			"an interval without a unit", []string{"config", "set", "--nsdb", url, "status-interval", "5"},
			"allowed: a time from",
		},
		{
			"another template", []string{"config", "set", "--nsdb", url, "--template", "x", "log-level", "info"},
			`--template "x": allowed: default`,
		},
		{
			"a template and a host",
			[]string{"config", "set", "--nsdb", url, "--template", "default", "--host", "h", "log-level", "info"},
			"--template and --host: allowed: one of them",
		},
		{
			"an invalid host id", []string{"config", "set", "--nsdb", url, "--host", "../x", "log-level", "info"},
			`--host "../x": allowed`,
		},
		{
			"the host id `default`", []string{"config", "set", "--nsdb", url, "--host", "default", "log-level", "info"},
			"--template default",
		},
		{
			"an unknown field", []string{"host", "set", "--nsdb", url, "weight", "1"},
			`host field "weight": allowed: container-weight, container-limit`,
		},
		{
			"a fraction", []string{"host", "set", "--nsdb", url, "container-weight", "1.5"},
			`container-weight "1.5": allowed: a whole number`,
		},
		{
			"a negative weight", []string{"host", "set", "--nsdb", url, "container-weight", "-1"},
			`container-weight "-1": allowed: 0`,
		},
		{
			"a host without an object", []string{
				"host", "set", "--nsdb", url, "--host-id", "x", "container-weight", "1",
			},
			"hosts/x: no such object",
		},
		{
			"no directory", []string{"nsdb", "export", "--nsdb", url + "x", filepath.Join(dir, "o")},
			dir + "x: no such file or directory",
		},
		{
			"an unknown scheme", []string{"nsdb", "export", "--nsdb", "http://h", filepath.Join(dir, "o")},
			`scheme "http": allowed: file`,
		},
		{"no file", []string{"nsdb", "export", "--nsdb", url}, "allowed: one file"},
		{
			"a file in a missing directory", []string{"nsdb", "export", "--nsdb", url, filepath.Join(dir, "x", "o")},
			"no such file",
		},
		{
			"an import that is not JSON", []string{"nsdb", "import", "--nsdb", url, file("{\n\"psk\": hunter2")},
			"line 2: is not JSON",
		},
		{
			"an import of a newer version", []string{"nsdb", "import", "--nsdb", url, file(`{"version":2}`)},
			`version "2": allowed: 1`,
		},
		{
			"an import of another JSON document", []string{"nsdb", "import", "--nsdb", url, file(`["hunter2"]`)},
			"is not an export",
		},
		{
			"an import with another key", []string{
				"nsdb", "import", "--nsdb", url, file(`{"version":1,"psk":"hunter2"}`),
			},
			"another key",
		},
		{
			"an import of an invalid object", []string{
				"nsdb", "import", "--nsdb", url, file(object("hosts/h", `{"id":"x"}`)),
			},
			`hosts/h: id "x": allowed: h`,
		},
		{
			"an import of a status", []string{"nsdb", "import", "--nsdb", url, file(object("status/hosts/h", `{}`))},
			`key "status/hosts/h": allowed`,
		},
		{
			"an import of an object with a repeated key",
			[]string{"nsdb", "import", "--nsdb", url, file(object("configurations/k", `{"psk":"hunter2","psk":""}`))},
			"configurations/k: psk: duplicate key",
		},
		{ // refused without a connection: no server listens on port 1
			"an import into a MidoNet cluster",
			[]string{
				"nsdb", "import", "--nsdb", "zk://127.0.0.1:1/midonet", file(object("hosts/h", `{"psk":"hunter2"}`)),
			},
			"nsdb import: zk://127.0.0.1:1/midonet: MidoNet's own tools write its objects: " +
				"allowed: an NSDB of files or in etcd",
		},
	} {
		t.Run(r.name, func(t *testing.T) {
			stdout, _, err := svcSupervisor(r.args...)
			if err == nil || !strings.Contains(err.Error(), r.want) || strings.Contains(err.Error(), "\n") ||
				stdout != "" {
				t.Errorf("want %s, got %q %v", r.want, stdout, err)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error contains a secret: %v", err)
			}
		})
	}
}

func TestIncompleteExportIsWrittenWithExitStatus3(t *testing.T) {
	dir, url := nsdbDir(t)
	for name, content := range map[string]string{
		"groups/g.yaml":              "{id: g, policy: weighted, hostIds: [h]}",
		"bindings/h/q.yaml":          "{portId: q, hostId: h, interfaceName: vpn-2, containerId: d}",
		"containers/d.yaml":          "{id: d, serviceType: IPSEC, groupId: g, configurationId: broken}",
		"configurations/b.yaml":      "{id: b}",
		"configurations/broken.yaml": "psk: [hunter2",
		"hosts/other.yaml":           "{id: other, containerLimit: -7}",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "objects.json")
	_, stderr, err := svcSupervisor("nsdb", "export", "--nsdb", url, path)
	if err == nil || exitStatus(err) != 3 || err.Error() != "nsdb export: "+path+" is not complete: 4 faults" {
		t.Errorf("exit status %d: %v", exitStatus(err), err)
	}
	if !strings.HasPrefix(stderr, "6 objects written to "+path+"\n") {
		t.Errorf("stderr: %s", stderr)
	}
	for _, fault := range []string{
		"configurations/broken: is not YAML", "hosts/other: containerLimit \"-7\": allowed: -1",
		"containers/d: configurationId names configurations/broken, which is not exported",
		"bindings/h/q: containerId names containers/d, which is not exported",
	} {
		if !strings.Contains(stderr, "svc-supervisor: nsdb export: NSDB directory "+dir+": "+fault) {
			t.Errorf("no fault %q in\n%s", fault, stderr)
		}
	}
	if strings.Contains(stderr, "hunter2") {
		t.Error("stderr contains a secret")
	}
	other := filepath.Join(t.TempDir(), "new")
	if _, _, err := svcSupervisor("nsdb", "import", "--nsdb", "file://"+other, path); err != nil {
		t.Fatal(err)
	}
	if stdout, _, err := svcSupervisor("validate", other); err != nil || stdout != "" {
		t.Errorf("validate: %v\n%s", err, stdout)
	}
	if status := exitStatus(errors.New("another error")); status != 1 {
		t.Errorf("exit status of another error: %d", status)
	}
}
