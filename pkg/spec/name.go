package spec

import "strings"

// Name is a container's name: the interface name of its binding, its namespace, its host-side veth, a part of its units.
type Name string

// ServiceType is what a container runs (IPSEC): it selects the executable and the slice.
type ServiceType string

// The ids of the NSDB's objects. CNI allows the same bytes in a container id; MidoNet's are UUIDs.
type (
	HostID          string
	PortID          string
	ContainerID     string
	GroupID         string
	ConfigurationID string
)

const (
	nameAllowed = "a letter or digit, then up to 14 letters, digits, '_', '.' or '-'; not 'supervisor', 'all' or 'default'"
	typeAllowed = "a capital letter, then up to 30 capital letters, digits or '_'; not 'SUPERVISOR'"
	idAllowed   = "1 to 64 bytes: a letter or digit, then letters, digits, '_', '.' or '-'"
	linkAllowed = "1 to 15 bytes without '/', ':' and white space; not '.' or '..'"
)

const (
	capitals = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits   = "0123456789"
	alphanum = capitals + "abcdefghijklmnopqrstuvwxyz" + digits
)

// hasForm reports whether s has 1 to limit bytes, of which the first is one of first and the others are of rest. Names are
// checked in every process many times: a regular expression costs more to compile than all of them to check.
func hasForm(s, first, rest string, limit int) bool {
	return s != "" && len(s) <= limit && strings.IndexByte(first, s[0]) >= 0 && strings.Trim(s[1:], rest) == ""
}

// IsCNIName reports whether s is of the form that CNI prescribes for container ids and network names, with at most limit
// bytes.
func IsCNIName(s string, limit int) bool { return hasForm(s, alphanum, alphanum+"_.-", limit) }

// ParseName checks a container's name: an interface name (15 bytes at most) that is also safe in paths and unit names.
// `supervisor` is refused, since its unit would be the supervisor's own; `all` and `default`, since they are no interfaces below
// /proc/sys/net.
func ParseName(key, s string) (Name, error) {
	if !IsCNIName(s, 15) || s == "supervisor" || s == "all" || s == "default" {
		return "", &Fault{key, s, nameAllowed}
	}
	return Name(s), nil
}

// ParseServiceType checks a service type. `SUPERVISOR` is refused, its slice would be the supervisor's own name.
func ParseServiceType(key, s string) (ServiceType, error) {
	if !hasForm(s, capitals, capitals+digits+"_", 31) || s == "SUPERVISOR" {
		return "", &Fault{key, s, typeAllowed}
	}
	return ServiceType(s), nil
}

// ParseID checks an id of any kind: what CNI allows as a container id, 64 bytes at most.
func ParseID[ID ~string](key, s string) (ID, error) {
	if !IsCNIName(s, 64) {
		return "", &Fault{key, s, idAllowed}
	}
	return ID(s), nil
}

// CheckLinkName checks the name of an interface that is not ours, a bridge say.
func CheckLinkName(key, s string) error {
	// The kernel's rule for an interface name (dev_valid_name), printable ASCII only.
	printable := strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
	if s == "" || len(s) > 15 || !printable || strings.ContainsAny(s, "/:") || s == "." || s == ".." {
		return &Fault{key, s, linkAllowed}
	}
	return nil
}

// Slice is the type's slice: svc-ipsec.slice, which systemd nests below svc.slice. '_' stays, since '-' would nest further.
func (t ServiceType) Slice() string {
	return "svc-" + strings.ToLower(string(t)) + ".slice"
}

// Unit is the name of the container's main unit.
func (n Name) Unit() string {
	return "svc-" + string(n) + ".service"
}

// OwnsUnit says whether a unit name is the container's: svc-<name>.service or svc-<name>:<role>.service.
func (n Name) OwnsUnit(unit string) bool {
	name, ok := UnitOwner(unit)
	return ok && name == n
}

// UnitOwner returns the container that a unit name stands for, and whether it stands for one.
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
