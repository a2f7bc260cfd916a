package signal

import "testing"

func TestASecondSignalIsDroppedWhileOneIsPending(t *testing.T) {
	s := New()
	s.Send()
	s.Send()
	if len(s) != 1 {
		t.Fatalf("%d values are pending", len(s))
	}
	<-s
	if s.Send(); len(s) != 1 {
		t.Errorf("%d values are pending after a receive and a send", len(s))
	}
}
