package health

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestUnitOfTheSenderDecides runs senders in units of systemd.
func TestUnitOfTheSenderDecides(t *testing.T) {
	if os.Getenv("SVC_TEST_GROUND") != "1" {
		t.Skip("requires the sandbox, with its own systemd: SVC_TEST_GROUND=1 is not set")
	}
	const other = "the sender belongs to container grd1 and reports for grd2"
	rows := []struct {
		sentence    string
		unit, slice string
		environment []string
		name        string // the container that the sender reports for
		refusal     string // "" if the datagram is accepted
	}{
		{"the unit of the container", "svc-grd1.service", "svc-echo.slice", nil, "grd1", ""},
		{"a further unit of the container", "svc-grd1:dns.service", "svc-echo.slice", nil, "grd1", ""},
		{"the unit of another container", "svc-grd1.service", "svc-echo.slice", nil, "grd2", other},
		{"a further unit of another container", "svc-grd1:dns.service", "svc-echo.slice", nil, "grd2", other},
		{
			"a control group of the unit that is named as the unit of another container", "svc-grd1.service",
			"svc-echo.slice", []string{sendFrom + "=svc-grd2.service"}, "grd2", other,
		},
		{
			"the unit of another container, with the user id of the container", "svc-grd1.service", "svc-echo.slice",
			[]string{fmt.Sprintf("%s=%d", sendAs, containerUID)}, "vpn1", "has the user id of vpn1",
		},
		{"a unit of no container in the slice", "grd-helper.service", "svc-echo.slice", nil, "grd1", "in no unit"},
		{"the unit of another container, outside its slice", "svc-grd1.service", "system.slice", nil, "grd2", other},
		{"a service of a plugin", "grd-helper.service", "system.slice", nil, "grd1", ""},
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		t.Run(row.sentence, func(t *testing.T) {
			s := newTestServer(t)
			args := []string{
				"--quiet", "--collect", "--unit=" + row.unit, "--slice=" + row.slice, "--property=Delegate=yes",
				"--setenv=" + sendTo + "=" + s.socket(),
				"--setenv=" + sendText + "=" + strings.Replace(good, "vpn1", row.name, 1),
			}
			for _, variable := range row.environment {
				args = append(args, "--setenv="+variable)
			}
			t.Cleanup(func() { _ = exec.Command("systemctl", "stop", row.unit).Run() })
			if out, err := exec.Command("systemd-run", append(args, self)...).CombinedOutput(); err != nil {
				t.Fatalf("systemd-run: %v: %s", err, out)
			}
			s.expect(row.name, row.refusal)
		})
	}
}
