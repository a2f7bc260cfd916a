// Package reconcile makes the containers of this host equal to the desired state in the NSDB. For each container it
// observes the state, decides on one step, takes it, and observes the state again.
//
// No decision depends on an event or on memory alone. An event marks a name, and a worker reads the record, systemd,
// the namespaces and the desired state before each step. Only pushed health is also published at once. A name is
// processed by at most one worker. A container that is blocked does not delay others, unless about overcommit times
// Settings.Parallel containers are blocked. The package does not depend on a service type or on the kind of NSDB.
package reconcile
