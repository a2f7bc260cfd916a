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

// census is all objects of an NSDB directory, to be compared with each other.
type census struct {
	files    *nsdbDir
	findings []Finding
	good     map[native.Key]Object

	exists     map[native.Key]bool // an object with faults exists: what names it does not dangle
	bindings   []heldBinding
	containers map[spec.ContainerID]heldContainer
	groups     []heldGroup

	configurations map[spec.ConfigurationID]*native.Document
}

type heldBinding struct {
	file string
	host spec.HostID
	port spec.PortID
	native.Binding
}

type heldContainer struct {
	file string
	native.Container
}

type heldGroup struct {
	file string
	native.Group
}

func newCensus(files *nsdbDir) *census {
	return &census{
		files: files, good: map[native.Key]Object{}, exists: map[native.Key]bool{}, containers: map[spec.ContainerID]heldContainer{},
		configurations: map[spec.ConfigurationID]*native.Document{},
	}
}

func (c *census) find(f Finding) {
	f.File = printable(f.File)
	c.findings = append(c.findings, f)
}

// printable leaves a path as it is, unless it holds what cannot stand in one line.
func printable(path string) string {
	if strings.ContainsFunc(path, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.QuoteToASCII(path)
	}
	return path
}

// count reads every object.
func (c *census) count() {
	c.objects(native.Hosts, func(id, _ string, d *native.Document) native.Faults {
		_, faults := d.Host(spec.HostID(id))
		return faults
	})
	for _, host := range c.stems(native.Bindings, true) {
		host := spec.HostID(host)
		c.objects(native.BindingsKey(host), func(id, file string, d *native.Document) native.Faults {
			b, faults := d.Binding(host, spec.PortID(id))
			c.bindings = append(c.bindings, heldBinding{file, host, spec.PortID(id), b})
			return faults
		})
	}
	c.objects(native.Containers, func(id, file string, d *native.Document) native.Faults {
		container, faults := d.Container(spec.ContainerID(id))
		c.containers[spec.ContainerID(id)] = heldContainer{file, container}
		return faults
	})
	c.objects(native.Groups, func(id, file string, d *native.Document) native.Faults {
		group, faults := d.Group(spec.GroupID(id))
		c.groups = append(c.groups, heldGroup{file, group})
		return faults
	})
	c.objects(native.Configurations, func(id, _ string, d *native.Document) native.Faults {
		c.configurations[spec.ConfigurationID(id)] = d
		_, faults := d.Configuration(spec.ConfigurationID(id))
		return faults
	})
	c.countSettings()
}

// countSettings reads config/default and config/hosts/<hostId>.
func (c *census) countSettings() {
	c.objects(native.Config, func(id, file string, d *native.Document) native.Faults {
		if id != "default" {
			c.find(Finding{file, "", "is read by nobody", "config/default, config/hosts/<hostId>"})
		}
		_, faults := d.Settings()
		return faults
	})
	c.objects(native.Config+"/"+native.Hosts, func(id, file string, d *native.Document) native.Faults {
		c.needs(file, "", native.HostKey(spec.HostID(id)))
		_, faults := d.Settings()
		return faults
	})
}

// compare reports what objects say of each other and does not fit.
func (c *census) compare() {
	if !c.hasHost() {
		c.find(Finding{native.Hosts, "", "has no Host object", "one for each host"})
	}
	names := map[string][]string{}
	bound := map[spec.ContainerID][]string{}
	for _, b := range c.bindings {
		c.needs(b.file, "hostId", native.HostKey(b.host))
		if b.InterfaceName != "" {
			name := string(b.host) + "/" + string(b.InterfaceName)
			names[name] = append(names[name], b.file)
		}
		if b.ContainerID == "" {
			continue
		}
		bound[b.ContainerID] = append(bound[b.ContainerID], b.file)
		c.needs(b.file, "containerId", native.ContainerKey(b.ContainerID))
		c.compareBound(b)
	}
	for _, b := range c.bindings {
		c.shared(b.file, "interfaceName", string(b.InterfaceName), names[string(b.host)+"/"+string(b.InterfaceName)])
		c.shared(b.file, "containerId", string(b.ContainerID), bound[b.ContainerID])
	}
	c.compareEndpoints()
	for _, container := range c.containers {
		if container.GroupID != "" {
			c.needs(container.file, "groupId", native.GroupKey(container.GroupID))
		}
		if container.ConfigurationID != "" {
			c.needs(container.file, "configurationId", native.ConfigurationKey(container.ConfigurationID))
		}
	}
	for _, group := range c.groups {
		for _, host := range group.HostIDs {
			c.needs(group.file, "hostIds", native.HostKey(host))
		}
	}
}

// compareEndpoints reports containers that have the same external IP, MAC and port address, on whatever host.
func (c *census) compareEndpoints() {
	users := map[spec.Endpoint][]string{}
	endpoints := make([][]spec.Endpoint, len(c.bindings))
	for i, b := range c.bindings {
		if d := c.configurations[c.containers[b.ContainerID].ConfigurationID]; b.ContainerID != "" && d != nil {
			endpoints[i] = spec.Endpoints(b.Port, d.JSON)
		}
		for _, e := range endpoints[i] {
			users[e] = append(users[e], b.file)
		}
	}
	for i, b := range c.bindings {
		for _, e := range endpoints[i] {
			others := slices.DeleteFunc(slices.Clone(users[e]), func(f string) bool { return f == b.file })
			if len(others) > 0 {
				c.find(Finding{b.file, "addresses", e.String() + " are also those of " + strings.Join(others, ", "), "one container"})
			}
		}
	}
}

func (c *census) hasHost() bool {
	for key := range c.exists {
		if strings.HasPrefix(string(key), native.Hosts+"/") {
			return true
		}
	}
	return false
}

// compareBound compares a binding with its container; one that nobody binds may be incomplete.
func (c *census) compareBound(b heldBinding) {
	container, ok := c.containers[b.ContainerID]
	if !ok {
		return
	}
	for _, key := range container.Missing {
		c.find(Finding{container.file, key, "is not set, and " + b.file + " names the container", "a value"})
	}
	if container.PortID != "" && container.PortID != b.port {
		c.find(Finding{container.file, "portId", spec.Quote(string(container.PortID)),
			fmt.Sprintf("%s, the port of %s, or none", b.port, b.file)})
	}
}

// needs reports a reference to an object that is not there.
func (c *census) needs(file, key string, object native.Key) {
	if !c.exists[object] {
		c.find(Finding{file, key, "names " + string(object) + ", which is not there", "an object that exists"})
	}
}

// shared reports a value that several bindings claim, at each of them.
func (c *census) shared(file, key, value string, files []string) {
	if value == "" || len(files) < 2 {
		return
	}
	others := slices.DeleteFunc(slices.Clone(files), func(f string) bool { return f == file })
	c.find(Finding{file, key, spec.Quote(value) + " is also that of " + strings.Join(others, ", "), "one binding"})
}
