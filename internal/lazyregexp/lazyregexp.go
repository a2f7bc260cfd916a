// Package lazyregexp compiles regular expressions when they are first used. Each verb of a plugin runs in a process of
// its own that uses few of them. Compiling all of them at the start would take a third of the run time of that process.
package lazyregexp

import (
	"regexp"
	"sync"
)

// Regexp is a regular expression that is compiled at its first use. It is safe for concurrent use.
type Regexp struct {
	compiled func() *regexp.Regexp
}

// New returns a regular expression. The first use panics if the text is not a valid regular expression.
func New(text string) Regexp {
	return Regexp{sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })}
}

// MatchString works like the method of regexp.Regexp.
func (r Regexp) MatchString(s string) bool { return r.compiled().MatchString(s) }

// FindString works like the method of regexp.Regexp.
func (r Regexp) FindString(s string) string { return r.compiled().FindString(s) }

// FindStringSubmatch works like the method of regexp.Regexp.
func (r Regexp) FindStringSubmatch(s string) []string { return r.compiled().FindStringSubmatch(s) }

// ReplaceAllString works like the method of regexp.Regexp.
func (r Regexp) ReplaceAllString(s, replacement string) string {
	return r.compiled().ReplaceAllString(s, replacement)
}
