package text_test

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/text"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/text/texttest"
)

func TestParseAcceptsWholeSyntax(t *testing.T) {
	for input, printed := range map[string]string{
		"":                                  "",
		" # nothing\n":                      "",
		"a: 1":                              "a: 1\n",
		"a:1 b:2":                           "a: 1\nb: 2\n",
		"a: 1; b: 2, c: 3":                  "a: 1\nb: 2\nc: 3\n",
		"a: 1 # one\r# two\nb: 2":           "a: 1\nb: 2\n",
		"a { b: 1 }":                        "a {\n  b: 1\n}\n",
		"a: { b: 1 }":                       "a {\n  b: 1\n}\n",
		"a < b: 1 c <> >":                   "a {\n  b: 1\n  c {\n  }\n}\n",
		"a{}a{}":                            "a {\n}\na {\n}\n",
		"a: [1, 2] a: 3":                    "a: 1\na: 2\na: 3\n",
		"a: [] b: []":                       "",
		"a [{b: 1}, <b: 2>]":                "a {\n  b: 1\n}\na {\n  b: 2\n}\n",
		"[org.midonet.extra]: 1":            "[org.midonet.extra]: 1\n",
		"a: -5 b: 0x1F c: 1.5e+3 d: -inf":   "a: -5\nb: 0x1F\nc: 1.5e+3\nd: -inf\n",
		"a: t b: true c: RESTART_BY_PEER":   "a: t\nb: true\nc: RESTART_BY_PEER\n",
		`a: "x" 'y' "z"`:                    "a: \"xyz\"\n",
		`a: 'say "no"'`:                     `a: "say \"no\""` + "\n",
		`a: "it's"`:                         `a: "it\'s"` + "\n",
		`a: "\a\b\f\n\r\t\v\\\'\""`:         `a: "\a\b\f\n\r\t\v\\\'\""` + "\n",
		`a: "\0\01\001\1018\777"`:           `a: "\000\001\001A8\377"` + "\n",
		`a: "\x4\x41\XfFg"`:                 `a: "\004A\377g"` + "\n",
		`a: "\x410"`:                        `a: "A0"` + "\n",
		"a: \"caf\u00e9\"":                  `a: "caf\303\251"` + "\n",
		"a: \"\u007f\"":                     "a: \"\u007f\"\n",
		"a: \"\t\"":                         `a: "\t"` + "\n",
		"a: \"# no comment { } \"":          `a: "# no comment { } "` + "\n",
		"\va\f:\r1":                         "a: 1\n",
		"unknown { deep { er: [1, 2] } } #": "unknown {\n  deep {\n    er: 1\n    er: 2\n  }\n}\n",
	} {
		m, err := text.Parse([]byte(input))
		if err != nil {
			t.Errorf("%q: %v", input, err)
		} else if got := string(m.Print()); got != printed {
			t.Errorf("%q is printed as %q, want %q", input, got, printed)
		}
	}
}

