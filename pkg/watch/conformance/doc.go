// Package conformance tests all kinds of NSDB: one set of behaviours is run against each kind with its real servers.
//
// docs/nsdb.md describes what each kind must do. Here each row of its tables is a change by another client, together
// with the set that the host must report. Each failure of servers is tried too, while another client continues to
// write. A kind implements a Backend, which writes objects in its format, and Faults, which cause failures of its
// servers. The package contains only tests.
//
// Kinds whose servers are not installed are skipped, unless SVC_TEST_NSDB=1 is set. SVC_TEST_LONG is the duration of
// each failure, by default 1s. SVC_TEST_LONG=60s is longer than every lease and session.
package conformance
