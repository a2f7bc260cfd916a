// Package native defines the native objects of an NSDB: their keys, how they are parsed from YAML or JSON, and how the
// desired state of a host is assembled from them. The file and etcd kinds of NSDB use it; each of them implements
// Reader.
//
// For any value, parsing returns either an object or an error of one line, with the key and what is allowed. Size and
// depth are limited to 1 MiB and 64 levels; an alias counts as much as the value to which it refers. Duplicate and
// unknown keys are refused. Numbers keep the form in which they were written. An id is checked before it becomes part
// of a key. Errors never contain values of a configuration, because these may be secrets.
//
// The package does no I/O itself and makes no decisions about containers.
package native

// Limits of one object. A configuration with 1,000 IPsec connections has about 0.5 MiB.
const (
	MaxSize  = 1 << 20 // bytes, both as written and as JSON
	MaxDepth = 64      // nested mappings and lists
)
