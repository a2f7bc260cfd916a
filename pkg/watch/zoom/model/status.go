package model

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/text"
)

// maxMessage limits the size of a status message in bytes. A node may have 1 MiB, and the text format needs up to
// four bytes for one byte of the message.
const maxMessage = 64 << 10

// PrintHostStatus returns the data of Tree.HostState, a ContainerServiceStatus. All three fields are always set.
func PrintHostStatus(status spec.HostStatus) []byte {
	m := new(text.Message)
	m.Add("weight", text.Int(status.Weight))
	m.Add("quota", text.Int(status.Quota))
	m.Add("count", text.Int(status.Count))
	return m.Print()
}

// PrintContainerStatus returns the data of Tree.ContainerState, a ContainerStatus. A RUNNING container, which reports
// its health, always has a namespace_name, possibly an empty one. A container that is starting, stopping or has
// failed has it only if status.NamespaceName is set. A host id that is no UUID, and a code that MidoNet does not
// have, is a *spec.Fault.
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

// uuidValue returns a UUID message, which has the two halves of the id as unsigned integers.
func uuidValue(id UUID) text.Value {
	hex := strings.ReplaceAll(string(id), "-", "")
	half := func(digits string) text.Value {
		n, err := strconv.ParseUint(digits, 16, 64)
		if err != nil {
			panic(err) // cannot happen: every UUID was validated
		}
		return text.Uint(n)
	}
	return text.Of(text.Field{Name: "msb", Value: half(hex[:16])}, text.Field{Name: "lsb", Value: half(hex[16:])})
}

func (e enum) has(name string) bool {
	for _, v := range e {
		if v.name == name {
			return true
		}
	}
	return false
}

// statusMessage returns the message of a status, followed by one line for each connection, because MidoNet has no
// other field for their state. The connections that are down come first. If lines do not fit, the last line has their
// number.
func statusMessage(status spec.ContainerStatus) string {
	var lines []string
	if status.Message != "" || len(status.Connections) == 0 {
		lines = append(lines, truncate(status.Message))
	}
	size := len(strings.Join(lines, ""))
	for written, c := range downFirst(status.Connections) {
		line := truncate(connectionLine(c))
		if size += len(line) + 1; size > maxMessage-maxCountLine {
			return strings.Join(append(lines, fmt.Sprintf("and %d more connections", len(status.Connections)-written)),
				"\n")
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// maxCountLine is an upper bound for the size of the line with the number of connections that do not fit.
const maxCountLine = 64

// downFirst returns the connections sorted so that those that are down come first. Otherwise it keeps their order.
func downFirst(connections []spec.Connection) []spec.Connection {
	down := func(c spec.Connection) bool { return c.Status == spec.Down }
	active := func(c spec.Connection) bool { return c.Status != spec.Down }
	return append(
		slices.DeleteFunc(slices.Clone(connections), active),
		slices.DeleteFunc(slices.Clone(connections), down)...,
	)
}

// connectionLine returns one line with the name or id, the peer, the state and the reason of a connection.
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

// truncate limits a message to maxMessage bytes without cutting a rune. It replaces bytes that are not UTF-8, because
// no reader accepts them.
func truncate(message string) string {
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

// readState parses a state. Unlike an object, a state has no id of its own.
func readState(data []byte) (fieldReader, error) {
	message, err := text.Parse(data)
	if err != nil {
		return fieldReader{}, err
	}
	return fieldReader{message: message, fault: new(*spec.Fault)}, nil
}

// ReadHostStatus reads the data of Tree.HostState, also if an agent wrote it. A field that is not set has the default
// value of the proto.
func ReadHostStatus(data []byte) (spec.HostStatus, error) {
	r, err := readState(data)
	if err != nil {
		return spec.HostStatus{}, fmt.Errorf("read host status: %w", err)
	}
	status := spec.HostStatus{Weight: r.signed("weight", 1), Quota: r.signed("quota", -1), Count: r.signed("count", 0)}
	return status, r.err()
}

// ReadContainerStatus reads the data of Tree.ContainerState, also if an agent wrote it.
func ReadContainerStatus(data []byte) (spec.ContainerStatus, error) {
	r, err := readState(data)
	if err != nil {
		return spec.ContainerStatus{}, fmt.Errorf("read container status: %w", err)
	}
	status := spec.ContainerStatus{
		Code: spec.StatusCode(r.enumName("status_code", codes)), Message: r.text("status_message"),
		HostID:        spec.HostID(r.id("host_id")),
		NamespaceName: r.text("namespace_name"), InterfaceName: spec.Name(r.text("interface_name")),
	}
	return status, r.err()
}
