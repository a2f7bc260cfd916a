package lab

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
)

const (
	bridgeA = "br-a"
	bridgeB = "br-b"
)

type object = map[string]any

// Shape is one of the configurations of a container, together with the port of its binding. An edit from A to B changes
// every part of a container that a reconfigure can change: MAC, addresses, neighbour, bridge, routes and keys. Of the
// two connections, one stays, one is removed and one is added.
type Shape string

// The two shapes.
const (
	A Shape = "A"
	B Shape = "B"
)

// Other returns the other shape.
func (s Shape) Other() Shape {
	if s == A {
		return B
	}
	return A
}

func (s Shape) configuration(id string) object {
	if s == B {
		return object{
			"id": id, "externalIps": []string{"100.100.100.2", "2001:db8::2"}, "externalMac": "ca:08:1a:94:29:0f",
			"connections": []object{
				connection("one", "200.200.200.2", "10.2.0.0/24"), connection("three", "200.200.200.4", "10.4.0.0/24"),
			},
		}
	}
	return object{
		"id": id, "externalIps": []string{"100.100.100.2"}, "externalMac": "ca:08:1a:94:29:0e",
		"connections": []object{
			connection("one", "200.200.200.2", "10.2.0.0/24"), connection("two", "200.200.200.3", "10.3.0.0/24"),
		},
	}
}

func connection(id, peer, network string) object {
	return object{
		"id": id, "name": id, "adminStateUp": true, "peerAddress": peer, "peerId": peer, "localId": "",
		"localCidrs": []string{"10.1.0.0/24"}, "peerCidrs": []string{network}, "initiator": "bi-directional",
		"mtu": 1400, "psk": "a key for " + id, "dpd": object{"action": "hold", "interval": 30, "timeout": 120},
		"ikePolicy": object{
			"ikeVersion": "v2", "encryptionAlgorithm": "aes-256", "authAlgorithm": "sha256", "pfs": "group14",
			"lifetime": 3600,
		},
		"ipsecPolicy": object{
			"transformProtocol": "esp", "encapsulationMode": "tunnel", "encryptionAlgorithm": "aes-256",
			"authAlgorithm": "sha256", "pfs": "group14", "lifetime": 3600,
		},
	}
}

// Binding is a port binding with the container that it names.
type Binding struct {
	Name  string // the interface name
	Port  string // the port id
	ID    string // the container id
	Type  string // the service type: IPSEC or LAZY
	Group string // the group id
	Shape Shape

	ByHand bool // see the function ByHand
}

// port returns the port to which the container is attached.
func (w Binding) port() object {
	if w.Shape == B {
		return object{"addresses": []string{"169.254.0.5/30"}, "mac": "ca:fe:00:00:00:05", "bridge": bridgeB}
	}
	return object{"addresses": []string{"169.254.0.1/30"}, "mac": "ca:fe:00:00:00:01", "bridge": bridgeA}
}

// NewBinding returns a binding whose ids are made of the name: port p-NAME, container c-NAME.
func NewBinding(name, kind string, shape Shape) Binding {
	return Binding{Name: name, Port: "p-" + name, ID: "c-" + name, Type: kind, Group: "g1", Shape: shape}
}

// Bind writes the objects of the binding to the NSDB, the binding itself last. Objects that do not change are not
// written.
func Bind(w Binding) error {
	binding := object{"portId": w.Port, "hostId": HostID, "interfaceName": w.Name, "containerId": w.ID}
	maps.Copy(binding, w.port())
	configuration := "f-" + w.ID
	return errors.Join(
		put("configurations/"+configuration, w.Shape.configuration(configuration)),
		put("containers/"+w.ID, object{
			"id": w.ID, "serviceType": w.Type, "groupId": w.Group, "configurationId": configuration,
		}),
		put("bindings/"+HostID+"/"+w.Port, binding))
}

// Unbind removes the binding object only. It returns nil if there is none.
func Unbind(port string) error {
	err := os.Remove(filepath.Join(NSDB, "bindings", HostID, port+".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// put writes one object atomically. If the object already has this value, the file is not written.
func put(key string, value object) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(NSDB, key+".json")
	if current, err := os.ReadFile(path); err == nil && string(current) == string(text) {
		return nil
	}
	temporary := filepath.Join(Dir, ".object")
	if err := os.WriteFile(temporary, text, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
