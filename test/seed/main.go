// Command seed writes the objects of a file of `svc-supervisor nsdb export` into a ZooKeeper, as MidoNet's own tools
// would write them. The demo uses it instead of a MidoNet cluster.
//
//	seed zk://127.0.0.1:2181/midonet FILE
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/zoomtest"
)

// timeout limits how long the servers may take to accept the client.
const timeout = 30 * time.Second

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "seed: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: seed URL FILE")
	}
	u, err := url.Parse(args[0])
	if err != nil || u.Scheme != "zk" {
		return fmt.Errorf("URL must be of the form %s", zoom.Form)
	}
	location, err := zoom.ParseURL(u)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	var exported struct{ Objects []spec.Object }
	if err := json.Unmarshal(content, &exported); err != nil {
		return fmt.Errorf("%s: %w", args[1], err)
	}
	conn, events, err := zk.Connect(location.Servers, timeout, zk.WithLogInfo(false))
	if err != nil {
		return err
	}
	defer conn.Close()
	for expired := time.After(timeout); conn.State() != zk.StateHasSession; {
		select {
		case <-events:
		case <-expired:
			return fmt.Errorf("no session with %s after %s", location.Endpoint(), timeout)
		}
	}
	return zoomtest.Seed(conn, location.Tree, exported.Objects)
}
