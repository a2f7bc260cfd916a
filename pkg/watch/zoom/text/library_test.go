package text_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/protocolbuffers/txtpbfmt/ast"
	"github.com/protocolbuffers/txtpbfmt/parser"

	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/text"
)

// Package text has a parser of its own because the parser of txtpbfmt belongs to a formatter. The tests in this file
// show why it cannot read objects that others write. If one of them fails after an update of txtpbfmt, check again
// whether txtpbfmt can replace Parse.

// An object that is damaged must be a fault. txtpbfmt returns the same fields for it as for a valid object, so that no
// caller can detect the damage: a truncated Host object looks like one with fewer ports, and the containers of the
// missing ports would be removed.
func TestTxtpbfmtReadsDamagedMessagesAsValidOnes(t *testing.T) {
	for damaged, valid := range map[string]string{
		"port_ids {\n  msb: 1\n":  "port_ids {\n  msb: 1\n}\n",
		"a: 1 b { c { d: 1 } # }": "a: 1 b { c { d: 1 } } # }",
		"a < b: 1 }":              "a { b: 1 }",
		"a { b: 1 ]":              "a { b: 1 }",
		"a: [1":                   "a: [1]",
		"a: [1,]":                 "a: [1]",
		"a: [1 2]":                "a: [1, 2]",
		"[a.b: 1":                 "[a.b]: 1",
	} {
		if got, want := txtpbfmtFields(t, damaged), txtpbfmtFields(t, valid); got != want {
			t.Errorf("txtpbfmt reads %q as %q, and %q as %q", damaged, got, valid, want)
		}
		if m, err := text.Parse([]byte(damaged)); err == nil {
			t.Errorf("%q is parsed as %q", damaged, m.Print())
		}
		if _, err := text.Parse([]byte(valid)); err != nil {
			t.Errorf("%q: %v", valid, err)
		}
	}
}

// txtpbfmtFields returns the fields that txtpbfmt reads, without comments and positions.
func txtpbfmtFields(t *testing.T, input string) string {
	t.Helper()
	nodes, err := parser.Parse([]byte(input))
	if err != nil {
		t.Fatalf("txtpbfmt: %q: %v", input, err)
	}
	var fields func(nodes []*ast.Node) string
	fields = func(nodes []*ast.Node) (all string) {
		for _, n := range nodes {
			if n.IsCommentOnly() {
				continue
			}
			all += fmt.Sprintf("%s colon %v list %v %v {%s}", n.Name, !n.SkipColon, n.ValuesAsList, n.ChildrenAsList,
				fields(n.Children))
			for _, v := range n.Values {
				all += fmt.Sprintf(" %q", v.Value)
			}
		}
		return all
	}
	return fields(nodes)
}

// txtpbfmt has no limit of the depth. Each level is a call and needs about 1 KiB, so a node of 1 MiB needs half a
// gigabyte.
func TestTxtpbfmtHasNoDepthLimit(t *testing.T) {
	const levels = 1 << 16
	input := []byte(strings.Repeat("a{", levels))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := parser.Parse(input)
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc + after.StackSys - before.StackSys; err != nil ||
		grown < levels<<9 {
		t.Errorf("txtpbfmt: %v, %d bytes", err, grown)
	}
	if _, err := text.Parse(input); err == nil || !strings.Contains(err.Error(), "nested too deep") {
		t.Errorf("%v", err)
	}
}

// For txtpbfmt some comments are commands, which change or hide the fields.
func TestTxtpbfmtObeysComments(t *testing.T) {
	for _, row := range []struct{ input, fields, want string }{
		{"# txtpbfmt: sort_fields_by_field_name\nb: 1\na: 2\n", "ab", "ba"},
		{"a: 1\n# txtpbfmt: off\nb: 2\n# txtpbfmt: on\nc: 3\n", "ac", "abc"},
	} {
		nodes, err := parser.Parse([]byte(row.input))
		if got := fieldNames(nodes); err != nil || got != row.fields {
			t.Errorf("txtpbfmt reads fields %s of %q: %v", got, row.input, err)
		}
		m, err := text.Parse([]byte(row.input))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, field := range m.Fields {
			got += field.Name
		}
		if got != row.want {
			t.Errorf("%q has fields %s", row.input, got)
		}
	}
}

func fieldNames(nodes []*ast.Node) (names string) {
	for _, node := range nodes {
		names += node.Name
	}
	return names
}

// An error of Parse is logged and published, so it must be one line without text of the input.
func TestTxtpbfmtErrorsContainInput(t *testing.T) {
	const input = "psk: \"hunter2\n\""
	_, err := parser.Parse([]byte(input))
	if err == nil || !strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "\n") {
		t.Errorf("txtpbfmt: %v", err)
	}
	if _, err := text.Parse([]byte(input)); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v", err)
	}
}

// The parser of protobuf-java 2.6.1 accepts these messages, so MidoNet can have stored them.
func TestTxtpbfmtRejectsOrChangesValidMessages(t *testing.T) {
	for input, name := range map[string]string{
		"# txtpbfmt: unknown\na: 1": "", // rejected
		"\va: 1":                    "\va",
		"a\f: 1":                    "a\f",
	} {
		nodes, err := parser.Parse([]byte(input))
		if got := fieldNames(nodes); (err == nil) != (name != "") || got != name {
			t.Errorf("txtpbfmt reads field %q of %q: %v", got, input, err)
		}
		if m, err := text.Parse([]byte(input)); err != nil || string(m.Print()) != "a: 1\n" {
			t.Errorf("%q: %v", input, err)
		}
	}
}
