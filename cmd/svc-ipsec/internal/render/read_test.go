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

// conn is one conn that was read back: its keys, each with the word behind it, a quoted one without its quotes.
type conn struct {
	name string
	keys map[string]string
}

var (
	header  = regexp.MustCompile(`^conn ([A-Za-z0-9_-]{1,64})$`)
	setting = regexp.MustCompile(`^\t([a-z][a-z0-9-]*)=([!-~]+|"[ -~]+")$`)
	closing = regexp.MustCompile(`^# key ([0-9a-f]{16})$`)
)

// readConns reads what Conn writes, and nothing else: not another form of line, not a key twice. A quote stands at both
// ends of a word or nowhere in it.
func readConns(text string) ([]conn, error) {
	var conns []conn
	open := false
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if m := header.FindStringSubmatch(line); m != nil && !open {
			conns = append(conns, conn{m[1], map[string]string{}})
			open = true
			continue
		}
		if !open {
			return nil, fmt.Errorf("outside a conn: %q", line)
		}
		keys := conns[len(conns)-1].keys
		if m := closing.FindStringSubmatch(line); m != nil {
			keys["# key"], open = m[1], false
			continue
		}
		m := setting.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("no setting: %q", line)
		}
		key, word := m[1], m[2]
		if strings.HasPrefix(word, `"`) {
			word = word[1 : len(word)-1]
		}
		if _, twice := keys[key]; twice || strings.ContainsAny(word, `"\`) {
			return nil, fmt.Errorf("a second %s, or one that is no word: %q", key, line)
		}
		keys[key] = word
	}
	if open {
		return nil, errors.New("a conn has no end")
	}
	return conns, nil
}

// libreswanReads hands conns to Libreswan's own reader and returns what it writes back. It knows nothing of the comment
// at the end of a conn, and leaves out the actions of dead peer detection and fragmentation.
func libreswanReads(t failing, ipsec, dir, text string) []conn {
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
		} else if key, word, ok := strings.Cut(strings.TrimPrefix(line, "\t"), "="); ok && word != "" && len(conns) > 0 {
			// Some keys come twice, first as a number that it has no word for.
			conns[len(conns)-1].keys[key] = strings.Trim(word, `"`)
		}
	}
	return conns
}

// failing is what a test and a property have in common.
type failing interface {
	Helper()
	Fatalf(format string, values ...any)
}
