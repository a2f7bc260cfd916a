package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

type object = map[string]any

// configuration returns the configuration of a side for an edit. The connections of the right side are response-only,
// unless both sides initiate.
func (e edit) configuration(s side, key string) object {
	var connections []object
	for i, r := range e.rows {
		connections = append(connections, r.connection(s, i, key))
	}
	return object{"externalIps": []string{s.external[4], s.external[6]}, "connections": connections}
}

// name returns the id of the i-th connection of an edit.
func name(i int) string { return fmt.Sprintf("c%d", i) }

func (r row) connection(s side, i int, key string) object {
	peer := sides[2-s.number]
	c := object{
		"id": name(i), "psk": key, "peerAddress": peer.external[r.outer], "mtu": 1400,
		"ikePolicy": policy("ikeVersion", r.ike.version, "phase1NegotiationMode", r.ike.mode,
			"encryptionAlgorithm", r.ike.cipher, "authAlgorithm", r.ike.integrity, "pfs", r.ike.group),
		"ipsecPolicy": policy("transformProtocol", r.child.protocol, "encapsulationMode", r.child.mode,
			"encryptionAlgorithm", r.child.cipher, "authAlgorithm", r.child.integrity, "pfs", r.child.group),
	}
	if r.child.mode == "tunnel" {
		c["localCidrs"], c["peerCidrs"] = r.cidrs(s, i), r.cidrs(peer, i)
	}
	if ids := identities[r.ids]; ids[0] != "" {
		c["localId"], c["peerId"] = ids[s.number-1], ids[peer.number-1]
	}
	if r.way == "both" {
		c["dpd"] = object{"action": "restart", "interval": 3, "timeout": 9}
	} else if s.name == "right" {
		c["initiator"] = "response-only"
	}
	if r.way == "nat" && s.name == "right" {
		c["peerAddress"] = natAddress
		if r.ids == "address" {
			c["peerId"] = peer.external[4] // the left side uses its own address as id, not the translated one
		}
	}
	return c
}

// policy makes an object of keys and values. It leaves out keys whose value is a dash.
func policy(pairs ...string) object {
	p := object{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "-" {
			p[pairs[i]] = pairs[i+1]
		}
	}
	return p
}

func (r row) cidrs(s side, i int) (all []string) {
	for _, family := range r.inner {
		for n := range r.networks[s.number-1] {
			all = append(all, network(s.number, i, n, family).String())
		}
	}
	return all
}

// verb runs a verb of svc-ipsec for a side's container. For ADD it returns the health in the result.
func (w *testbed) verb(verb string, s side, configuration object) (*spec.Health, error) {
	output, err := w.output(verb, s, configuration, nil)
	if err != nil || verb != "ADD" {
		return nil, err
	}
	var answer struct{ Health *spec.Health }
	if err := json.Unmarshal(output, &answer); err != nil || answer.Health == nil {
		return nil, fmt.Errorf("%s vpn-%s: no health in %q", verb, s.name, output)
	}
	return answer.Health, nil
}

// output runs a verb of svc-ipsec for a side's container and returns its stdout. prevResult may be nil.
func (w *testbed) output(verb string, s side, configuration object, prevResult json.RawMessage) ([]byte, error) {
	container := "vpn-" + s.name
	conf := object{"cniVersion": spec.CNIVersion, "name": spec.Network, "type": "svc-ipsec",
		"container": object{"interfaceName": container, "containerId": container, "serviceType": "IPSEC"},
		"port": object{
			"addresses": []string{s.text("169.254.#.1/30"), s.text("fd0#:169::1/126")},
			"mac":       s.text("ca:fe:00:00:00:0#"), "bridge": "br-" + s.name,
		},
		"configuration": configuration}
	if prevResult != nil {
		conf["prevResult"] = prevResult
	}
	stdin, err := json.Marshal(conf)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(w.executable)
	cmd.Env = []string{
		"CNI_COMMAND=" + verb, "CNI_CONTAINERID=" + container, "CNI_IFNAME=svc0", "CNI_NETNS=/run/netns/" + container,
		"CNI_PATH=/usr/libexec/svc-supervisor", "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
	}
	cmd.Stdin = bytes.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s %s",
			verb, container, err, strings.TrimSpace(stdout.String()), strings.TrimSpace(stderr.String()))
	}
	return stdout.Bytes(), nil
}
