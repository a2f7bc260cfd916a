// Package native knows the native objects of an NSDB: their keys, how each is read from YAML or JSON, and how this host's
// desired set is put together from them. The file and etcd kinds share it; each brings a Reader.
//
// It promises that whatever a value holds ends in an object or in one line that names the key and what is allowed: a
// value is read in bounded memory and depth (1 MiB, 64 levels, aliases counted where they stand), duplicate and unknown
// keys are refused, numbers stay as written, and no id becomes a part of a key before it was checked. No text that it
// makes repeats what a configuration holds, since that may be a secret.
//
// It does no I/O of its own and takes no decision about containers.
package native

// Limits of one object. A configuration of 1,000 IPsec connections has about 0.5 MiB.
const (
	MaxSize  = 1 << 20 // bytes, as written and as JSON
	MaxDepth = 64      // nested mappings and lists
)
