// Package reconcile makes the containers of this host equal to the desired state in the NSDB (network state database).
// For each container it observes the state, decides on one step, takes it, and observes the state again.
//
// No decision depends on an event or on memory alone. An event marks a name, and a worker reads the record, systemd,
// the namespaces and the desired state before each step. Health that a daemon pushes is the exception: it is also
// published without an observation (see ApplyPushedHealth). A name is processed by at most one worker. A container
// whose verb is blocked does not count towards Settings.Parallel, so it delays no other container, unless overcommit
// times as many names are in progress. The package does not depend on a service type or on the kind of NSDB.
package reconcile
