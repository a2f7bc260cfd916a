package main

import (
	"testing"
)

func TestWhoMayReadAFileWithKeys(t *testing.T) {
	const id, other = 2100000001, 2100000002
	directory := access{0o710, 0, id}
	for _, row := range []struct {
		name      string
		path      string
		file      access
		directory access
		closed    bool
	}{
		{"root alone", "etc/ipsec.secrets", access{0o600, 0, 0}, directory, true},
		{"root alone, with the container's group", "etc/ipsec.secrets", access{0o600, 0, id}, directory, true},
		{"the container's user", "etc/ipsec.secrets", access{0o640, 0, id}, directory, true},
		{"another container's user", "etc/ipsec.secrets", access{0o640, 0, other}, directory, false},
		{"the group of root", "etc/ipsec.secrets", access{0o640, 0, 0}, access{0o710, 0, 0}, false},
		{"everybody", "etc/ipsec.secrets", access{0o644, 0, id}, directory, false},
		{"the container's user may write", "etc/ipsec.secrets", access{0o660, 0, id}, directory, false},
		{"the daemon owns it", "run/x", access{0o600, id, id}, directory, false},
		{"the daemon owns the directory", "etc/ipsec.secrets", access{0o600, 0, 0}, access{0o710, id, id}, false},
		{"everybody can enter the directory", "etc/ipsec.secrets", access{0o640, 0, id}, access{0o711, 0, id}, false},
		{"the state is root's", "state.json", access{0o600, 0, 0}, directory, true},
		{"the state is shared with the daemon", "state.json", access{0o640, 0, id}, directory, false},
	} {
		if isClosed(row.path, row.file, row.directory, 0) != row.closed {
			t.Errorf("%s: closed must be %v", row.name, row.closed)
		}
	}
}
