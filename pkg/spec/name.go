package spec

import "strings"

// Name is the name of a container. It is the interface name of the binding, the name of the network namespace and of
// the veth on the host, and a part of the unit names.
type Name string

// ServiceType is the kind of service that a container runs, such as IPSEC. It selects the executable and the slice.
type ServiceType string

// The ids of NSDB objects. They have the form that CNI defines for container ids. MidoNet uses UUIDs.
type (
	HostID          string
	PortID          string
	ContainerID     string
	GroupID         string
	ConfigurationID string
)

const (
	nameAllowed = "a letter or digit, then up to 14 letters, digits, '_', '.' or '-'; not 'supervisor', 'all' or " +
		"'default'"
	typeAllowed = "a capital letter, then up to 30 capital letters, digits or '_'; not 'SUPERVISOR'"
	idAllowed   = "1 to 64 bytes: a letter or digit, then letters, digits, '_', '.' or '-'"
	linkAllowed = "1 to 15 bytes without '/', ':' and white space; not '.' or '..'"
)

const (
	capitals = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits   = "0123456789"
	alphanum = capitals + "abcdefghijklmnopqrstuvwxyz" + digits
)

// hasForm reports whether s has 1 to limit bytes, where the first byte is in first and all others are in rest. It does
// not use a regular expression, because compiling one takes longer than all the checks of names that a process makes.
func hasForm(s, first, rest string, limit int) bool {
	return s != "" && len(s) <= limit && strings.IndexByte(first, s[0]) >= 0 && strings.Trim(s[1:], rest) == ""
}

// IsCNIName reports whether s has the form that CNI prescribes for container ids and network names, and at most limit
// bytes.
func IsCNIName(s string, limit int) bool { return hasForm(s, alphanum, alphanum+"_.-", limit) }

// IsSysctlDirectory reports whether the directory of this name below /proc/sys/net/ipv4/conf does not belong to an
// interface of this name.
func IsSysctlDirectory(s string) bool { return s == "all" || s == "default" }

// ParseName checks the name of a container: an interface name (at most 15 bytes) that is also safe in paths and unit
// names. It refuses `supervisor`, because the unit of that container would be svc-supervisor.service, and `all` and
// `default`, because these directories below /proc/sys/net do not belong to an interface of that name.
func ParseName(key, s string) (Name, error) {
	if !IsCNIName(s, 15) || s == "supervisor" || IsSysctlDirectory(s) {
		return "", &Fault{key, s, nameAllowed}
	}
	return Name(s), nil
}

// ParseServiceType checks a service type. It refuses `SUPERVISOR`, because the slice of that type would have the name
// of the supervisor.
func ParseServiceType(key, s string) (ServiceType, error) {
	if !hasForm(s, capitals, capitals+digits+"_", 31) || s == "SUPERVISOR" {
		return "", &Fault{key, s, typeAllowed}
	}
	return ServiceType(s), nil
}

// ParseID checks an id of an NSDB object: the form that CNI defines for container ids, at most 64 bytes.
func ParseID[ID ~string](key, s string) (ID, error) {
	if !IsCNIName(s, 64) {
		return "", &Fault{key, s, idAllowed}
	}
	return ID(s), nil
}

// CheckLinkName checks the name of an interface that this project did not create, such as a bridge.
func CheckLinkName(key, s string) error {
	// The kernel's rules for interface names (dev_valid_name), restricted to printable ASCII.
	printable := strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
	if s == "" || len(s) > 15 || !printable || strings.ContainsAny(s, "/:") || s == "." || s == ".." {
		return &Fault{key, s, linkAllowed}
	}
	return nil
}

// Slice returns the slice of the units of this type, such as svc-ipsec.slice, which systemd nests below svc.slice. A
// '_' in the type is not replaced by '-', because systemd would nest the slice one level deeper.
func (t ServiceType) Slice() string {
	return "svc-" + strings.ToLower(string(t)) + ".slice"
}

// Unit returns the name of the container's main unit.
func (n Name) Unit() string {
	return "svc-" + string(n) + ".service"
}

// OwnsUnit reports whether a unit name belongs to the container: svc-<name>.service or svc-<name>:<role>.service.
func (n Name) OwnsUnit(unit string) bool {
	name, ok := UnitOwner(unit)
	return ok && name == n
}

// UnitOwner returns the name of the container to which a unit name belongs, and false if the unit name belongs to no
// container.
func UnitOwner(unit string) (Name, bool) {
	stem, ok := strings.CutPrefix(unit, "svc-")
	if !ok {
		return "", false
	}
	stem, ok = strings.CutSuffix(stem, ".service")
	if !ok {
		return "", false
	}
	stem, role, hasRole := strings.Cut(stem, ":")
	if hasRole && !hasForm(role, alphanum+"_.-", alphanum+"_.-", 64) {
		return "", false
	}
	name, err := ParseName("name", stem)
	return name, err == nil
}
