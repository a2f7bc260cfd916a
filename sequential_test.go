package svcsupervisor_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The Makefile runs the tests of some packages without the race detector, because the packages start no goroutines.
func TestPackagesWithoutRaceDetectorStartNoGoroutines(t *testing.T) {
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	list := regexp.MustCompile(`(?m)^sequential = (.+)$`).FindSubmatch(makefile)
	if list == nil {
		t.Fatal("the Makefile has no list of sequential packages")
	}
	for _, dir := range strings.Fields(string(list[1])) {
		paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(paths) == 0 {
			t.Errorf("%s: %d files, %v", dir, len(paths), err)
		}
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if what := concurrency(t, path, content); what != "" {
				t.Errorf("%s: %s", path, what)
			}
		}
	}
	const concurrent = "package p\n\nfunc f() { go f() }\n"
	if concurrency(t, "p.go", []byte(concurrent)) == "" {
		t.Error("a go statement is not found")
	}
}

// concurrency returns the first construct of a Go file that can start a goroutine, or "" if there is none.
func concurrency(t *testing.T, path string, content []byte) (what string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, content, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			what = "a go statement"
		case *ast.SelectorExpr:
			if n.Sel.Name == "Go" || n.Sel.Name == "Parallel" || n.Sel.Name == "AfterFunc" {
				what = n.Sel.Name
			}
		}
		return what == ""
	})
	return what
}
