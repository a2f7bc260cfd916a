package main

import "testing"

func TestCheckVersion(t *testing.T) {
	for _, test := range []struct {
		output, version string
		ok              bool
	}{
		{"Linux Libreswan 4.10 (netkey) on 6.1.0\n", "4.10", true},
		{"Libreswan 5.2\n", "5.2", true},
		{"Libreswan 5.2\n", "", true},
		{"Linux Libreswan 4.10 (netkey) on 6.1.0\n", "5.2", false},
		{"Libreswan 5.2\n", "4.10", false},
		{"Libreswan 4.100\n", "4.10", false},
		{"Libreswan 14.10.1 on 4.10.0\n", "4.10", false},
		{"", "4.10", false},
	} {
		if err := checkVersion(test.output, test.version); (err == nil) != test.ok {
			t.Errorf("%q of %q: %v", test.output, test.version, err)
		}
	}
}
