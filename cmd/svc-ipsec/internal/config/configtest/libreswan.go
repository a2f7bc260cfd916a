package configtest

import (
	"os"
	"os/exec"
	"testing"
)

// Libreswan returns the path of Libreswan's `ipsec`, of any version. If it is not installed, Libreswan skips the test,
// or fails it if SVC_TEST_LIBRESWAN is 1.
func Libreswan(t *testing.T) string {
	t.Helper()
	ipsec, err := exec.LookPath("ipsec")
	if err != nil && os.Getenv("SVC_TEST_LIBRESWAN") == "1" {
		t.Fatal("SVC_TEST_LIBRESWAN=1, and ipsec is not installed")
	} else if err != nil {
		t.Skip("requires libreswan: ipsec is not installed")
	}
	return ipsec
}
