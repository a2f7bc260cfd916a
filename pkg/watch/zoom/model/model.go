// Package model says what the nodes of MidoNet's ZooKeeper mean: where they are, what they hold, and what they come to for
// one host. It is the meaning of the wire and none of the wire: it does no I/O, and whoever does hands it a Snapshot.
//
// Assemble is a pure function of the nodes that were read. It looks at the host's Host object, follows what that refers to,
// and tells every path that it looked at, so that its caller fetches and watches just those. What a value holds ends in an
// object or in one line that names the node and the field; no such line repeats a pre-shared key. An id is checked before
// it becomes a part of a path.
//
// It stands on MidoNet 5.x: objects as text protobuf (package text), protos of package org.midonet.cluster.models.
package model

import (
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// State is what a Snapshot knows of one node.
type State int

// The states of a node.
const (
	NotFetched State = iota // not read yet, or not again since it changed
	Present                 // Get returns its data
	Absent                  // certainly not there
	Unreadable              // Get returns why, in one line
)

// Snapshot is the nodes of one ZooKeeper tree as far as they were read. It must not change while Assemble runs. The data of
// a Present node must not be written to afterwards: a node that changed gets another slice.
type Snapshot interface {
	Get(path string) (data []byte, state State)
}

// Result is what a snapshot comes to.
type Result struct {
	// Desired is the complete set where Final; else it is worth nothing yet.
	Desired spec.Desired

	// Faults are what keeps nodes from their use; a fault's key is the node's path. A fault may stand beside a binding that is
	// whole: it then tells what was left out of it.
	Faults []native.Fault

	// Paths are all nodes that were looked at, each once, in the order in which they were first: those to be watched. A node
	// that is not among them is not needed any more.
	Paths []string

	// Missing are those of Paths that are NotFetched.
	Missing []string

	// Final says that nothing is Missing.
	Final bool
}

// Assemble puts together what the tree wants of a host, from the nodes of a snapshot.
//
// Since a transaction of MidoNet's is one change of ZooKeeper's, and a watch event comes before any newer data, a caller
// that turns each node with an event into NotFetched at once sees no reference to a node that is only just gone: an Absent
// node that is still referred to is a dangling reference, and makes its container unknown.
func Assemble(tree Tree, snapshot Snapshot, host UUID) Result {
	return NewAssembler(tree, host).Assemble(snapshot)
}
