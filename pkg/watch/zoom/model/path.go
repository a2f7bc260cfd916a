package model

import (
	"regexp"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// UUID is an id of MidoNet's in its canonical form, lower case with hyphens. Only ParseUUID and the fields of objects make
// one, so that one may become a part of a path.
type UUID string

const uuidAllowed = "a UUID in lower case, like 2a6e9f0c-8d4b-4c11-9f3e-0123456789ab"

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// ParseUUID checks an id.
func ParseUUID[ID ~string](key string, id ID) (UUID, error) {
	if !uuidForm.MatchString(string(id)) {
		return "", &spec.Fault{Key: key, Value: string(id), Allowed: uuidAllowed}
	}
	return UUID(id), nil
}

// Class is a kind of object: the name of its proto message and of its folder.
type Class string

// The classes that are read or written.
const (
	Host                  Class = "Host"
	Port                  Class = "Port"
	Router                Class = "Router"
	ServiceContainer      Class = "ServiceContainer"
	ServiceContainerGroup Class = "ServiceContainerGroup"
	HostGroup             Class = "HostGroup"
	VpnService            Class = "VpnService"
	IPSecSiteConnection   Class = "IPSecSiteConnection"
)

// Classes are all of them; an export lists the objects of each.
var Classes = []Class{Host, Port, Router, ServiceContainer, ServiceContainerGroup, HostGroup, VpnService, IPSecSiteConnection}

// DefaultRoot is MidoNet's default for zookeeper.root_key.
const DefaultRoot = "/midonet"

// Tree is the NSDB of one MidoNet cluster: all below its root key.
type Tree struct{ root string }

var rootForm = regexp.MustCompile(`^(/[A-Za-z0-9_][A-Za-z0-9_.-]*)+$`)

// ParseRoot checks a root key. An empty one is the default; MidoNet takes /midonet/v1, an older release's, for it too.
func ParseRoot(root string) (Tree, error) {
	root = strings.TrimRight(root, "/")
	switch {
	case root == "" || root == DefaultRoot+"/v1":
		root = DefaultRoot
	case !rootForm.MatchString(root):
		return Tree{}, &spec.Fault{Key: "root", Value: root, Allowed: "a path of letters, digits, '_', '.' and '-', like " + DefaultRoot}
	}
	return Tree{root}, nil
}

// Root is the root key itself.
func (t Tree) Root() string { return t.root }

// Zoom is the folder of all objects and states. Its 0 is MidoNet's in-memory version, which never is another one.
func (t Tree) Zoom() string { return t.root + "/zoom/0" }

// Objects is the folder of a class's objects: its children are their ids.
func (t Tree) Objects(class Class) string { return t.Zoom() + "/models/" + string(class) }

// Object is the node of one object.
func (t Tree) Object(class Class, id UUID) string { return t.Objects(class) + "/" + string(id) }

func (t Tree) state(host UUID, class Class) string {
	return t.Zoom() + "/state/" + string(host) + "/" + string(class)
}

// HostState is the ephemeral node with a host's weight, quota and count: PrintHostStatus. Without it the scheduler takes all
// containers from the host.
func (t Tree) HostState(host UUID) string {
	return t.state(host, Host) + "/" + string(host) + "/container"
}

// HostAlive is the ephemeral node that the agent holds while it runs. It is looked at and never written.
func (t Tree) HostAlive(host UUID) string {
	return t.state(host, Host) + "/" + string(host) + "/alive"
}

// ContainerStates is the folder of the containers that the host has, or had, a state of: its children are their ids. They
// stay when the state itself goes.
func (t Tree) ContainerStates(host UUID) string { return t.state(host, ServiceContainer) }

// ContainerState is the ephemeral node with a container's status: PrintContainerStatus. It may be written only while the
// container's object is there.
func (t Tree) ContainerState(host, container UUID) string {
	return t.ContainerStates(host) + "/" + string(container) + "/status"
}

// Mutex is the folder of the Curator mutex that whoever writes an object holds.
func (t Tree) Mutex() string { return t.Zoom() + "/locks/zoom-topology" }

// TemplateSettings is the node of a template's values; the template `default` is every host's.
func (t Tree) TemplateSettings(template string) string {
	return t.root + "/config/templates/" + template
}

// HostSettings is the node of a host's own values.
func (t Tree) HostSettings(host UUID) string { return t.root + "/config/nodes/" + string(host) }

// TemplateMappings is the node that assigns templates to hosts.
func (t Tree) TemplateMappings() string { return t.root + "/config/template-mappings" }

// Settings is the node that holds the settings of a scope.
func (t Tree) Settings(scope spec.SettingScope) (string, error) {
	if scope == spec.SettingDefault {
		return t.TemplateSettings(defaultTemplate), nil
	}
	host, err := ParseUUID("host", scope)
	if err != nil {
		return "", err
	}
	return t.HostSettings(host), nil
}
