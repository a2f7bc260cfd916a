package model

import (
	"regexp"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// UUID is an id of MidoNet in its canonical form: lower case, with hyphens. Only ParseUUID and the readers of object
// fields create one, so that a UUID is always safe as part of a path.
type UUID string

const uuidAllowed = "a UUID in lower case, like 2a6e9f0c-8d4b-4c11-9f3e-0123456789ab"

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// ParseUUID validates an id. The error is a *spec.Fault with this key.
func ParseUUID[ID ~string](key string, id ID) (UUID, error) {
	if !uuidForm.MatchString(string(id)) {
		return "", &spec.Fault{Key: key, Value: string(id), Allowed: uuidAllowed}
	}
	return UUID(id), nil
}

// Class is a class of objects. It is the name of the proto message and of the node that has the objects as children.
type Class string

// The classes that are read.
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

// Classes lists all classes. An export lists the objects of each of them.
var Classes = []Class{
	Host, Port, Router, ServiceContainer, ServiceContainerGroup, HostGroup, VpnService, IPSecSiteConnection,
}

// DefaultRoot is the default of MidoNet's option zookeeper.root_key.
const DefaultRoot = "/midonet"

// Tree computes the paths of the nodes of one MidoNet cluster, which are all below its root key.
type Tree struct{ root string }

var rootForm = regexp.MustCompile(`^(/[A-Za-z0-9_][A-Za-z0-9_.-]*)+$`)

// ParseRoot validates a root key. An empty key means DefaultRoot, and so does /midonet/v1, the root key of older
// releases: MidoNet also treats it as the default.
func ParseRoot(root string) (Tree, error) {
	root = strings.TrimRight(root, "/")
	switch {
	case root == "" || root == DefaultRoot+"/v1":
		root = DefaultRoot
	case !rootForm.MatchString(root):
		allowed := "a path of letters, digits, '_', '.' and '-', like " + DefaultRoot
		return Tree{}, &spec.Fault{Key: "root", Value: root, Allowed: allowed}
	}
	return Tree{root}, nil
}

// Root returns the root key.
func (t Tree) Root() string { return t.root }

// Zoom returns the path of the node above all objects and states. The 0 in it is MidoNet's in-memory version, which
// is always 0.
func (t Tree) Zoom() string { return t.root + "/zoom/0" }

// Objects returns the path of the node whose children are the ids of the objects of a class.
func (t Tree) Objects(class Class) string { return t.Zoom() + "/models/" + string(class) }

// Object returns the path of one object.
func (t Tree) Object(class Class, id UUID) string { return t.Objects(class) + "/" + string(id) }

func (t Tree) state(host UUID, class Class) string {
	return t.Zoom() + "/state/" + string(host) + "/" + string(class)
}

// HostState returns the path of the ephemeral node with the weight, quota and count of a host (PrintHostStatus). If
// the node does not exist, MidoNet's scheduler removes all containers from the host.
func (t Tree) HostState(host UUID) string {
	return t.state(host, Host) + "/" + string(host) + "/container"
}

// HostAlive returns the path of the ephemeral node that exists while the agent of the host runs. The supervisor reads
// it and never writes it.
func (t Tree) HostAlive(host UUID) string {
	return t.state(host, Host) + "/" + string(host) + "/alive"
}

// ContainerStates returns the path of the node whose children are the ids of the containers that have, or had, a
// state on the host. A child remains when its state is removed.
func (t Tree) ContainerStates(host UUID) string { return t.state(host, ServiceContainer) }

// ContainerState returns the path of the ephemeral node with the status of a container (PrintContainerStatus). It may
// be written only while the ServiceContainer object exists.
func (t Tree) ContainerState(host, container UUID) string {
	return t.ContainerStates(host) + "/" + string(container) + "/status"
}

// Mutex returns the path of the Curator mutex that a client must hold while it writes an object.
func (t Tree) Mutex() string { return t.Zoom() + "/locks/zoom-topology" }

// TemplateSettings returns the path of the settings of a template. The template "default" applies to every host.
func (t Tree) TemplateSettings(template string) string {
	return t.root + "/config/templates/" + template
}

// HostSettings returns the path of the settings of a host.
func (t Tree) HostSettings(host UUID) string { return t.root + "/config/nodes/" + string(host) }

// TemplateMappings returns the path of the node that assigns templates to hosts.
func (t Tree) TemplateMappings() string { return t.root + "/config/template-mappings" }

// Settings returns the path of the node with the settings of a scope: the default template, or a host.
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
