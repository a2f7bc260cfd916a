// Package reconcile makes the containers of this host equal to the desired state in the NSDB. For each container it
// observes the state, decides on one step, takes it, and observes the state again.
//
// No decision depends on an event or on memory alone. An event only marks a name, and a worker reads the record,
// systemd, the namespaces and the desired state before each step. No two workers have the same name. A container that
// is blocked does not delay others, unless about overcommit times Settings.Parallel containers are blocked. The package
// contains nothing specific to a service type or an NSDB.
package reconcile
