package zoom

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/go-zookeeper/zk"

	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/model"
)

// maxParallel limits the number of concurrent requests. They share one connection, and the server answers them in
// order.
const maxParallel = 256

// cache holds the nodes that Run uses. Only Run's goroutine may use it.
type cache struct {
	nodes map[string]node
	stale map[string]bool // nodes that must be read again; their entry in nodes is the previous state

	// watched are the nodes with a watch of this session, including nodes that are not used any more, because the
	// client cannot remove a watch. The event of an unused node only removes its entry here.
	watched map[string]bool
}

// node is the state of a node when it was read last.
type node struct {
	data  []byte
	state model.State
}

// readResult is the result of reading one node.
type readResult struct {
	path           string
	data           []byte
	state          model.State
	watched        bool // the request has set a watch
	connectionLost bool // the connection was lost or ctx ended, so nothing was read
}

func newCache() *cache {
	return &cache{nodes: map[string]node{}, stale: map[string]bool{}, watched: map[string]bool{}}
}

// Get implements model.Snapshot.
func (c *cache) Get(path string) ([]byte, model.State) {
	n := c.nodes[path] // the zero state is NotFetched
	return n.data, n.state
}

// mark marks nodes as stale: those whose watch has fired, and all nodes after a reconnect. A new session has no
// watches.
func (c *cache) mark(fired map[string]bool, reconnected, newSession bool) {
	if newSession {
		clear(c.watched)
	}
	for path := range fired {
		delete(c.watched, path)
		if _, known := c.nodes[path]; known {
			c.stale[path] = true
		}
	}
	if reconnected {
		for path := range c.nodes {
			c.stale[path] = true
		}
	}
}

// retain removes all nodes except the given ones.
func (c *cache) retain(paths []string) {
	if len(paths) == len(c.nodes) { // Assemble was final, so the cache contains all of these paths
		return
	}
	kept := make(map[string]node, len(paths))
	for _, path := range paths {
		kept[path] = c.nodes[path]
	}
	c.nodes = kept
}

// store stores the result of a read. fired reports whether a watch of the node has fired since the request, in which
// case the result may be outdated.
func (c *cache) store(r readResult, fired bool) {
	if r.watched {
		c.watched[r.path] = true
	}
	if r.connectionLost {
		return
	}
	before, known := c.nodes[r.path]
	now := node{r.data, r.state}
	delete(c.stale, r.path)
	if known && before.state == r.state && bytes.Equal(before.data, r.data) {
		now.data = before.data // the same slice means that nothing has changed
	} else if known && !r.watched && c.watched[r.path] && !fired {
		// The node has changed without an event, so the watch does not exist. Read the node again, with a watch.
		delete(c.watched, r.path)
		c.stale[r.path] = true
	}
	c.nodes[r.path] = now
}

// fetch reads nodes concurrently and stores the results. It returns when all are read, the connection is lost, or ctx
// ends. Nodes without a result then remain stale or absent from the cache.
func (r *reader) fetch(ctx context.Context, c *cache, pendingEvents *events, paths []string) {
	client, err := r.conn.session.await(ctx)
	if err != nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type request struct {
		path    string
		watched bool
	}
	requests := make(chan request, len(paths))
	results := make(chan readResult, len(paths)) // large enough that no reader blocks
	for _, path := range paths {
		requests <- request{path, c.watched[path]}
	}
	close(requests)
	for range min(maxParallel, len(paths)) {
		r.conn.goroutines.Go(func() {
			for req := range requests {
				if ctx.Err() != nil {
					results <- readResult{path: req.path, connectionLost: true}
					continue
				}
				results <- r.read(client, req.path, req.watched)
			}
		})
	}
	for range paths {
		select {
		case <-ctx.Done():
			return
		case r := <-results:
			if r.connectionLost {
				cancel() // the remaining requests would fail too; they are repeated at the next fetch
			}
			c.store(r, pendingEvents.hasFired(r.path))
		}
	}
}

// read reads one node, and sets a watch if the node has none.
func (r *reader) read(client *client, path string, watched bool) readResult {
	for {
		var data []byte
		var err error
		if watched {
			data, _, err = client.Get(path)
		} else {
			data, _, _, err = client.GetW(path)
		}
		switch {
		case err == nil && len(data) > native.MaxSize:
			return readResult{path: path, state: model.Unreadable, watched: !watched,
				data: fmt.Appendf(nil, "it has %d bytes: allowed: at most %d", len(data), native.MaxSize)}
		case err == nil:
			return readResult{path: path, data: data, state: model.Present, watched: !watched}
		case connectionLost(err) || errors.Is(err, zk.ErrClosing):
			return readResult{path: path, connectionLost: true}
		case !errors.Is(err, zk.ErrNoNode):
			return readResult{path: path, state: model.Unreadable, data: []byte(describe(err).Error())}
		case watched:
			return readResult{path: path, state: model.Absent}
		}
		exists, _, _, err := client.ExistsW(path)
		switch {
		case err == nil && !exists:
			return readResult{path: path, state: model.Absent, watched: true}
		case err == nil: // the node was created meanwhile, and ExistsW has set a watch
			watched = true
			data, _, err = client.Get(path)
			if err == nil && len(data) <= native.MaxSize {
				return readResult{path: path, data: data, state: model.Present, watched: true}
			}
			watched = false
		case connectionLost(err) || errors.Is(err, zk.ErrClosing):
			return readResult{path: path, connectionLost: true}
		default:
			return readResult{path: path, state: model.Unreadable, data: []byte(describe(err).Error())}
		}
	}
}

// parallel runs an operation for every item concurrently and stops at the first error.
func parallel[T, R any](items []T, operation func(T) (R, error)) ([]R, error) {
	results := make([]R, len(items))
	indices := make(chan int, len(items))
	for i := range items {
		indices <- i
	}
	close(indices)
	var mu sync.Mutex
	var first error
	var readers sync.WaitGroup
	for range min(maxParallel, len(items)) {
		readers.Go(func() {
			for i := range indices {
				mu.Lock()
				failed := first != nil
				mu.Unlock()
				if failed {
					return
				}
				result, err := operation(items[i])
				mu.Lock()
				results[i] = result
				if err != nil && first == nil {
					first = err
				}
				mu.Unlock()
			}
		})
	}
	readers.Wait()
	return results, first
}
