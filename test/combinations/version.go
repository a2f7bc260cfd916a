package main

import (
	"fmt"
	"slices"
	"strings"
)

// checkVersion returns an error unless the output of a Libreswan program contains the version. An empty version matches
// any output.
func checkVersion(output, version string) error {
	if version == "" || slices.Contains(strings.Fields(output), version) {
		return nil
	}
	return fmt.Errorf("this is not Libreswan %s, but %q", version, strings.TrimSpace(output))
}
