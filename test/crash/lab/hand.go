package lab

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// ByHand is the container of a runtime other than the supervisor: its network namespace is owned by the host's user
// namespace, and svc-ipsec registers its user id.
func ByHand(name string, shape Shape) Wanted {
	w := Ours(name, "IPSEC", shape)
	w.ByHand = true
	return w
}

// HandVerb is the program that runs a verb for a container of another runtime.
func HandVerb(w Wanted, verb spec.Verb) (*exec.Cmd, error) {
	port := w.port()
	stdin, err := json.Marshal(object{
		"cniVersion": spec.CNIVersion, "name": spec.NetworkByHand, "type": "svc-ipsec",
		"container":     object{"portId": w.Port, "interfaceName": w.Name, "containerId": w.ID, "serviceType": w.Type, "configurationId": "f-" + w.ID},
		"port":          port,
		"configuration": w.Shape.configuration("f-" + w.ID),
	})
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(filepath.Join(Plugins, "svc-ipsec"))
	cmd.Env = []string{"CNI_COMMAND=" + string(verb), "CNI_CONTAINERID=" + w.ID, "CNI_NETNS=/run/netns/" + w.Name, "CNI_IFNAME=" + spec.InterfaceInside,
		"CNI_PATH=" + Plugins, "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Stdin = strings.NewReader(string(stdin))
	return cmd, nil
}
