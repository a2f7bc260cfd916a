package main

import (
	"fmt"
	"slices"
	"strings"
)

// isOf wants what a program of Libreswan's says of its version to name one; any, if that is empty.
func isOf(says, version string) error {
	if version == "" || slices.Contains(strings.Fields(says), version) {
		return nil
	}
	return fmt.Errorf("want Libreswan %s, and this is %q", version, strings.TrimSpace(says))
}
