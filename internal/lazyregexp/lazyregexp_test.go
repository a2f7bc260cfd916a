package lazyregexp

import "testing"

func TestRegexp(t *testing.T) {
	r := New(`^(a+)b$`)
	if !r.MatchString("aab") || r.MatchString("b") || r.FindStringSubmatch("aab")[1] != "aa" || r.ReplaceAllString("ab", "x") != "x" {
		t.Error("the expression does not match as it should")
	}
}

func TestBadTextPanicsAtTheFirstUse(t *testing.T) {
	r := New(`(`)
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	r.MatchString("")
}
