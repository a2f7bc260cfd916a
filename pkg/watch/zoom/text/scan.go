package text

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

type tokenKind uint8

const (
	endToken tokenKind = iota
	wordToken
	numberToken
	stringToken
	punctuationToken
	badToken
)

type token struct {
	kind tokenKind
	text string // the unescaped bytes of a stringToken, the error of a badToken, otherwise the original spelling
	at   int    // byte offset in the input
}

// scanner splits the input into the tokens of protobuf-java 2.6.1.
type scanner struct {
	data  string
	pos   int
	token token
}

func (s *scanner) next() {
	s.skipSpaceAndComments()
	s.token = token{at: s.pos}
	if s.pos == len(s.data) {
		return
	}
	rest := s.data[s.pos:]
	switch c := rest[0]; {
	case isLetter(c):
		s.take(wordToken, length(rest, func(c byte) bool { return isLetter(c) || isDigit(c) || c == '+' || c == '-' }))
	case isDigit(c), c == '+', c == '-',
		c == '.' && len(rest) > 1 && (isDigit(rest[1]) || rest[1] == '+' || rest[1] == '-'):
		s.take(numberToken, length(rest, func(c byte) bool {
			return isLetter(c) || isDigit(c) || c == '+' || c == '-' || c == '.'
		}))
	case c == '"' || c == '\'':
		s.scanString(rest)
	default:
		s.take(punctuationToken, 1)
	}
}

func (s *scanner) take(kind tokenKind, n int) {
	s.token.kind, s.token.text = kind, s.data[s.pos:s.pos+n]
	s.pos += n
}

func (s *scanner) skipSpaceAndComments() {
	for s.pos < len(s.data) {
		switch c := s.data[s.pos]; {
		case strings.IndexByte(" \t\n\v\f\r", c) >= 0:
			s.pos++
		case c == '#':
			n := strings.IndexAny(s.data[s.pos:], "\n\r")
			if n < 0 {
				n = len(s.data) - s.pos
			}
			s.pos += n
		default:
			return
		}
	}
}

// scanString scans the quoted string at the start of rest. An invalid string becomes a badToken, and the scanner does
// not advance past its first byte.
func (s *scanner) scanString(rest string) {
	quote := rest[0]
	end := 1
	for escaped := false; ; end++ {
		if end == len(rest) || rest[end] == '\n' {
			s.token.kind, s.token.text = badToken, "a string does not end on its line: allowed: a closing quote"
			return
		}
		if !escaped && rest[end] == quote {
			break
		}
		escaped = !escaped && rest[end] == '\\'
	}
	value, err := unescape(rest[1:end])
	if err != nil {
		s.token.kind, s.token.text = badToken, err.Error()
		return
	}
	s.token.kind, s.token.text = stringToken, value
	s.pos += end + 1
}

var errEscape = errors.New(`invalid escape sequence: allowed: \a \b \f \n \r \t \v \\ \' \", ` +
	`up to three octal digits of a byte, \x and one or two hex digits`)

// unescaped maps the character after a backslash to the byte that the escape sequence encodes.
var unescaped = map[byte]byte{
	'a': '\a', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', 'v': '\v', '\\': '\\', '\'': '\'', '"': '"',
}

func unescape(s string) (string, error) {
	if strings.IndexByte(s, '\\') < 0 {
		return s, nil
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			out = append(out, s[i])
			continue
		}
		i++ // in range, because a backslash before the closing quote would have escaped that quote
		c, ok := unescaped[s[i]]
		switch {
		case ok:
			out = append(out, c)
		case isOctal(s[i]):
			n := length(s[i:min(i+3, len(s))], isOctal)
			out = append(out, parseByte(s[i:i+n], 8))
			i += n - 1
		case s[i] == 'x' || s[i] == 'X':
			n := length(s[i+1:min(i+3, len(s))], isHex)
			if n == 0 {
				return "", errEscape
			}
			out = append(out, parseByte(s[i+1:i+1+n], 16))
			i += n
		default:
			return "", errEscape
		}
	}
	return string(out), nil
}

// parseByte returns the value of at most three digits. Like the cast to byte in Java it keeps the low eight bits of a
// value above 255.
func parseByte(digits string, base int) byte {
	n, _ := strconv.ParseUint(digits, base, 16)
	return byte(n)
}

// fault returns an error with text and the line and column of the current token. The error of a badToken takes
// precedence over text.
func (s *scanner) fault(text string) error {
	if s.token.kind == badToken {
		text = s.token.text
	}
	before := s.data[:s.token.at]
	line, column := 1+strings.Count(before, "\n"), len(before)-strings.LastIndexByte(before, '\n')
	return fmt.Errorf("line %d, column %d: %s", line, column, text)
}

// length returns how many bytes at the start of s satisfy in.
func length(s string, in func(byte) bool) int {
	for i := range len(s) {
		if !in(s[i]) {
			return i
		}
	}
	return len(s)
}

func isLetter(c byte) bool { return c == '_' || 'a' <= c|0x20 && c|0x20 <= 'z' }
func isDigit(c byte) bool  { return '0' <= c && c <= '9' }
func isOctal(c byte) bool  { return '0' <= c && c <= '7' }
func isHex(c byte) bool    { return isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'f' }
