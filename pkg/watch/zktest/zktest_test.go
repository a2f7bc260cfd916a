package zktest

import (
	"testing"
	"time"
)

func TestAClusterSurvivesAKilledLeader(t *testing.T) {
	c := Start(t, 3)
	conn := c.Dial()
	c.Put(conn, "/a/b", "1")
	leader := c.Leader()
	c.Kill(leader)
	deadline := time.Now().Add(20 * time.Second)
	for {
		data, _, err := conn.Get("/a/b")
		if err == nil {
			if string(data) != "1" {
				t.Fatalf("%q", data)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	c.Restart(leader)
	c.Await(leader)
	c.Freeze(leader)
	c.Thaw(leader)
}