func TestErrorHasPositionAndNoInputText(t *testing.T) {
	for input, fault := range map[string]string{
		"a": "line 1, column 2: missing colon: allowed: a colon and a value, or a message in " +
			"braces",
		"a secret":                 "line 1, column 3: missing colon",
		"a:":                       "line 1, column 3: missing value",
		"a: }":                     "line 1, column 4: missing value",
		"a: 1\n}":                  "line 2, column 1: missing field name",
		"a {\n  b: 1\n":            "line 3, column 1: the input ends within a message: allowed: }",
		"a < b: 1 }":               "line 1, column 10: missing field name",
		"a: [1 2]":                 "line 1, column 7: missing comma in a list",
		"a: [1":                    "line 1, column 6: missing comma in a list",
		"a: [1,]":                  "line 1, column 7: missing value",
		"a [1]":                    "line 1, column 4: missing colon",
		"\n a: \"secret\n\"":       "line 2, column 5: a string does not end on its line: allowed: a closing quote",
		`a: "secret\"`:             "line 1, column 4: a string does not end on its line",
		`a: 'secret"`:              "line 1, column 4: a string does not end on its line",
		`psk: "secret\u0085"`:      "line 1, column 6: invalid escape sequence",
		`psk: "secret\x"`:          "line 1, column 6: invalid escape sequence",
		`psk: "secret\?"`:          "line 1, column 6: invalid escape sequence",
		"5: 1":                     "line 1, column 1: missing field name",
		"a-b: 1":                   "line 1, column 1: missing field name",
		"[a.b: 1":                  "line 1, column 5: the name of an extension is not closed: allowed: ]",
		"[a.]: 1":                  "line 1, column 4: missing field name",
		"\"\": 1":                  "line 1, column 1: missing field name",
		"a { \"\" }":               "line 1, column 5: missing field name",
		"a: \xff":                  "is not UTF-8",
		strings.Repeat("a{", 65):   "line 1, column 131: messages are nested too deep: allowed: 64 levels",
		strings.Repeat("a", 2<<20): "has 2097152 bytes: allowed: 1048576",
		"a: [" + strings.Repeat("1,", text.MaxFields) + "1]": "more fields than allowed: allowed: 131072",
	} {
		m, err := text.Parse([]byte(input))
		switch name := input[:min(len(input), 20)]; {
		case err == nil:
			t.Errorf("%q is parsed as %q", name, m.Print())
		case !strings.Contains(err.Error(), fault):
			t.Errorf("%q: %v, want %q", name, err, fault)
		case strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "\n"):
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestOutputPassesStrictReader(t *testing.T) {
	all := new(strings.Builder)
	for b := range 256 {
		all.WriteByte(byte(b))
	}
	m := new(text.Message)
	m.Add("status_code", text.Name("RUNNING"))
	m.Add("status_message", text.Quoted(all.String()))
	m.Add("host_id", text.Of(
		text.Field{Name: "msb", Value: text.Uint(uint64(3057556073290091537))},
		text.Field{Name: "lsb", Value: text.Uint(uint64(11474610151586498987))}))
	m.Add("namespace_name", text.Quoted(""))
	data := m.Print()
	if err := texttest.Check("ContainerStatus", data); err != nil {
		t.Fatal(err)
	}
	values, err := texttest.Read("ContainerStatus", data)
	if err != nil {
		t.Fatal(err)
	}
	if values.Text("status_message") != all.String() {
		t.Errorf("%q is read as %q", all, values.Text("status_message"))
	}
	if got := values.UUID("host_id"); got != "2a6e9f0c-8d4b-4c11-9f3e-0123456789ab" {
		t.Error(got)
	}
	again, err := text.Parse(data)
	if err != nil || !reflect.DeepEqual(again, m) {
		t.Errorf("%v, %v", again, err)
	}
}

// A reader that accepts everything would make the other tests worthless.
func TestStrictReaderRejectsInvalidInput(t *testing.T) {
	for _, input := range []string{
		"weight: 1\nextra: 2\n",                // an unknown field
		"status_code: PAUSED\n",                // an unknown name
		"status_message: \"\\u0085\"\n",        // an escape sequence of later releases
		"host_id {\n  msb: 1\n}\n",             // an id without lsb
		"host_id {\n  msb: 1\n  lsb: -1\n}\n",  // not unsigned
		"status_message: \"a\nb\"\n",           // a raw line feed
		"interface_name: vpn\n",                // no quotes
		"host_id {\n  msb: 1\n  lsb: 1\n",      // not closed
		"status_message: \"\"\nstatus_code: 2", // wrong order, and no line feed at the end; Read accepts it
		"status_code:  RUNNING\n",              // two spaces; Read accepts it
		"status_message: \"é\"\n",              // unescaped UTF-8; Read accepts it
		"status_message: \"it's\"\n",           // an unescaped single quote; Read accepts it
	} {
		if texttest.Check("ContainerStatus", []byte(input)) == nil {
			t.Errorf("%q is accepted", input)
		}
	}
}

func TestSetKeepsOtherFields(t *testing.T) {
	input := "id {\n  msb: 1\n  lsb: 2\n}\nfresh: \"x\"\nname: \"h\"\n" +
		"port_ids {\n  msb: 3\n  lsb: 4\n}\nodd {\n  a: 1.0\n}\n"
	m, err := text.Parse([]byte(input))
	if err != nil {
		t.Fatal(err)
	}
	later := func(name string) bool { return name == "container_limit" || name == "port_ids" }
	m.Set("container_weight", text.Int(3), later)
	if want := strings.Replace(input, "port_ids", "container_weight: 3\nport_ids", 1); string(m.Print()) != want {
		t.Errorf("%s", m.Print())
	}
	m.Add("container_weight", text.Int(7))
	m.Set("container_weight", text.Int(4), later)
	got := string(m.Print())
	if strings.Count(got, "container_weight") != 1 || !strings.HasSuffix(got, "container_weight: 4\n") {
		t.Error(got)
	}
	empty := new(text.Message)
	empty.Set("container_weight", text.Int(0), later)
	if got := string(empty.Print()); got != "container_weight: 0\n" {
		t.Error(got)
	}
}

func TestLastReturnsLastValue(t *testing.T) {
	m, err := text.Parse([]byte("a: 1 b: 2 a: 3"))
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := m.Last("a"); !ok || v.Text != "3" {
		t.Error(v)
	}
	if _, ok := m.Last("c"); ok {
		t.Error("c is set")
	}
	if all := m.All("a"); len(all) != 2 || all[0].Text != "1" {
		t.Error(all)
	}
}

// FuzzParse checks that invalid input only causes an error of one line, and that the output for valid input is parsed
// as the same message again.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "a: 1", "a { b: [1, <>] }", `psk: "\303\251\x4" 'x' # c`, "[a.b]: -inf", "a: [", `a: "\`,
		strings.Repeat("a<", 70),
		"id {\n  msb: 3057556073290091537\n  lsb: 11474610151586498987\n}\n" +
			"port_subnet {\n  version: V4\n  address: \"169.254.0.1\"\n  prefix_length: 30\n}\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := text.Parse(data)
		if err != nil {
			if strings.Contains(err.Error(), "\n") || len(err.Error()) > 300 {
				t.Fatalf("%v", err)
			}
			return
		}
		printed := m.Print()
		if len(printed) > text.MaxSize {
			return
		}
		again, err := text.Parse(printed)
		if err != nil {
			t.Fatalf("%q is printed as %q: %v", data, printed, err)
		}
		if !bytes.Equal(again.Print(), printed) || !reflect.DeepEqual(again, m) {
			t.Fatalf("%q is printed as %q and then as %q", data, printed, again.Print())
		}
	})
}

func BenchmarkParse(b *testing.B) {
	data := []byte(strings.Repeat("port_ids {\n  msb: 3057556073290091537\n  lsb: 11474610151586498987\n}\n", 1000))
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := text.Parse(data); err != nil {
			b.Fatal(err)
		}
	}
}
