// Package spec defines the data that crosses a process or disk boundary, and its checks: names, the network
// configuration that an executable reads, the result that it prints, its error codes, and the published status.
//
// Every string of the NSDB, of a result or of a command line is untrusted until a Parse or Check function of this
// package has accepted it. Checked strings have types of their own (Name, ServiceType, ContainerID, …). The package
// does no I/O. Of this module it imports only internal/lazyregexp and internal/jsonform.
package spec
