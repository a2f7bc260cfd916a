package lazyregexp

import "testing"

func TestRegexp(t *testing.T) {
	r := New(`^(a+)b$`)
	if !r.MatchString("aab") || r.MatchString("b") ||
		r.FindStringSubmatch("aab")[1] != "aa" || r.ReplaceAllString("ab", "x") != "x" {
		t.Error("a method returned another result than that of regexp.Regexp")
	}
}

func TestInvalidExpressionPanicsAtTheFirstUse(t *testing.T) {
	r := New(`(`)
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	r.MatchString("")
}
