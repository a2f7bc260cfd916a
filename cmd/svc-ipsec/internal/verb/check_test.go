package verb

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/cni"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/state"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

func TestMissingObjectIsNamed(t *testing.T) {
	owner := spec.Owner{Network: "n", Name: "vpn-gone", ContainerID: "c"}
	dir, err := state.Open(context.Background(), filepath.Join(t.TempDir(), "svc-ipsec"), owner.Name, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := dir.Save(&state.State{Attachment: state.Attachment{Network: "n", ContainerID: "c",
		Interface: "svc0"}}); err != nil {
		t.Fatal(err)
	}
	_, err = new(Executable).check(context.Background(), &skel.CmdArgs{ContainerID: "c", IfName: "svc0"}, owner, dir)
	if want := "configuration in " + dir.Path + ": gone"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	_, err = (&change{request: &cni.Request{Owner: owner}}).result()
	if want := "interface vpn-gone: gone"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
