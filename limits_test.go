package svcsupervisor_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// The limits of a type. A type beyond them usually contains a second type.
const (
	maxMethods = 25
	maxFiles   = 3
)

// largeTypes are the types that may exceed the limits, with the reason in one sentence.
var largeTypes = map[string]string{
	"cmd/svc-ipsec/internal/verb.Executable": "Each CNI verb and each command of svc-ipsec is one method in a file " +
		"of its own, and they share nothing but the paths and services of the host.",

	"pkg/unit.Bus": "Each call of systemd is one method in the file of its subject; they share only the connection.",
	"pkg/watch/native.Document": "Each kind of object is decoded by one method in the file of its kind, and they " +
		"share only the decoder.",
}

// methodCount is what a reader must know about one type: its number of methods and the files that contain them.
type methodCount struct {
	methods int
	files   map[string]bool
}

func (c methodCount) exceedsLimits() bool { return c.methods > maxMethods || len(c.files) > maxFiles }

func (c methodCount) String() string {
	return fmt.Sprintf("%d methods in %d files", c.methods, len(c.files))
}

// addMethods adds the methods in a Go file to the counts. The keys are the package's path and the name of the type. The
// methods of an interface count too.
func addMethods(counts map[string]methodCount, pkg, path string, content []byte) error {
	file, err := parser.ParseFile(token.NewFileSet(), path, content, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	add := func(name string, methods int) {
		count := counts[pkg+"."+name]
		if count.files == nil {
			count.files = map[string]bool{}
		}
		count.methods += methods
		count.files[path] = true
		counts[pkg+"."+name] = count
	}
	ast.Inspect(file, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.FuncDecl:
			if node.Recv != nil {
				add(receiverName(node.Recv.List[0].Type), 1)
			}
		case *ast.TypeSpec:
			if declared, isInterface := node.Type.(*ast.InterfaceType); isInterface {
				add(node.Name.Name, declared.Methods.NumFields())
			}
		}
		return true
	})
	return nil
}

// receiverName returns the name of the type of a receiver: a type, a pointer to it, or a type with type parameters.
func receiverName(receiver ast.Expr) string {
	switch receiver := receiver.(type) {
	case *ast.Ident:
		return receiver.Name
	case *ast.StarExpr:
		return receiverName(receiver.X)
	case *ast.ParenExpr:
		return receiverName(receiver.X)
	case *ast.IndexExpr:
		return receiverName(receiver.X)
	case *ast.IndexListExpr:
		return receiverName(receiver.X)
	default:
		panic(fmt.Sprintf("receiver of kind %T", receiver))
	}
}

// productPackages returns the packages that the programs consist of. Packages that only tests use are not among them.
func productPackages(t *testing.T) []listedPackage {
	t.Helper()
	byPath := map[string]listedPackage{}
	for _, p := range listPackages(t) {
		byPath[p.ImportPath] = p
	}
	product := map[string]listedPackage{}
	next := []string{module + "cmd/svc-supervisor", module + "cmd/svc-ipsec"}
	for len(next) > 0 {
		path := next[0]
		next = next[1:]
		p, ofModule := byPath[path]
		if _, seen := product[path]; seen || !ofModule {
			continue
		}
		product[path] = p
		next = append(next, p.Imports...)
	}
	return slices.Collect(maps.Values(product))
}

func TestNoTypeIsLargerThanAReaderCanHoldInMind(t *testing.T) {
	counts := map[string]methodCount{}
	for _, p := range productPackages(t) {
		for _, name := range p.GoFiles {
			path := filepath.Join(p.Dir, name)
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := addMethods(counts, strings.TrimPrefix(p.ImportPath, module), path, content); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(counts) < 100 {
		t.Fatalf("found only %d types with methods", len(counts))
	}
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		count := counts[name]
		switch _, listed := largeTypes[name]; {
		case count.exceedsLimits() && !listed:
			t.Errorf("%s has %s; the limits are %d and %d. Look for a second type in it, or add it to largeTypes "+
				"with a reason",
				name, count, maxMethods, maxFiles)
		case !count.exceedsLimits() && listed:
			t.Errorf("%s has only %s: remove it from largeTypes", name, count)
		}
	}
	for name, reason := range largeTypes {
		if _, exists := counts[name]; !exists {
			t.Errorf("type %s of largeTypes has no methods in the product", name)
		}
		if !strings.HasSuffix(reason, ".") || strings.Contains(reason, ". ") {
			t.Errorf("the reason for %s is not one sentence: %q", name, reason)
		}
	}
}

func TestMethodsAreCountedPerType(t *testing.T) {
	counts := map[string]methodCount{}
	for path, content := range map[string]string{
		"a.go": "package p\ntype S struct{}\nfunc (s *S) A() {}\nfunc (S) B() {}\nfunc C() {}\n",
		"b.go": "package p\nfunc (s *S) D() { type local interface{ E() } }\nfunc (g *G[K, V]) F() {}\n",
		"c.go": "package p\ntype I interface{ G(); H() }\nfunc (l L[T]) J() {}\n",
	} {
		if err := addMethods(counts, "p", path, []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]string{}
	for name, count := range counts {
		got[name] = count.String()
	}
	want := map[string]string{
		"p.S": "3 methods in 2 files", "p.G": "1 methods in 1 files", "p.I": "2 methods in 1 files",
		"p.L": "1 methods in 1 files", "p.local": "1 methods in 1 files",
	}
	if !maps.Equal(got, want) {
		t.Errorf("counted %v instead of %v", got, want)
	}
}

// maxColumns and tabColumns are the limit of the length of a line, and what a tab adds to it.
const (
	maxColumns = 120
	tabColumns = 4
)

// columns returns the length of a line in columns.
func columns(line string) int {
	return utf8.RuneCountInString(line) + (tabColumns-1)*strings.Count(line, "\t")
}

func TestNoLineOfAGoFileIsTooLong(t *testing.T) {
	files := 0
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if path == "build" || path == ".git" {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		files++
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		number := 0
		for line := range strings.Lines(string(content)) {
			number++
			if length := columns(strings.TrimSuffix(line, "\n")); length > maxColumns {
				t.Errorf("%s:%d has %d columns; the limit is %d", path, number, length, maxColumns)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 400 {
		t.Errorf("found only %d Go files", files)
	}
}

func TestColumnsCountsCharactersAndTabs(t *testing.T) {
	for line, want := range map[string]int{"": 0, "abc": 3, "\t\tabc": 11, "a → b": 5, "a\tb": 6} {
		if got := columns(line); got != want {
			t.Errorf("%q has %d columns and not %d", line, got, want)
		}
	}
}
