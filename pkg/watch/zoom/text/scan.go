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
	signToken
	badToken
)

type token struct {
	kind tokenKind
	text string // of a string its bytes, of a bad one what is wrong
	at   int
}

// scanner cuts the input into the tokens of 2.6.1.
type scanner struct {
	data  string
	pos   int
	token token
}

func (s *scanner) next() {
	s.skip()
	s.token = token{at: s.pos}
	if s.pos == len(s.data) {
		return
	}
	rest := s.data[s.pos:]
	switch c := rest[0]; {
	case isLetter(c):
		s.take(wordToken, length(rest, func(c byte) bool { return isLetter(c) || isDigit(c) || c == '+' || c == '-' }))
	case isDigit(c), c == '+', c == '-', c == '.' && len(rest) > 1 && (isDigit(rest[1]) || rest[1] == '+' || rest[1] == '-'):
		s.take(numberToken, length(rest, func(c byte) bool {
			return isLetter(c) || isDigit(c) || c == '+' || c == '-' || c == '.'
		}))
	case c == '"' || c == '\'':
		s.quoted(rest)
	default:
		s.take(signToken, 1)
	}
}

func (s *scanner) take(kind tokenKind, n int) {
	s.token.kind, s.token.text = kind, s.data[s.pos:s.pos+n]
	s.pos += n
}

// skip passes over white space and comments.
func (s *scanner) skip() {
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

// quoted reads a string; a bad one ends the scanning where it starts.
func (s *scanner) quoted(rest string) {
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

var errEscape = errors.New(`an escape that is none: allowed: \a \b \f \n \r \t \v \\ \' \", up to three octal digits of a byte, \x and one or two hex digits`)

var letters = map[byte]byte{
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
		i++ // there is a next byte: a backslash never stands before the closing quote
		letter, known := letters[s[i]]
		switch {
		case known:
			out = append(out, letter)
		case isOctal(s[i]):
			n := length(s[i:min(i+3, len(s))], isOctal)
			out = append(out, number(s[i:i+n], 8))
			i += n - 1
		case s[i] == 'x' || s[i] == 'X':
			n := length(s[i+1:min(i+3, len(s))], isHex)
			if n == 0 {
				return "", errEscape
			}
			out = append(out, number(s[i+1:i+1+n], 16))
			i += n
		default:
			return "", errEscape
		}
	}
	return string(out), nil
}

// number is the value of a few digits; of more than a byte's worth the low eight bits, as in Java's cast.
func number(digits string, base int) byte {
	n, _ := strconv.ParseUint(digits, base, 16)
	return byte(n)
}

// fault says what is wrong at the present token. A bad token knows better.
func (s *scanner) fault(text string) error {
	if s.token.kind == badToken {
		text = s.token.text
	}
	before := s.data[:s.token.at]
	return fmt.Errorf("line %d, column %d: %s", 1+strings.Count(before, "\n"), len(before)-strings.LastIndexByte(before, '\n'), text)
}

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
