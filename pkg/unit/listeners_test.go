package unit

import (
	"testing"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
)

func TestUnitOfPath(t *testing.T) {
	for _, name := range []string{
		"svc-a.service", "svc-vpn_1.x-y:role.2.service", "1.service", "-.slice", `dev-a\x2db.device`,
	} {
		got, ok := unitOfPath(godbus.ObjectPath(unitPath + dbus.PathBusEscape(name)))
		if !ok || got != name {
			t.Errorf("%q is read as %q, %t", name, got, ok)
		}
	}
	for _, path := range []godbus.ObjectPath{
		"/", managerPath, "/org/freedesktop/systemd1/job/12", unitPath + "a_", unitPath + "a_2", unitPath + "a_zz",
	} {
		if name, ok := unitOfPath(path); ok {
			t.Errorf("%q is read as %q", path, name)
		}
	}
}
