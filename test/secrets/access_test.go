package main

import (
	"testing"
)

func TestMayHoldKeys(t *testing.T) {
	const id, other = 2100000001, 2100000002
	directory := access{0o710, 0, id}
	for _, row := range []struct {
		name      string
		path      string
		file      access
		directory access
		want      bool
	}{
		{"readable by root alone", "etc/ipsec.secrets", access{0o600, 0, 0}, directory, true},
		{"readable by root alone, with the container's group", "etc/ipsec.secrets", access{0o600, 0, id}, directory,
			true},
		{"readable by the container's user", "etc/ipsec.secrets", access{0o640, 0, id}, directory, true},
		{"readable by the user of another container", "etc/ipsec.secrets", access{0o640, 0, other}, directory, false},
		{"readable by the group of root", "etc/ipsec.secrets", access{0o640, 0, 0}, access{0o710, 0, 0}, false},
		{"readable by all", "etc/ipsec.secrets", access{0o644, 0, id}, directory, false},
		{"writable by the container's user", "etc/ipsec.secrets", access{0o660, 0, id}, directory, false},
		{"owned by the daemon", "run/x", access{0o600, id, id}, directory, false},
		{"in a directory of the daemon", "etc/ipsec.secrets", access{0o600, 0, 0}, access{0o710, id, id}, false},
		{"in a directory that all can enter", "etc/ipsec.secrets", access{0o640, 0, id}, access{0o711, 0, id}, false},
		{"the state, readable by root alone", "state.json", access{0o600, 0, 0}, directory, true},
		{"the state, readable by the container's user", "state.json", access{0o640, 0, id}, directory, false},
	} {
		if got := mayHoldKeys(row.path, row.file, row.directory, 0); got != row.want {
			t.Errorf("%s: %v, want %v", row.name, got, row.want)
		}
	}
}
