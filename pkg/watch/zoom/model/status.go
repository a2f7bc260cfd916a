package model

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/text"
)

// maxMessage is the most of a status message that is written: a node has 1 MiB, in which a byte can take four.
const maxMessage = 64 << 10

// PrintHostStatus makes the data of Tree.HostState, a ContainerServiceStatus: all three fields are always set.
func PrintHostStatus(status spec.HostStatus) []byte {
	m := new(text.Message)
	m.Add("weight", text.Int(status.Weight))
	m.Add("quota", text.Int(status.Quota))
	m.Add("count", text.Int(status.Count))
	return m.Print()
}

// PrintContainerStatus makes the data of Tree.ContainerState, a ContainerStatus. Only a container that reports its health
// has a namespace_name, be it empty; one that starts, stops or failed has none. It fails for a host id that is no UUID and
// for a code that MidoNet does not have.
func PrintContainerStatus(status spec.ContainerStatus) ([]byte, error) {
	host, err := ParseUUID("hostId", status.HostID)
	if err != nil {
		return nil, err
	}
	if !codes.has(string(status.Code)) {
		return nil, &spec.Fault{Key: "code", Value: string(status.Code), Allowed: codes.allowed()}
	}
	m := new(text.Message)
	m.Add("status_code", text.Name(string(status.Code)))
	m.Add("status_message", text.Quoted(statusMessage(status)))
	m.Add("host_id", uuidValue(host))
	if status.Code == spec.Running || status.NamespaceName != "" {
		m.Add("namespace_name", text.Quoted(strings.ToValidUTF8(status.NamespaceName, "?")))
	}
	m.Add("interface_name", text.Quoted(string(status.InterfaceName)))
	return m.Print(), nil
}

func (e enum) has(name string) bool {
	for _, v := range e {
		if v.name == name {
			return true
		}
	}
	return false
}

// statusMessage returns the message of a status, followed by one line for each connection, because MidoNet has no other place
// for their state. The connections that are down come first. Lines that do not fit are counted in the last one.
func statusMessage(status spec.ContainerStatus) string {
	var lines []string
	if status.Message != "" || len(status.Connections) == 0 {
		lines = append(lines, bounded(status.Message))
	}
	size := len(strings.Join(lines, ""))
	for written, c := range downFirst(status.Connections) {
		line := bounded(connectionLine(c))
		if size += len(line) + 1; size > maxMessage-maxRest {
			return strings.Join(append(lines, fmt.Sprintf("and %d more connections", len(status.Connections)-written)), "\n")
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// maxRest is more than the line has that counts the connections without a line.
const maxRest = 64

// downFirst returns the connections with those first that are down, and otherwise in their order.
func downFirst(connections []spec.Connection) []spec.Connection {
	down := func(c spec.Connection) bool { return c.Status == spec.Down }
	active := func(c spec.Connection) bool { return c.Status != spec.Down }
	return append(slices.DeleteFunc(slices.Clone(connections), active), slices.DeleteFunc(slices.Clone(connections), down)...)
}

// connectionLine is one line: name or id, peer, state and reason of a connection.
func connectionLine(c spec.Connection) string {
	line := "connection " + cmp.Or(c.Name, c.ID)
	if c.Peer != "" {
		line += " (" + c.Peer + ")"
	}
	line += ": " + string(c.Status)
	if c.Reason != "" {
		line += ": " + c.Reason
	}
	return strings.ReplaceAll(line, "\n", " ")
}

// bounded cuts a message at a whole rune; what is not UTF-8 no reader could take.
func bounded(message string) string {
	message = strings.ToValidUTF8(message, "?")
	if len(message) <= maxMessage {
		return message
	}
	cut := maxMessage
	for !utf8.RuneStart(message[cut]) {
		cut--
	}
	return message[:cut]
}

// readState parses a state, which has no id of its own.
func readState(data []byte) (reading, error) {
	message, err := text.Parse(data)
	if err != nil {
		return reading{}, err
	}
	return reading{message: message, fault: new(*spec.Fault)}, nil
}

// ReadHostStatus reads the data of Tree.HostState, an agent's too. What is not set is the proto's default.
func ReadHostStatus(data []byte) (spec.HostStatus, error) {
	r, err := readState(data)
	if err != nil {
		return spec.HostStatus{}, fmt.Errorf("read host status: %w", err)
	}
	status := spec.HostStatus{Weight: r.signed("weight", 1), Quota: r.signed("quota", -1), Count: r.signed("count", 0)}
	return status, r.err()
}

// ReadContainerStatus reads the data of Tree.ContainerState, an agent's too.
func ReadContainerStatus(data []byte) (spec.ContainerStatus, error) {
	r, err := readState(data)
	if err != nil {
		return spec.ContainerStatus{}, fmt.Errorf("read container status: %w", err)
	}
	status := spec.ContainerStatus{
		Code: spec.StatusCode(r.name("status_code", codes)), Message: r.text("status_message"), HostID: spec.HostID(r.id("host_id")),
		NamespaceName: r.text("namespace_name"), InterfaceName: spec.Name(r.text("interface_name")),
	}
	return status, r.err()
}
