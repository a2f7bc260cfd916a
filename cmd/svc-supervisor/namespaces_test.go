package main

import "testing"

func TestOnlySupervisorAndRegistryAreNotPluginDirectories(t *testing.T) {
	for path, want := range map[string]bool{
		"/run/svc-ipsec/vpn1":      true,
		"/run/svc-user/vpn1":       true, // of a plugin of type USER
		"/run/svc-user-ids/vpn1":   false,
		"/run/svc-supervisor/vpn1": false,
	} {
		if got := isPluginsDirectory(path); got != want {
			t.Errorf("%s: got %v", path, got)
		}
	}
}
