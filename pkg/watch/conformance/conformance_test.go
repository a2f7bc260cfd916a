package conformance

import "testing"

// behaviours is what every kind does.
var behaviours = []struct {
	name string
	run  func(t *testing.T, k *Kind)
}{
	{"a change drives a container", drives},
	{"what cannot be read holds its own container alone", faulty},
	{"the host's own object", hostObjects},
	{"what others have is not heard", silent},
	{"a missing prefix is no empty one", missingPrefix},
	{"settings are followed", settings},
	{"a burst ends with the last word", burst},
	{"a status is written, kept, taken over and removed", statuses},
	{"a command writes what the host hears", commands},
	{"a loss costs nothing", losses},
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

// kinds are all of them; start starts the servers, which need the programs.
var kinds = []struct {
	name     string
	programs []string
	start    func(t *testing.T) *Kind
}{
	{"file", nil, fileKind},
	{"etcd", []string{"/usr/bin/etcd"}, etcdKind},
	{"zk", []string{"/usr/bin/java", "/usr/share/java/zookeeper.jar"}, zkKind},
}
