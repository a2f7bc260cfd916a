package reconcile

import (
	"context"
	"log/slog"
	"strconv"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// relay logs a line of an executable's stderr. A line in the format of slog's text handler (level=WARN msg="...")
// keeps its level; any other line has level info.
func relay(log *slog.Logger, verb spec.Verb, line string) {
	level := slog.LevelInfo
	if text, found := strings.CutPrefix(line, "level="); found {
		if name, rest, _ := strings.Cut(text, " "); level.UnmarshalText([]byte(name)) == nil {
			line = message(rest)
		}
	}
	log.Log(context.Background(), level, line, "verb", verb)
}

// message returns a line without the key and the quotes of its message.
func message(line string) string {
	text, found := strings.CutPrefix(line, "msg=")
	if !found {
		return line
	}
	quoted, err := strconv.QuotedPrefix(text)
	if err != nil {
		return text
	}
	unquoted, err := strconv.Unquote(quoted)
	if err != nil {
		return text
	}
	return unquoted + text[len(quoted):]
}
