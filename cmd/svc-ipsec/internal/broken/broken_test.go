package broken

import (
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestIsDistinguishesDifferencesFromOtherErrors(t *testing.T) {
	difference := Errorf("svc0 has lost address %s", "100.100.100.2/32")
	if difference.Error() != "svc0 has lost address 100.100.100.2/32" || !Is(fmt.Errorf("check vpn: %w", difference)) {
		t.Errorf("%v", difference)
	}
	if Is(io.EOF) || Is(nil) || Is(errors.New("svc0 has lost address")) {
		t.Error("an error without a difference counts as one")
	}
	if !errors.Is(Errorf("state: %w", io.EOF), io.EOF) {
		t.Error("the cause is lost")
	}
}
