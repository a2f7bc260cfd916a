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

// pipeline is how many reads are under way at once. They share one connection; the server answers them in turn.
const pipeline = 256

// cache is the nodes that Run looks at. Only Run's goroutine uses it.
type cache struct {
	nodes map[string]node
	stale map[string]bool // those to be read again: what is here is what stood there before

	// watched has the nodes on which a watch of this session stands, those no longer looked at too: the client cannot take a
	// watch back. An event for such a node is ignored, and the watch is then gone.
	watched map[string]bool
}

// node is what was read last of a node.
type node struct {
	data  []byte
	state model.State
}

// reading is one answer of the server.
type reading struct {
	path    string
	data    []byte
	state   model.State
	watched bool // it set a watch
	lost    bool // the connection went, or ctx ended: nothing was read
}

func newCache() *cache {
	return &cache{nodes: map[string]node{}, stale: map[string]bool{}, watched: map[string]bool{}}
}

// Get makes it a model.Snapshot.
func (c *cache) Get(path string) ([]byte, model.State) {
	n := c.nodes[path] // without one: NotFetched
	return n.data, n.state
}

// mark notes what events have told.
func (c *cache) mark(fired map[string]bool, back, fresh bool) {
	if fresh {
		clear(c.watched)
	}
	for path := range fired {
		delete(c.watched, path)
		if _, looked := c.nodes[path]; looked {
			c.stale[path] = true
		}
	}
	if back {
		for path := range c.nodes {
			c.stale[path] = true
		}
	}
}

// keep forgets every node but those.
func (c *cache) keep(paths []string) {
	if len(paths) == len(c.nodes) { // it holds each of them, since the look was final
		return
	}
	kept := make(map[string]node, len(paths))
	for _, path := range paths {
		kept[path] = c.nodes[path]
	}
	c.nodes = kept
}

// store takes an answer. fired says that an event came for the node since it was asked for: the answer may be older.
func (c *cache) store(r reading, fired bool) {
	if r.watched {
		c.watched[r.path] = true
	}
	if r.lost {
		return
	}
	before, looked := c.nodes[r.path]
	now := node{r.data, r.state}
	delete(c.stale, r.path)
	if looked && before.state == r.state && bytes.Equal(before.data, r.data) {
		now.data = before.data // the same slice says that nothing has changed
	} else if looked && !r.watched && c.watched[r.path] && !fired {
		// It has changed and no event told so: the watch does not stand. Read it once more, with a watch.
		delete(c.watched, r.path)
		c.stale[r.path] = true
	}
	c.nodes[r.path] = now
}

// fetch reads nodes, many at once, and puts the answers into the cache. It returns when all have been answered, or the
// connection is lost, or ctx ends; what has no answer then is stale or absent from the cache as before.
func (n *NSDB) fetch(ctx context.Context, c *cache, heard *events, paths []string) {
	client, err := n.session.await(ctx)
	if err != nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type order struct {
		path    string
		watched bool
	}
	orders := make(chan order, len(paths))
	answers := make(chan reading, len(paths)) // a reader never waits for its answer to be taken
	for _, path := range paths {
		orders <- order{path, c.watched[path]}
	}
	close(orders)
	for range min(pipeline, len(paths)) {
		n.running.Go(func() {
			for o := range orders {
				if ctx.Err() != nil {
					answers <- reading{path: o.path, lost: true}
					continue
				}
				answers <- n.read(client, o.path, o.watched)
			}
		})
	}
	for range paths {
		select {
		case <-ctx.Done():
			return
		case r := <-answers:
			if r.lost {
				cancel() // the others will not be answered either, or at the next try
			}
			c.store(r, heard.hasFired(r.path))
		}
	}
}

// read reads one node, and sets a watch unless one stands.
func (n *NSDB) read(client *client, path string, watched bool) reading {
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
			return reading{path: path, state: model.Unreadable, watched: !watched,
				data: fmt.Appendf(nil, "it has %d bytes: allowed: at most %d", len(data), native.MaxSize)}
		case err == nil:
			return reading{path: path, data: data, state: model.Present, watched: !watched}
		case lost(err) || errors.Is(err, zk.ErrClosing):
			return reading{path: path, lost: true}
		case !errors.Is(err, zk.ErrNoNode):
			return reading{path: path, state: model.Unreadable, data: []byte(plain(err).Error())}
		case watched:
			return reading{path: path, state: model.Absent}
		}
		exists, _, _, err := client.ExistsW(path)
		switch {
		case err == nil && !exists:
			return reading{path: path, state: model.Absent, watched: true}
		case err == nil: // made a moment ago, and the watch on it stands
			watched = true
			data, _, err = client.Get(path)
			if err == nil && len(data) <= native.MaxSize {
				return reading{path: path, data: data, state: model.Present, watched: true}
			}
			watched = false
		case lost(err) || errors.Is(err, zk.ErrClosing):
			return reading{path: path, lost: true}
		default:
			return reading{path: path, state: model.Unreadable, data: []byte(plain(err).Error())}
		}
	}
}

// gather runs an operation for every item, many at once, and stops at the first error.
func gather[T, R any](items []T, operation func(T) (R, error)) ([]R, error) {
	results := make([]R, len(items))
	indices := make(chan int, len(items))
	for i := range items {
		indices <- i
	}
	close(indices)
	var mu sync.Mutex
	var first error
	var readers sync.WaitGroup
	for range min(pipeline, len(items)) {
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
