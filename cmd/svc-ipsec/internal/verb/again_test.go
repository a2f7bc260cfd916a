package verb

import (
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func TestEarliestRequest(t *testing.T) {
	early, late := &spec.Again{After: 5}, &spec.Again{After: 9}
	for _, test := range []struct {
		requests []*spec.Again
		want     *spec.Again
	}{{nil, nil}, {[]*spec.Again{nil, nil}, nil}, {[]*spec.Again{nil, late}, late},
		{[]*spec.Again{late, early, nil}, early}, {[]*spec.Again{early, late}, early}} {
		if got := earliest(test.requests...); got != test.want {
			t.Errorf("%v: got %v", test.requests, got)
		}
	}
}

func TestRefusedConnIsRetriedAfterFiveMinutes(t *testing.T) {
	for _, test := range []struct {
		refused map[string]string
		passed  time.Duration
		after   int // -1: no request
	}{
		{nil, time.Hour, -1},
		{map[string]string{"a-0-0": "pluto refused it"}, 0, 300},
		{map[string]string{"a-0-0": "pluto refused it"}, 100 * time.Second, 200},
		{map[string]string{"a-0-0": "pluto refused it"}, time.Hour, 0},
		{map[string]string{"a-0-0": "pluto refused it"}, -time.Hour, 300},
		{map[string]string{"a-0-0": "peerId x: Libreswan takes it for y (ID_FQDN)"}, time.Hour, -1},
		{map[string]string{"a-0-0": "peerId x: Libreswan takes it for y (ID_FQDN)", "b-0-0": "pluto refused it"}, 0,
			300},
	} {
		got := againForRefused(test.refused, noon, noon.Add(test.passed))
		if got == nil && test.after != -1 || got != nil && got.After != test.after {
			t.Errorf("%v after %s: %+v, want %d", test.refused, test.passed, got, test.after)
		}
	}
}
