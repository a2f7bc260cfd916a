// Package conformance is the test of all kinds of NSDB: one set of behaviours, run against each kind with its real servers.
//
// What a kind promises stands in docs/nsdb.md; here each row of its tables is a change that somebody else makes and what
// the host hears of it, and each way to lose servers is tried while somebody else goes on writing. A kind brings a World: a
// writer that knows its format, and hands on its servers' switches. There is nothing here but tests.
//
// Kinds whose servers are not installed are skipped, unless SVC_TEST_NSDB=1 is set. SVC_TEST_LONG is how long a loss lasts,
// 1s without it: SVC_TEST_LONG=60s outlasts every lease and session.
package conformance
