package conformance

import "testing"

// behaviours are the tests of every kind.
var behaviours = []struct {
	name string
	run  func(t *testing.T, k *Kind)
}{
	{"a change drives a container", containerChanges},
	{"an unreadable object affects only its own container", unreadableObjects},
	{"without the host's object the host is unread", hostObjects},
	{"changes of other hosts are not reported", otherHosts},
	{"a missing prefix makes the host unread", missingPrefix},
	{"changed settings are reported", settings},
	{"a burst of changes ends with the last one", burst},
	{"a status is written, kept, taken over and removed", statuses},
	{"changes by commands are reported", commands},
	{"no change and no status is lost in an outage", outages},
}

func TestEveryKind(t *testing.T) {
	for _, start := range kinds {
		kind := start
		t.Run(kind.name, func(t *testing.T) {
			k := kind.start(t)
			for _, b := range behaviours {
				t.Run(b.name, func(t *testing.T) {
					if k.Parallel {
						t.Parallel()
					}
					b.run(t, k)
				})
			}
		})
	}
}

// kinds are all kinds of NSDB. start starts the servers of a kind, which needs the programs.
var kinds = []struct {
	name     string
	programs []string
	start    func(t *testing.T) *Kind
}{
	{"file", nil, fileKind},
	{"etcd", []string{"/usr/bin/etcd"}, etcdKind},
	{"zk", []string{"/usr/bin/java", "/usr/share/java/zookeeper.jar"}, zkKind},
}
