package userid

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Range is a range of user ids, both ends included.
type Range struct {
	First, Last uint32
}

// DefaultRange is used if the range file does not exist. It does not overlap the ranges of systemd, those that
// useradd(8) writes to /etc/subuid, and those to which SSSD maps directory users by default.
var DefaultRange = Range{2100000000, 2100065535}

const (
	minIDs = 16
	maxIDs = 1_000_000
)

// reserved are the ranges that systemd or Linux use for something else (https://systemd.io/UIDS-GIDS).
var reserved = []struct {
	Range
	use string
}{
	{Range{0, 65535}, "system users, login users and systemd's dynamic users"},
	{Range{524288, 1879048191}, "containers of systemd-nspawn"},
	{Range{2147352576, 2147418111}, "systemd's foreign images"},
	{Range{2147483648, 4294967295}, "no users at all: many programs take such an id for a negative number"},
}

// unreserved describes all ranges that do not overlap a reserved one.
const unreserved = "65536-524287, 1879048192-2147352575 or 2147418112-2147483647"

// Size returns the number of ids.
func (r Range) Size() int { return int(r.Last) - int(r.First) + 1 }

// Contains reports whether the id is in the range.
func (r Range) Contains(id uint32) bool { return r.First <= id && id <= r.Last }

// String returns the range in the format of the range file.
func (r Range) String() string { return fmt.Sprintf("%d-%d", r.First, r.Last) }

func (r Range) overlaps(other Range) bool { return r.First <= other.Last && other.First <= r.Last }

// after returns the id that follows, wrapping around. For an id outside of the range it returns the first one.
func (r Range) after(id uint32) uint32 {
	if !r.Contains(id) || id == r.Last {
		return r.First
	}
	return id + 1
}

// rangeFiles are the files that the range of this host depends on.
type rangeFiles struct {
	file        string
	subordinate []string // files with subordinate ids: /etc/subuid and /etc/subgid
}

// read reads the range of this host and checks it. The error for an invalid range contains the path of the range file,
// the value and the allowed values.
func (r rangeFiles) read() (Range, error) {
	key := r.file
	ids := DefaultRange
	content, err := os.ReadFile(r.file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		key += " (missing, so the default applies)"
	case err != nil:
		return Range{}, fmt.Errorf("read range of user ids: %w", err)
	default:
		if ids, err = parseRange(key, string(content)); err != nil {
			return Range{}, err
		}
	}
	for _, path := range r.subordinate {
		content, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Range{}, fmt.Errorf("read subordinate ids: %w", err)
		}
		if line, found := overlappingLine(string(content), ids); found {
			return Range{}, &spec.Fault{Key: key, Value: ids.String(),
				Allowed: fmt.Sprintf("a range that has no id of %s; %s there has some", path, spec.Quote(line))}
		}
	}
	return ids, nil
}

// parseRange parses the content of a range file. key is the name of the file in error texts.
func parseRange(key, content string) (Range, error) {
	value := strings.TrimSpace(content)
	fault := func(format string, a ...any) (Range, error) {
		return Range{}, &spec.Fault{Key: key, Value: value, Allowed: fmt.Sprintf(format, a...)}
	}
	before, after, _ := strings.Cut(value, "-")
	first, firstErr := strconv.ParseUint(before, 10, 32)
	last, lastErr := strconv.ParseUint(after, 10, 32)
	if firstErr != nil || lastErr != nil || first > last {
		return fault("one line FIRST-LAST with two decimal user ids, the lower one first, like %s", DefaultRange)
	}
	if n := last - first + 1; n < minIDs || n > maxIDs {
		return fault("%d to %d ids; these are %d", minIDs, maxIDs, n)
	}
	ids := Range{uint32(first), uint32(last)}
	for _, other := range reserved {
		if ids.overlaps(other.Range) {
			return fault("a range within %s; %s is for %s", unreserved, other.Range, other.use)
		}
	}
	return ids, nil
}

// overlappingLine returns the first line of a file in the format of subuid(5) (`user:first:count`) that overlaps the
// range. Like the shadow tools it ignores lines in another format.
func overlappingLine(content string, ids Range) (string, bool) {
	for line := range strings.Lines(content) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if len(fields) != 3 {
			continue
		}
		first, firstErr := strconv.ParseUint(fields[1], 10, 64)
		count, countErr := strconv.ParseUint(fields[2], 10, 64)
		if firstErr != nil || countErr != nil || count == 0 {
			continue
		}
		startsWithin := uint64(ids.First) <= first && first <= uint64(ids.Last)
		reachesInto := first < uint64(ids.First) && count > uint64(ids.First)-first
		if startsWithin || reachesInto {
			return strings.TrimSpace(line), true
		}
	}
	return "", false
}
