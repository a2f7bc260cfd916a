package file

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// validator reads all objects of an NSDB directory and checks each object and the references between them.
type validator struct {
	files    *nsdbDir
	findings []Finding
	valid    map[native.Key]Object

	exists     map[native.Key]bool // includes objects with faults, so that references to them are not reported
	bindings   []fileBinding
	containers map[spec.ContainerID]fileContainer
	groups     []fileGroup

	configurations map[spec.ConfigurationID]*native.Document
}

type fileBinding struct {
	file string
	host spec.HostID
	port spec.PortID
	native.Binding
}

type fileContainer struct {
	file string
	native.Container
}

type fileGroup struct {
	file string
	native.Group
}

func newValidator(files *nsdbDir) *validator {
	return &validator{
		files:          files,
		valid:          map[native.Key]Object{},
		exists:         map[native.Key]bool{},
		containers:     map[spec.ContainerID]fileContainer{},
		configurations: map[spec.ConfigurationID]*native.Document{},
	}
}

func (v *validator) report(finding Finding) {
	finding.File = printable(finding.File)
	v.findings = append(v.findings, finding)
}

// printable returns a path unchanged, or quoted if it contains line breaks or other characters that are not printable.
// Unlike spec.Quote it does not cut the path, which the user needs to find the file.
func printable(path string) string {
	if strings.ContainsFunc(path, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.QuoteToASCII(path)
	}
	return path
}

// readAll reads all objects and checks each of them.
func (v *validator) readAll() {
	v.objects(native.Hosts, func(id, _ string, d *native.Document) native.Faults {
		_, faults := d.Host(spec.HostID(id))
		return faults
	})
	for _, host := range v.stems(native.Bindings, true) {
		host := spec.HostID(host)
		v.objects(native.BindingsKey(host), func(id, file string, d *native.Document) native.Faults {
			b, faults := d.Binding(host, spec.PortID(id))
			v.bindings = append(v.bindings, fileBinding{file, host, spec.PortID(id), b})
			return faults
		})
	}
	v.objects(native.Containers, func(id, file string, d *native.Document) native.Faults {
		container, faults := d.Container(spec.ContainerID(id))
		v.containers[spec.ContainerID(id)] = fileContainer{file, container}
		return faults
	})
	v.objects(native.Groups, func(id, file string, d *native.Document) native.Faults {
		group, faults := d.Group(spec.GroupID(id))
		v.groups = append(v.groups, fileGroup{file, group})
		return faults
	})
	v.objects(native.Configurations, func(id, _ string, d *native.Document) native.Faults {
		v.configurations[spec.ConfigurationID(id)] = d
		_, faults := d.Configuration(spec.ConfigurationID(id))
		return faults
	})
	v.readSettings()
}

// readSettings reads config/default and config/hosts/<hostId>.
func (v *validator) readSettings() {
	v.objects(native.Config, func(id, file string, d *native.Document) native.Faults {
		if id != "default" {
			v.report(Finding{file, "", "is an unknown settings object", "config/default, config/hosts/<hostId>"})
		}
		_, faults := d.Settings()
		return faults
	})
	v.objects(native.Config+"/"+native.Hosts, func(id, file string, d *native.Document) native.Faults {
		v.checkReference(file, "", native.HostKey(spec.HostID(id)))
		_, faults := d.Settings()
		return faults
	})
}

// checkReferences reports references to objects that do not exist and objects that contradict each other.
func (v *validator) checkReferences() {
	if !v.hasHost() {
		v.report(Finding{native.Hosts, "", "has no Host object", "one for each host"})
	}
	names := map[string][]string{}
	bound := map[spec.ContainerID][]string{}
	for _, b := range v.bindings {
		v.checkReference(b.file, "hostId", native.HostKey(b.host))
		if b.InterfaceName != "" {
			name := string(b.host) + "/" + string(b.InterfaceName)
			names[name] = append(names[name], b.file)
		}
		if b.ContainerID == "" {
			continue
		}
		bound[b.ContainerID] = append(bound[b.ContainerID], b.file)
		v.checkReference(b.file, "containerId", native.ContainerKey(b.ContainerID))
		v.checkBound(b)
	}
	for _, b := range v.bindings {
		v.checkUnique(b.file, "interfaceName", string(b.InterfaceName),
			names[string(b.host)+"/"+string(b.InterfaceName)])
		v.checkUnique(b.file, "containerId", string(b.ContainerID), bound[b.ContainerID])
	}
	v.checkEndpoints()
	for _, container := range v.containers {
		if container.GroupID != "" {
			v.checkReference(container.file, "groupId", native.GroupKey(container.GroupID))
		}
		if container.ConfigurationID != "" {
			v.checkReference(container.file, "configurationId", native.ConfigurationKey(container.ConfigurationID))
		}
	}
	for _, group := range v.groups {
		for _, host := range group.HostIDs {
			v.checkReference(group.file, "hostIds", native.HostKey(host))
		}
	}
}

// checkEndpoints reports containers that have the same external IP, MAC and port address, on the same or on different
// hosts.
func (v *validator) checkEndpoints() {
	users := map[spec.Endpoint][]string{}
	endpoints := make([][]spec.Endpoint, len(v.bindings))
	for i, b := range v.bindings {
		if d := v.configurations[v.containers[b.ContainerID].ConfigurationID]; b.ContainerID != "" && d != nil {
			endpoints[i] = spec.Endpoints(b.Port, d.JSON)
		}
		for _, e := range endpoints[i] {
			users[e] = append(users[e], b.file)
		}
	}
	for i, b := range v.bindings {
		for _, e := range endpoints[i] {
			others := slices.DeleteFunc(slices.Clone(users[e]), func(f string) bool { return f == b.file })
			if len(others) > 0 {
				wrong := e.String() + " are also those of " + strings.Join(others, ", ")
				v.report(Finding{b.file, "addresses", wrong, "one container"})
			}
		}
	}
}

func (v *validator) hasHost() bool {
	for key := range v.exists {
		if strings.HasPrefix(string(key), native.Hosts+"/") {
			return true
		}
	}
	return false
}

// checkBound compares a binding with its container. Only a container with a binding has to be complete.
func (v *validator) checkBound(b fileBinding) {
	container, ok := v.containers[b.ContainerID]
	if !ok {
		return
	}
	for _, key := range container.Missing {
		v.report(Finding{container.file, key, "is not set, and " + b.file + " names the container", "a value"})
	}
	if container.PortID != "" && container.PortID != b.port {
		v.report(Finding{container.file, "portId", spec.Quote(string(container.PortID)),
			fmt.Sprintf("%s, the port of %s, or none", b.port, b.file)})
	}
}

// checkReference reports a reference to an object that does not exist.
func (v *validator) checkReference(file, key string, object native.Key) {
	if !v.exists[object] {
		v.report(Finding{file, key, "names " + string(object) + ", which is not there", "an object that exists"})
	}
}

// checkUnique reports a value of the binding in file that other bindings have, too. files are all bindings that have
// it.
func (v *validator) checkUnique(file, key, value string, files []string) {
	if value == "" || len(files) < 2 {
		return
	}
	others := slices.DeleteFunc(slices.Clone(files), func(f string) bool { return f == file })
	v.report(Finding{file, key, spec.Quote(value) + " is also that of " + strings.Join(others, ", "), "one binding"})
}
