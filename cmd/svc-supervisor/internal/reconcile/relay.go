package reconcile

import (
	"context"
	"log/slog"
	"strconv"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// relay logs a line of an executable's stderr. One that is written as ours are, level=WARN msg="…" …, keeps its level;
// any other has info.
func relay(log *slog.Logger, verb spec.Verb, line string) {
	level := slog.LevelInfo
	if text, found := strings.CutPrefix(line, "level="); found {
		if word, rest, _ := strings.Cut(text, " "); level.UnmarshalText([]byte(word)) == nil {
			line = message(rest)
		}
	}
	log.Log(context.Background(), level, line, "verb", verb)
}

// message takes the key and the quotes off the message at the beginning of a line.
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
