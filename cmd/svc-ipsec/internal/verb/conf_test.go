package verb

import (
	"github.com/containernetworking/cni/pkg/skel"
)

// fullConf is a network configuration as the supervisor sends it.
const fullConf = `{"cniVersion":"1.1.0","name":"svc-supervisor","type":"svc-ipsec",
	"container":{"portId":"p","hostId":"h","interfaceName":"vpn-a","containerId":"c","serviceType":"IPSEC",` +
	`"groupId":"g","configurationId":"r"},
	"port":{"addresses":["169.254.0.1/30","fd00::1/126"],"mac":"02:00:00:00:00:01","bridge":"br"},"configuration":{}}`

func cniArgs(conf string) *skel.CmdArgs {
	return &skel.CmdArgs{ContainerID: "c", IfName: "svc0", StdinData: []byte(conf)}
}
