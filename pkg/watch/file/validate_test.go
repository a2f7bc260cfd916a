package file

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// writeDirectory writes files into a new directory. A name that ends in "/" is a directory.
func writeDirectory(t *testing.T, files ...map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for _, some := range files {
		for name, content := range some {
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(name, "/") {
				if err := os.MkdirAll(path, 0o755); err != nil {
					t.Fatal(err)
				}
				continue
			}
			if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

var validObjects = map[string]string{
	"hosts/h.yaml": "{id: h, name: left}",
	"hosts/x.json": `{"id": "x", "containerWeight": 0}`,
	"bindings/h/p.yaml": "{portId: p, hostId: h, interfaceName: vpn-1, containerId: c, addresses: " +
		"[169.254.0.1/30]}",
	"bindings/x/q.yaml":      "{portId: q, hostId: x, interfaceName: vpn-1, containerId: d}",
	"bindings/x/r.yaml":      "{portId: r, hostId: x, interfaceName: tap0}",
	"containers/c.yml":       "{id: c, serviceType: IPSEC, groupId: g, configurationId: k, portId: p}",
	"containers/d.yaml":      "{id: d, serviceType: IPSEC, groupId: g, configurationId: k}",
	"containers/later.yaml":  "id: later",
	"groups/g.yaml":          "{id: g, policy: weighted, hostIds: [h, x]}",
	"configurations/k.yaml":  "{id: k, psk: hunter2}",
	"config/default.yaml":    "{log-level.containers: debug, status-interval: 10s}",
	"config/hosts/h.yaml":    "log-level: info",
	"status/hosts/h.json":    "{",
	".git/config":            "",
	"README.md":              "",
	"bindings/h/.p.yaml.swp": "", "bindings/h/p.yaml~": "",
}

func TestValidDirectoryHasNoFindings(t *testing.T) {
	findings, err := Validate(writeDirectory(t, validObjects))
	if err != nil || len(findings) > 0 {
		t.Errorf("got %v %v", findings, err)
	}
}

func TestFindingsNameFileAndKey(t *testing.T) {
	rows := []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{"the same external IP, MAC and port address of two containers", map[string]string{
			"configurations/k.yaml": "{id: k, externalIps: [192.0.2.1, '2001:db8::1'], externalMac: " +
				"'AC:CA:BA:00:00:01'}",
			"configurations/l.yaml": "{id: l, externalIps: [192.0.2.1], externalMac: 'ac:ca:ba:00:00:01'}",
			"containers/d.yaml":     "{id: d, serviceType: IPSEC, groupId: g, configurationId: l}",
			"bindings/x/q.yaml": "{portId: q, hostId: x, interfaceName: vpn-1, containerId: d, addresses: " +
				"[169.254.0.1/24]}",
		}, []string{
			"bindings/h/p.yaml: addresses external IP 192.0.2.1, MAC ac:ca:ba:00:00:01 " +
				"and port address 169.254.0.1 are also those of bindings/x/q.yaml: allowed: one container",
			"bindings/x/q.yaml: addresses external IP 192.0.2.1, MAC ac:ca:ba:00:00:01 " +
				"and port address 169.254.0.1 are also those of bindings/h/p.yaml: allowed: one container",
		}},
		{"the same external IP and MAC with another port address", map[string]string{
			"configurations/k.yaml": "{id: k, externalIps: [192.0.2.1], externalMac: 'AC:CA:BA:00:00:01'}",
			"bindings/x/q.yaml": "{portId: q, hostId: x, interfaceName: vpn-1, containerId: d, addresses: " +
				"[169.254.0.5/30]}",
		}, nil},
		{"an unknown directory", map[string]string{"container/": ""}, []string{
			"container: is an unknown directory: " +
				"allowed: hosts, bindings, containers, groups, configurations, config, status",
		}},
		{"an object outside of the directories", map[string]string{"h.yaml": ""},
			[]string{"h.yaml: is in no folder: allowed: objects in hosts"}},
		{"a missing extension", map[string]string{"hosts/y": "id: y"},
			[]string{"hosts/y: is no object: allowed: files that end in .yaml, .yml, .json"}},
		{"a name with a line break", map[string]string{"hosts/a\nb.yaml": ""},
			[]string{`"hosts/a\nb.yaml": has a name that is not an id: allowed: 1 to 64 bytes`}},
		{"a directory in place of an object", map[string]string{"containers/e.yaml/": ""},
			[]string{"containers/e.yaml: is a directory: allowed: a regular file"}},
		{"an object in place of a directory", map[string]string{"bindings/p.yaml": ""},
			[]string{"bindings/p.yaml: is not a directory: allowed: a directory for each host"}},
		{"invalid YAML", map[string]string{"configurations/k.yaml": "psk: [hunter2"},
			[]string{"configurations/k.yaml: is not YAML: line 1"}},
		{"several faults of one object", map[string]string{
			"hosts/h.yaml": "{id: y, weight: 1, containerLimit: -2, name: 7}",
		}, []string{
			`hosts/h.yaml: containerLimit "-2": allowed: -1`,
			`hosts/h.yaml: id "y": allowed: h, as in the object's key`,
			`hosts/h.yaml: name "7": allowed: a string`,
			`hosts/h.yaml: unknown key "weight": allowed: id, name, containerWeight, containerLimit`,
		}},
		{"two files of one key", map[string]string{"groups/g.json": "{}"}, []string{
			"groups/g.json: g.yaml and g.json are files of one object: allowed: one of them",
			"groups/g.yaml: g.yaml and g.json are files of one object: allowed: one of them",
		}},
		{"bindings of a host that does not exist", map[string]string{"bindings/y/s.yaml": "{portId: s, hostId: y}"},
			[]string{"bindings/y/s.yaml: hostId names hosts/y, which is not there"}},
		{
			"a container that does not exist",
			map[string]string{"bindings/h/s.yaml": "{portId: s, hostId: h, interfaceName: vpn-2, containerId: e}"},
			[]string{"bindings/h/s.yaml: containerId names containers/e, which is not there"},
		},
		{"a group and a configuration that do not exist", map[string]string{
			"containers/d.yaml": "{id: d, serviceType: IPSEC, groupId: gone, configurationId: gone}",
		}, []string{
			"containers/d.yaml: configurationId names configurations/gone, which is not there",
			"containers/d.yaml: groupId names groups/gone, which is not there",
		}},
		{
			"a host of a group that does not exist",
			map[string]string{"groups/g.yaml": "{id: g, policy: weighted, hostIds: [h, y]}"},
			[]string{"groups/g.yaml: hostIds names hosts/y, which is not there"},
		},
		{"settings of a host that does not exist", map[string]string{"config/hosts/y.yaml": "{}"},
			[]string{"config/hosts/y.yaml: names hosts/y, which is not there"}},
		{"settings of no scope", map[string]string{"config/other.yaml": "{}"},
			[]string{
				"config/other.yaml: is an unknown settings object: allowed: config/default, config/hosts/<hostId>",
			}},
		{"settings that are nested", map[string]string{"config/default.yaml": "{a: {b: c}}"},
			[]string{`config/default.yaml: a "a mapping": allowed: one value`}},
		{"settings that are not known", map[string]string{
			"config/hosts/h.yaml": "{loglevel: debug, status-interval: 10}",
		}, []string{
			`config/hosts/h.yaml: setting "loglevel": allowed: log-level, `,
			`config/hosts/h.yaml: status-interval "10": allowed: a time from 100ms to 24h`,
		}},
		{"an incomplete container that is bound", map[string]string{
			"containers/d.yaml": "{id: d, serviceType: IPSEC}",
		}, []string{
			"containers/d.yaml: configurationId is not set, and bindings/x/q.yaml names the container",
			"containers/d.yaml: groupId is not set, and bindings/x/q.yaml names the container",
		}},
		{
			"a container of another port",
			map[string]string{
				"containers/d.yaml": "{id: d, serviceType: IPSEC, groupId: g, configurationId: k, portId: z}",
			},
			[]string{`containers/d.yaml: portId "z": allowed: q, the port of bindings/x/q.yaml, or none`},
		},
		{"two bindings of one host with one name", map[string]string{
			"bindings/x/r.yaml": "{portId: r, hostId: x, interfaceName: vpn-1}",
		}, []string{
			`bindings/x/q.yaml: interfaceName "vpn-1" is also that of bindings/x/r.yaml: allowed: one binding`,
			`bindings/x/r.yaml: interfaceName "vpn-1" is also that of bindings/x/q.yaml: allowed: one binding`,
		}},
		{"one container of two bindings", map[string]string{
			"bindings/x/r.yaml": "{portId: r, hostId: x, interfaceName: vpn-2, containerId: d}",
		}, []string{
			`bindings/x/q.yaml: containerId "d" is also that of bindings/x/r.yaml: allowed: one binding`,
			`bindings/x/r.yaml: containerId "d" is also that of bindings/x/q.yaml: allowed: one binding`,
		}},
		{"hostile values", map[string]string{
			"bindings/x/r.yaml": `{portId: r, hostId: x, interfaceName: "../x", ` +
				`containerId: "a'; reboot", mac: "$(x)"}`,
		}, []string{
			`bindings/x/r.yaml: containerId "a'; reboot": allowed: 1 to 64 bytes`,
			`bindings/x/r.yaml: interfaceName "../x": allowed: a letter or digit`,
			`bindings/x/r.yaml: mac "$(x)": allowed: a unicast MAC`,
		}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			findings, err := Validate(writeDirectory(t, validObjects, row.files))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, finding := range findings {
				got = append(got, finding.String())
			}
			if !slices.EqualFunc(got, row.want, strings.HasPrefix) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(row.want, "\n"))
			}
			if text := strings.Join(got, ""); strings.Contains(text, "hunter2") || strings.Contains(text, "\n") {
				t.Errorf("the findings contain a value of a configuration or a line break: %q", text)
			}
		})
	}
}

