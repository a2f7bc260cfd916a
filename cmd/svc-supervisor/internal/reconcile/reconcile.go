// Package reconcile makes what runs on this host equal to what the NSDB binds to it: it looks at one container, decides
// on one step, takes it, and looks again.
//
// It promises that nothing is decided from an event or from memory alone: an event only marks a name, and a worker reads
// the record, systemd, the namespaces and the desired set before each step. It promises that no two workers have one name,
// and that one container's trouble delays another's only where nearly overcommit times Settings.Parallel have some. It knows no
// service type and no NSDB.
package reconcile
