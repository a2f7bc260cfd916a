package svcsupervisor_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestLogLinesOfTheMidoNetPageExist compares the lines that docs/midonet.md promises with the string literals of the program.
func TestLogLinesOfTheMidoNetPageExist(t *testing.T) {
	page, err := os.ReadFile("docs/midonet.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(page), "\n## Log lines\n")
	section, _, end := strings.Cut(section, "\n## ")
	if !found || !end {
		t.Fatal("the page has no section of log lines")
	}
	var program strings.Builder
	for _, dir := range []string{"cmd/svc-supervisor", "pkg"} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			program.Write(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	// The name of a step is put in front of `failed`: see reconcile's stepNames.
	source := program.String() + `"ADD failed" "ADD again failed" "DEL failed"`
	code := regexp.MustCompile("`([^`]+)`")
	rows := 0
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		if len(cells) != 2 || strings.HasPrefix(line, "| ---") || strings.HasPrefix(line, "| the agent") {
			continue
		}
		rows++
		for _, span := range code.FindAllStringSubmatch(cells[1], -1) {
			if strings.Contains(span[1], "=") { // a variable
				continue
			}
			if !strings.Contains(source, `"`+span[1]) {
				t.Errorf("no line %q in the program", span[1])
			}
		}
	}
	if rows < 15 {
		t.Errorf("%d rows were found", rows)
	}
}
