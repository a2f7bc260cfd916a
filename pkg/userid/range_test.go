package userid

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestRangeFile(t *testing.T) {
	for _, test := range []struct {
		what, content string
		want          Range  // of a valid file
		fault         string // for an invalid file: part of the description of the allowed values
	}{
		{"the default range", "2100000000-2100065535\n", DefaultRange, ""},
		{"blanks around the line", " \t200000-200099\r\n\n", Range{200000, 200099}, ""},
		{"the lowest range of 16 ids", "65536-65551", Range{65536, 65551}, ""},
		{"a million ids", "1900000000-1900999999", Range{1900000000, 1900999999}, ""},
		{"the highest range", "2147418112-2147483647", Range{2147418112, 2147483647}, ""},
		{"up to the foreign images", "2147350000-2147352575", Range{2147350000, 2147352575}, ""},

		{"an empty file", "", Range{}, "one line FIRST-LAST"},
		{"one number", "2100000000", Range{}, "one line FIRST-LAST"},
		{"two lines", "200000-200099\n200100-200199", Range{}, "one line FIRST-LAST"},
		{"a comment", "# ids\n200000-200099", Range{}, "one line FIRST-LAST"},
		{"blanks inside", "200000 - 200099", Range{}, "one line FIRST-LAST"},
		{"a negative id", "-1-200099", Range{}, "one line FIRST-LAST"},
		{"a sign", "+200000-200099", Range{}, "one line FIRST-LAST"},
		{"hexadecimal", "0x30d40-0x30da3", Range{}, "one line FIRST-LAST"},
		{"more than 32 bits", "4294967296-4294967400", Range{}, "one line FIRST-LAST"},
		{"the higher id first", "200099-200000", Range{}, "the lower one first"},
		{"15 ids", "200000-200014", Range{}, "16 to 1000000 ids; these are 15"},
		{"a million ids and one", "1900000000-1901000000", Range{}, "16 to 1000000 ids; these are 1000001"},
		{"root", "0-99", Range{}, "0-65535 is for system users"},
		{"login users", "1000-1999", Range{}, "0-65535 is for system users"},
		{"16 bit -1 as the first id", "65535-65600", Range{}, "0-65535 is for system users"},
		{"the first id of systemd-nspawn as the last id", "524200-524288", Range{},
			"524288-1879048191 is for containers of systemd-nspawn"},
		{"ids of systemd-nspawn", "1000000-1000099", Range{}, "524288-1879048191 is for containers of systemd-nspawn"},
		{"the last id of systemd-nspawn as the first id", "1879048191-1879048291", Range{}, "524288-1879048191 is for"},
		{"a range around systemd's foreign images", "2147352500-2147418200", Range{},
			"2147352576-2147418111 is for systemd's foreign images"},
		{"the first id that is negative in 32 bits", "2147483600-2147483648", Range{},
			"2147483648-4294967295 is for no users"},
		{"32 bit -1", "4294967200-4294967295", Range{}, "2147483648-4294967295 is for no users"},
	} {
		t.Run(test.what, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "user-ids")
			write(t, path, test.content)
			got, err := (rangeFiles{file: path}).read()
			if test.fault == "" {
				if got != test.want || err != nil {
					t.Errorf("got %s, %v, want %s", got, err, test.want)
				}
				return
			}
			var fault *spec.Fault
			if !errors.As(err, &fault) {
				t.Fatalf("got %s, %v, want a fault", got, err)
			}
			if fault.Key != path || fault.Value != strings.TrimSpace(test.content) ||
				!strings.Contains(fault.Allowed, test.fault) {
				t.Errorf("got %v, want a fault with the file, the value and %q", err, test.fault)
			}
		})
	}
}

func TestMissingRangeFileMeansTheDefaultRange(t *testing.T) {
	got, err := (rangeFiles{file: filepath.Join(t.TempDir(), "user-ids")}).read()
	if got != DefaultRange || err != nil {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestUnreadableRangeFileIsAnError(t *testing.T) {
	if got, err := (rangeFiles{file: t.TempDir()}).read(); err == nil {
		t.Errorf("got %s from a directory", got)
	}
}

func TestSubordinateIDs(t *testing.T) {
	const first, last = "2100000000", "2100065535"
	for _, test := range []struct {
		what, content string
		overlaps      string // the line
	}{
		{"an empty file", "", ""},
		{"what useradd writes", "tom:100000:65536\nann:165536:65536\n", ""},
		{"ends before the range", "tom:2099999999:1", ""},
		{"begins after the range", "tom:2100065536:65536", ""},
		{"no ids", "tom:" + first + ":0", ""},
		{"lines of another form", "# tom:" + first + "\ntom\ntom:x:1\n:::\n::::\n\n", ""},

		{"has the first id", "tom:100000:65536\nann:" + first + ":1\n", "ann:" + first + ":1"},
		{"has the last id", "tom:" + last + ":65536", "tom:" + last + ":65536"},
		{"is inside", "1000:2100001000:10", "1000:2100001000:10"},
		{"contains the range", "tom:1:4294967294", "tom:1:4294967294"},
		{"has more ids than 32 bits can count", "tom:0:18446744073709551615", "tom:0:18446744073709551615"},
		{"ends inside", "tom:2099999999:2", "tom:2099999999:2"},
	} {
		for _, file := range []string{"subuid", "subgid"} {
			t.Run(test.what+" in "+file, func(t *testing.T) {
				dir := t.TempDir()
				ranges := rangeFiles{
					file:        filepath.Join(dir, "user-ids"),
					subordinate: []string{filepath.Join(dir, "subuid"), filepath.Join(dir, "subgid")},
				}
				write(t, filepath.Join(dir, file), test.content)
				got, err := ranges.read()
				if test.overlaps == "" {
					if got != DefaultRange || err != nil {
						t.Errorf("got %s, %v", got, err)
					}
					return
				}
				var fault *spec.Fault
				if !errors.As(err, &fault) || !strings.HasPrefix(fault.Key, ranges.file+" ") ||
					fault.Value != DefaultRange.String() ||
					!strings.Contains(fault.Allowed, filepath.Join(dir, file)) ||
					!strings.Contains(fault.Allowed, spec.Quote(test.overlaps)) {
					t.Errorf("got %v, want a fault with both files, the range and the line", err)
				}
			})
		}
	}
}
