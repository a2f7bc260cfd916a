// Package model defines the paths and the contents of MidoNet's ZooKeeper nodes, and derives the desired state of one
// host from them. It does no I/O. The caller reads the nodes and passes them as a Snapshot.
//
// Assemble is a pure function of the nodes that were read. It starts at the Host object of the host and follows its
// references. It returns every path that it looked up, so that the caller fetches and watches only these nodes. Data
// that cannot be used causes a fault: one line that names the node and the field and never contains a pre-shared key.
// An id is validated before it becomes part of a path.
//
// The package supports MidoNet 5.x, whose objects are text protobuf (package text) with the message types of package
// org.midonet.cluster.models.
package model

import (
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// State is the state of one node in a Snapshot.
type State int

// The states of a node.
const (
	NotFetched State = iota // not read yet, or changed since it was read
	Present                 // Get returns the data of the node
	Absent                  // the server answered that the node does not exist
	Unreadable              // Get returns the reason, in one line
)

// Snapshot holds the nodes of one ZooKeeper tree that were read so far. It must not change while Assemble runs. The
// data of a Present node must never be modified: if the node changes, Get must return a different slice.
type Snapshot interface {
	Get(path string) (data []byte, state State)
}

// Result is the result of assembling a snapshot.
type Result struct {
	// Desired is the complete desired state if Final is true. Otherwise it must not be used.
	Desired spec.Desired

	// Faults lists the faults of nodes whose data cannot be used. The key of a fault is the path of the node. A binding
	// can be whole although one of its nodes has a fault: the fault then describes a part that was left out.
	Faults []native.Fault

	// Paths lists every node that was looked up, once, in the order of the first lookup. The caller watches these nodes
	// and no longer needs any other node.
	Paths []string

	// Missing lists those of Paths that are NotFetched.
	Missing []string

	// Final is true if Missing is empty.
	Final bool
}

// Assemble derives the desired state of a host from the nodes of a snapshot.
//
// The caller must turn a node into NotFetched as soon as a watch event for it arrives. MidoNet writes each change as
// one ZooKeeper transaction, and ZooKeeper delivers the watch event before any newer data. Such a caller never passes
// a snapshot in which a reference names a node that the same transaction removed. Therefore a reference to an Absent
// node is a dangling reference, and makes its container unknown.
func Assemble(tree Tree, snapshot Snapshot, host UUID) Result {
	return NewAssembler(tree, host).Assemble(snapshot)
}
