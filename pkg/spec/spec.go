// Package spec holds what crosses a process or disk boundary: the names, the network configuration that an executable
// reads, the result it answers, its error codes, the status that is published, and the checks of them all.
//
// Every string of the NSDB, of a result or of a command line is hostile until a Parse or Check function of this package
// has passed it; the types that carry the checked ones (Name, ServiceType, ContainerID, …) make that visible. The package
// does no I/O and knows no room of the program.
package spec
