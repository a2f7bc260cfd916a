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

// Shape is one of the configurations that a container can have, with the binding that goes with it. From A to B every part
// of a container changes that can: MAC, addresses, neighbour, bridge, routes, keys; of two connections one stays, one goes
// and one comes.
type Shape string

// The shapes.
const (
	A Shape = "A"
	B Shape = "B"
)

// Other is the one that it is not.
func (s Shape) Other() Shape {
	if s == A {
		return B
	}
	return A
}

func (s Shape) configuration(id string) object {
	if s == B {
		return object{"id": id, "externalIps": []string{"100.100.100.2", "2001:db8::2"}, "externalMac": "ca:08:1a:94:29:0f",
			"connections": []object{connection("one", "200.200.200.2", "10.2.0.0/24"), connection("three", "200.200.200.4", "10.4.0.0/24")}}
	}
	return object{"id": id, "externalIps": []string{"100.100.100.2"}, "externalMac": "ca:08:1a:94:29:0e",
		"connections": []object{connection("one", "200.200.200.2", "10.2.0.0/24"), connection("two", "200.200.200.3", "10.3.0.0/24")}}
}

func connection(id, peer, network string) object {
	return object{"id": id, "name": id, "adminStateUp": true, "peerAddress": peer, "peerId": peer, "localId": "",
		"localCidrs": []string{"10.1.0.0/24"}, "peerCidrs": []string{network}, "initiator": "bi-directional", "mtu": 1400,
		"psk": "a key for " + id, "dpd": object{"action": "hold", "interval": 30, "timeout": 120},
		"ikePolicy":   object{"ikeVersion": "v2", "encryptionAlgorithm": "aes-256", "authAlgorithm": "sha256", "pfs": "group14", "lifetime": 3600},
		"ipsecPolicy": object{"transformProtocol": "esp", "encapsulationMode": "tunnel", "encryptionAlgorithm": "aes-256", "authAlgorithm": "sha256", "pfs": "group14", "lifetime": 3600}}
}

// Wanted is what a binding asks for.
type Wanted struct {
	Name  string // of the interface
	Port  string
	ID    string // of the container
	Type  string // IPSEC or LAZY
	Group string
	Shape Shape

	ByHand bool // see ByHand
}

// port is where the container is attached.
func (w Wanted) port() object {
	if w.Shape == B {
		return object{"addresses": []string{"169.254.0.5/30"}, "mac": "ca:fe:00:00:00:05", "bridge": bridgeB}
	}
	return object{"addresses": []string{"169.254.0.1/30"}, "mac": "ca:fe:00:00:00:01", "bridge": bridgeA}
}

// Ours is the binding of a name that goes by itself: port p-NAME, container c-NAME.
func Ours(name, kind string, shape Shape) Wanted {
	return Wanted{Name: name, Port: "p-" + name, ID: "c-" + name, Type: kind, Group: "g1", Shape: shape}
}

// Bind writes everything that the binding needs, the binding last; of one that is there, what differs.
func Bind(w Wanted) error {
	binding := object{"portId": w.Port, "hostId": HostID, "interfaceName": w.Name, "containerId": w.ID}
	maps.Copy(binding, w.port())
	configuration := "f-" + w.ID
	return errors.Join(
		put("configurations/"+configuration, w.Shape.configuration(configuration)),
		put("containers/"+w.ID, object{"id": w.ID, "serviceType": w.Type, "groupId": w.Group, "configurationId": configuration}),
		put("bindings/"+HostID+"/"+w.Port, binding))
}

// Unbind removes the binding alone; one that is not there is removed.
func Unbind(port string) error {
	err := os.Remove(filepath.Join(NSDB, "bindings", HostID, port+".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// put writes one object in one step. One that says the same stays as it is.
func put(key string, value object) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(NSDB, key+".json")
	if stands, err := os.ReadFile(path); err == nil && string(stands) == string(text) {
		return nil
	}
	aside := filepath.Join(Dir, ".object")
	if err := os.WriteFile(aside, text, 0o600); err != nil {
		return err
	}
	return os.Rename(aside, path)
}