func TestEmptyDirectoryHasFinding(t *testing.T) {
	findings, err := Validate(t.TempDir())
	if err != nil || len(findings) != 1 || findings[0].File != "hosts" {
		t.Errorf("got %v %v", findings, err)
	}
}

func TestValidateReturnsErrorForUnreadableDirectory(t *testing.T) {
	dir := writeDirectory(t, map[string]string{"file": ""})
	for _, path := range []string{"file", "missing"} {
		_, err := Validate(filepath.Join(dir, path))
		if err == nil || !strings.HasPrefix(err.Error(), "NSDB directory "+dir) {
			t.Errorf("got %v", err)
		}
	}
}

func TestValidateDoesNotBlockOnPipe(t *testing.T) {
	dir := writeDirectory(t, validObjects)
	if err := syscall.Mkfifo(filepath.Join(dir, "hosts/y.yaml"), 0o644); err != nil {
		t.Fatal(err)
	}
	findings, err := Validate(dir)
	want := "hosts/y.yaml: is a named pipe: allowed: a regular file"
	if err != nil || len(findings) != 1 || findings[0].String() != want {
		t.Errorf("got %v %v", findings, err)
	}
}

func TestValidateDoesNotFollowLinksOut(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret.yaml")
	if err := os.WriteFile(secret, []byte("hunter2: hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	rows := []struct {
		name, link, target string
		want               string
	}{
		{"an object that is a file outside", "hosts/y.yaml", secret, "hosts/y.yaml"},
		{"an object that the kernel generates, whose read would block", "hosts/y.yaml", "/proc/kmsg", "hosts/y.yaml"},
		{"an object that is a device", "configurations/y.yaml", "/dev/zero", "configurations/y.yaml"},
		{"a relative link that leads out", "hosts/y.yaml", "../../../../../../../../../../proc/kmsg", "hosts/y.yaml"},
		{"a directory of a host that is outside", "bindings/y", filepath.Dir(secret), "bindings/y"},
		{"a link to the root directory", "bindings/y", "/", "bindings/y"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			dir := writeDirectory(t, validObjects)
			if err := os.Symlink(row.target, filepath.Join(dir, row.link)); err != nil {
				t.Fatal(err)
			}
			findings, err := Validate(dir)
			if err != nil || len(findings) != 1 {
				t.Fatalf("got %v %v, want %s", findings, err, row.want)
			}
			text := findings[0].String()
			if !strings.HasPrefix(text, row.want+": is") || !strings.Contains(text, linkOutside) ||
				strings.Contains(text, "hunter2") {
				t.Errorf("got %s, want %s", text, row.want)
			}
		})
	}
}

func TestRelativeLinkInsideDirectoryIsFollowed(t *testing.T) {
	dir := writeDirectory(t, validObjects, map[string]string{
		"templates/hosts/y.yaml": "{id: y}",
		"..data/groups/g2.yaml":  "{id: g2, policy: weighted}",
	})
	for link, target := range map[string]string{
		"hosts/y.yaml":   "../templates/hosts/y.yaml",
		"groups/g2.yaml": "../..data/groups/g2.yaml",
	} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	findings, err := Validate(dir)
	if err != nil || len(findings) != 1 || findings[0].File != "templates" {
		t.Errorf("got %v %v", findings, err)
	}
}

// A file that the kernel generates can only be in the directory if root mounted its file system there. It is read as
// empty, because reading it could block.
func TestKernelGeneratedFileIsReadAsEmpty(t *testing.T) {
	files, err := openDirectory("/proc/self")
	if err != nil {
		t.Fatal(err)
	}
	defer files.close()
	stat, err := files.stat("status")
	if err != nil {
		t.Fatal(err)
	}
	if value, _, err := files.read("status", signatureOf(stat)); err != nil || len(value) > 0 {
		t.Errorf("got %q %v", value, err)
	}
}
