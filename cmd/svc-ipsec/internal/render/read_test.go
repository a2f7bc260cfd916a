package render

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// conn is one parsed conn: its settings by key. Quoted values are stored without quotes.
type conn struct {
	name string
	keys map[string]string
}

var (
	connLine    = regexp.MustCompile(`^conn ([A-Za-z0-9_-]{1,64})$`)
	settingLine = regexp.MustCompile(`^\t([a-z][a-z0-9-]*)=([!-~]+|"[ -~]+")$`)
	keyLine     = regexp.MustCompile(`^# key ([0-9a-f]{16})$`)
)

// readConns parses the output of Conn. It refuses any other form of line, a key that appears twice, and quotes anywhere
// but at both ends of a value.
func readConns(text string) ([]conn, error) {
	var conns []conn
	open := false
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if m := connLine.FindStringSubmatch(line); m != nil && !open {
			conns = append(conns, conn{m[1], map[string]string{}})
			open = true
			continue
		}
		if !open {
			return nil, fmt.Errorf("line outside of a conn: %q", line)
		}
		keys := conns[len(conns)-1].keys
		if m := keyLine.FindStringSubmatch(line); m != nil {
			keys["# key"], open = m[1], false
			continue
		}
		m := settingLine.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("not a setting: %q", line)
		}
		key, value := m[1], m[2]
		if strings.HasPrefix(value, `"`) {
			value = value[1 : len(value)-1]
		}
		if _, duplicate := keys[key]; duplicate || strings.ContainsAny(value, `"\`) {
			return nil, fmt.Errorf("key %s twice, or invalid value: %q", key, line)
		}
		keys[key] = value
	}
	if open {
		return nil, errors.New("the last conn is incomplete")
	}
	return conns, nil
}

// libreswanReads lets Libreswan's own parser read conns and returns what it prints. It ignores the comment at the end
// of a conn, and does not print the actions of dead peer detection and the setting of fragmentation.
func libreswanReads(t fataler, ipsec, dir, text string) []conn {
	t.Helper()
	path := filepath.Join(dir, "all.conf")
	if err := os.WriteFile(path, []byte("config setup\n\taudit-log=no\n\n"+text), 0o600); err != nil {
		t.Fatalf("%v", err)
	}
	cmd := exec.Command(ipsec, "readwriteconf", "--config", path)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	output, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("readwriteconf: %v: %s", err, stderr.String())
	}
	var conns []conn
	for line := range strings.Lines(string(output)) {
		line = strings.TrimSuffix(line, "\n")
		if name, ok := strings.CutPrefix(line, "conn "); ok {
			conns = append(conns, conn{name, map[string]string{}})
		} else if key, value, ok := strings.Cut(strings.TrimPrefix(line, "\t"), "="); ok && value != "" &&
			len(conns) > 0 {
			// Some keys appear twice, first with a number that has no name.
			conns[len(conns)-1].keys[key] = strings.Trim(value, `"`)
		}
	}
	return conns
}

// fataler is what testing.T and rapid.T have in common.
type fataler interface {
	Helper()
	Fatalf(format string, values ...any)
}
