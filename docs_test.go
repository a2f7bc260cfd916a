package svcsupervisor_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestLogLinesOfTheMidoNetPageExist checks that every log line in docs/midonet.md is a string literal of the program.
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
	for _, dir := range []string{"cmd/svc-supervisor", "internal", "pkg"} {
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
	// Package reconcile builds these lines from the name of a step (stepNames) and `failed`.
	source := program.String() + `"ADD failed" "reconfigure failed" "DEL failed"`
	code := regexp.MustCompile("`([^`]+)`")
	rows := 0
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		if len(cells) != 2 || strings.HasPrefix(line, "| ---") || strings.HasPrefix(line, "| the agent") {
			continue
		}
		rows++
		for _, span := range code.FindAllStringSubmatch(cells[1], -1) {
			if strings.Contains(span[1], "=") { // an attribute of the log line
				continue
			}
			if !strings.Contains(source, `"`+span[1]) {
				t.Errorf("no string literal of the program starts with %q", span[1])
			}
		}
	}
	if rows < 15 {
		t.Errorf("the section has only %d rows", rows)
	}
}
