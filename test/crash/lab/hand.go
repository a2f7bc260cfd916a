package lab

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// ByHand returns the binding of a container that another CNI runtime makes. Its network namespace is owned by the
// host's user namespace, and svc-ipsec registers its user id.
func ByHand(name string, shape Shape) Binding {
	w := NewBinding(name, "IPSEC", shape)
	w.ByHand = true
	return w
}

// ByHandCommand returns the command that runs a verb of svc-ipsec as another CNI runtime would.
func ByHandCommand(w Binding, verb spec.Verb) (*exec.Cmd, error) {
	port := w.port()
	stdin, err := json.Marshal(object{
		"cniVersion": spec.CNIVersion, "name": spec.NetworkByHand, "type": "svc-ipsec",
		"container": object{
			"portId": w.Port, "interfaceName": w.Name, "containerId": w.ID, "serviceType": w.Type,
			"configurationId": "f-" + w.ID,
		},
		"port":          port,
		"configuration": w.Shape.configuration("f-" + w.ID),
	})
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(filepath.Join(Plugins, "svc-ipsec"))
	cmd.Env = []string{
		"CNI_COMMAND=" + string(verb), "CNI_CONTAINERID=" + w.ID, "CNI_NETNS=/run/netns/" + w.Name,
		"CNI_IFNAME=" + spec.InterfaceInside, "CNI_PATH=" + Plugins, "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
	}
	cmd.Stdin = strings.NewReader(string(stdin))
	return cmd, nil
}
